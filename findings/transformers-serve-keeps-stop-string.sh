#!/usr/bin/env bash
# `transformers serve` 5.23.0 (pip: transformers[serving], with torch 2.13.0) leaves the stop string in the text.
#
# Set-up    A random Llama of one layer, made on the spot, whose tokens are letters and pairs of them; greedy, so that
#           the same prompt gives the same text. One chat request without `stop`; then the same with `stop` set to two
#           letters from the middle of that text.
# Expected  As in OpenAI's API, whose shape this is: the text up to the stop string, without it.
# Seen      Generation does end there (finish_reason "stop"), but the text holds the stop string, and behind it what
#           was left of the token in which it ended. A streamed answer holds the same.
# Output    reproduced: stop 'fv' in 'eucgrfvenvmgrtrthxx': expected 'eucgr', got 'eucgrfve' (streamed the same),
#           finish_reason 'stop' (on one line)
# Seen on   2026-11-28, Python 3.11, Linux x86-64, CPU. Without a CPU build of torch at hand the download is large.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 1500 venv/bin/python -m pip install -qq torch==2.13.0 'transformers[serving]==5.23.0' >&2
export HF_HUB_OFFLINE=1 HF_HOME="$work/cache"
cat >make_model.py <<'PYTHON'
import itertools
import string

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

pairs = list(itertools.product(string.ascii_lowercase, repeat=2))
tokens = ["<s>", "</s>", *string.ascii_lowercase, *map("".join, pairs)]
vocabulary = {token: place for place, token in enumerate(tokens)}
tokenizer = Tokenizer(models.BPE(vocabulary, merges=pairs))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
wrapped.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
wrapped.save_pretrained("tiny")
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
    max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=1, initializer_range=0.5,
)
LlamaForCausalLM(config).save_pretrained("tiny")
PYTHON
timeout 300 venv/bin/python make_model.py >log 2>&1 || { tail -n 5 log >&2; exit 1; }
timeout 300 venv/bin/python - <<'PYTHON'
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def main():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    command = ["venv/bin/transformers", "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "tiny"]
    with open("log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until_ready(f"{base}/health", server)
        text, _ = whole(base)
        stop = text[5:7]
        got, reason = whole(base, stop=[stop])
        streamed = "".join(deltas(base, stop=[stop]))
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    expected = text[: text.index(stop)]
    same = got == streamed != expected and got.startswith(expected + stop) and len(got) < len(text) and reason == "stop"
    also = "streamed the same" if streamed == got else f"streamed {streamed!r}"
    print(f"{'reproduced' if same else 'not reproduced'}: stop {stop!r} in {text!r}: expected {expected!r}, "
          f"got {got!r} ({also}), finish_reason {reason!r}")
    return 0 if same else 1


def whole(base, **extra):
    (choice,) = json.loads(ask(base, **extra))["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def deltas(base, **extra):
    for line in ask(base, stream=True, **extra).splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: "))["choices"]:
                yield choice["delta"].get("content") or ""


def ask(base, **extra):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "abcdef"}], "max_tokens": 10, **extra}
    request = urllib.request.Request(
        f"{base}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"not reproduced: the server answered {error.code} {error.read().decode()[:500]}")


def wait_until_ready(url, server):
    until = time.monotonic() + 150
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    sys.exit("not reproduced: the server did not get ready\n" + Path("log").read_text()[-2000:])


sys.exit(main())
PYTHON

#!/usr/bin/env bash
# llama.cpp's server (pip: xllamacpp 2026.10.11549): with n = 2, "the" usage chunk comes twice, the first in mid-stream.
#
# Set-up    A random GGUF of a few kB made with llama.cpp's own package (pip: gguf 0.19.0), two slots. One streamed
#           chat request with n = 2, max_tokens = 6 and stream_options.include_usage.
# Expected  As in OpenAI's API, whose shape this is: one chunk with empty "choices" at the end of the stream, whose
#           usage covers the whole request: 12 completion tokens. Clients take that chunk for the last one.
# Seen      Each choice is followed by a chunk with empty "choices" of its own, which counts that choice alone
#           (6 tokens). The first stands before the other choice has ended, so who stops there loses its rest, and who
#           keeps the last one counts half.
# Output    reproduced: 2 usage chunks of [6, 6] completion tokens; after the first, choice 0 was still going on
# Seen on   2026-11-28, Python 3.11, Linux x86-64, CPU
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6 >&2
timeout 120 venv/bin/python - 2>log <<'PYTHON' || { status=$?; tail -n 5 log >&2; exit "$status"; }
import json
import sys
import urllib.request

import gguf
import numpy
import xllamacpp


def main():
    make_model("tiny.gguf")
    settings = xllamacpp.CommonParams()
    settings.model.path = "tiny.gguf"
    settings.hostnames, settings.port = ["127.0.0.1"], 0
    settings.n_parallel, settings.n_ctx, settings.n_gpu_layers = 2, 512, 0
    settings.cpuparams.n_threads = 1
    settings.fit_params = settings.warmup = False
    server = xllamacpp.Server(settings)  # Runs in this process and ends with it.
    chunks = streamed(server.listening_address, {"n": 2, "max_tokens": 6, "ignore_eos": True, "seed": 1})
    del server
    usages = [place for place, chunk in enumerate(chunks) if not chunk["choices"] and chunk.get("usage")]
    tokens = [chunks[place]["usage"]["completion_tokens"] for place in usages]
    later = sorted({choice["index"] for chunk in chunks[usages[0] :] for choice in chunk["choices"]}) if usages else []
    same = tokens == [6, 6] and len(later) == 1
    print(f"{'reproduced' if same else 'not reproduced'}: {len(tokens)} usage chunks of {tokens} completion tokens; "
          f"after the first, choice {', '.join(map(str, later)) or '(none)'} was still going on")
    return 0 if same else 1


def streamed(address, extra):
    body = {"messages": [{"role": "user", "content": "abc"}], "stream": True, **extra}
    body["stream_options"] = {"include_usage": True}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        lines = [line.decode().strip().removeprefix("data: ") for line in response]
    return [json.loads(line) for line in lines if line.startswith("{")]


def make_model(path):
    """Write a Llama of one layer with random weights, whose tokens are the 256 bytes."""
    width, hidden = 32, 64
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.BYTE] * 256
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    shapes |= {f"blk.0.attn_{part}": (width, width) for part in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{part}": (hidden, width) for part in ("gate", "up")}
    shapes |= {"blk.0.ffn_down": (width, hidden), "blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    random = numpy.random.default_rng(0)
    for name, shape in shapes.items():
        weights = random.normal(0, 0.3, shape) if len(shape) == 2 else numpy.ones(shape)
        writer.add_tensor(f"{name}.weight", weights.astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


sys.exit(main())
PYTHON

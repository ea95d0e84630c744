"""llama.cpp's server with a random model of a few kB that is made on the spot; runs in an environment of its own.

Prints where it listens, and serves until its standard input ends.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

_WIDTH, _FEED, _HEADS = 32, 64, 2
_CONTEXT = 8192
"""Tokens of one slot: enough for an answer that takes seconds."""
_PARALLEL = 4


def make_model(path: Path) -> None:
    """Write a Llama of one layer with random weights, whose tokens are letters and single bytes."""
    random = np.random.default_rng(7)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcdefghijklmnopqrstuvwxyz"]
    kinds = [
        gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL,
        *[gguf.TokenType.BYTE] * 256, *[gguf.TokenType.NORMAL] * 27,
    ]  # fmt: skip
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(_CONTEXT * _PARALLEL)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}")

    def tensor(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.4, shape).astype("float32"))

    def ones(name: str, size: int) -> None:
        writer.add_tensor(name, np.ones(size, dtype="float32"))

    tensor("token_embd.weight", len(tokens), _WIDTH)
    head = random.normal(0, 0.4, (len(tokens), _WIDTH)).astype("float32")
    head[:259] *= 0.01  # letters are likelier than bytes
    writer.add_tensor("output.weight", head)
    ones("output_norm.weight", _WIDTH)
    ones("blk.0.attn_norm.weight", _WIDTH)
    ones("blk.0.ffn_norm.weight", _WIDTH)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensor(f"blk.0.{name}.weight", _WIDTH, _WIDTH)
    tensor("blk.0.ffn_gate.weight", _FEED, _WIDTH)
    tensor("blk.0.ffn_up.weight", _FEED, _WIDTH)
    tensor("blk.0.ffn_down.weight", _WIDTH, _FEED)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        make_model(model)
        params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.model_alias = {"tiny"}
        params.n_ctx = _CONTEXT * _PARALLEL
        params.n_parallel = _PARALLEL
        params.hostnames = ["127.0.0.1"]
        params.port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
        params.endpoint_slots = True
        params.endpoint_props = True
        params.cpuparams.n_threads = 1
        params.warmup = False
        server = xllamacpp.Server(params)
        sys.stdout.write(f"{server.listening_address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()

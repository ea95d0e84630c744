"""A scripted engine with OpenAI's HTTP API, for tests: it answers as each family of engines does, and breaks on demand.

    with FakeOpenAI(VLLM) as engine:
        settings = OpenAISettings(url=engine.url)
        engine.fail_next(503, b"", headers={"Retry-After": "2"})

It listens on loopback, at a port of its own, in a thread of its own. Its models: `tiny` says the words of its prompt
again and again, `known` has one answer, `echo` tells what it was sent, `thinker` thinks first, `embedder` embeds.
"""

from __future__ import annotations

from openai_adapter.testing.families import (
    DYNAMO,
    FAMILIES,
    LLAMA_CPP,
    OPENAI,
    TRANSFORMERS,
    TRITON_FRONTEND,
    TRTLLM_SERVE,
    VLLM,
    Family,
)
from openai_adapter.testing.models import KNOWN_TEXT
from openai_adapter.testing.server import FakeOpenAI

__all__ = [
    "DYNAMO", "FAMILIES", "FakeOpenAI", "Family", "KNOWN_TEXT", "LLAMA_CPP", "OPENAI", "TRANSFORMERS",
    "TRITON_FRONTEND", "TRTLLM_SERVE", "VLLM",
]  # fmt: skip

"""The demo models: what they are and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DemoModel:
    """One model of the demo repository.

    Attributes:
        name: Its name in the server.
        summary: What it computes.
        dialect: Whose tensors it speaks: vllm, trtllm, generic (text in, text out) or tensors.
        decoupled: Whether it streams.
    """

    name: str
    summary: str
    dialect: str
    decoupled: bool


DEMO_MODELS = (
    DemoModel("tinylm", "a small language model behind the vLLM backend's tensors", "vllm", True),
    DemoModel("tinytools", "the same, which calls the tools that a chat offers it, by rules", "vllm", True),
    DemoModel("tinytrt", "the same language model behind TensorRT-LLM's ensemble tensors", "trtllm", True),
    DemoModel("slow", "repeats the words of the prompt slowly, and reports who was cancelled", "generic", True),
    DemoModel("splitter", "repeats the prompt in pieces that cut characters", "generic", True),
    DemoModel("midfail", "streams a few tokens, then fails as it is asked to", "generic", True),
    DemoModel("echo", "answers with what it was sent, as JSON, in two versions", "vllm", True),
    DemoModel("tensors", "identity for every datatype", "tensors", False),
    DemoModel("addsub", "sum and difference of two FP32 tensors", "tensors", False),
    DemoModel("colours", "finds what is red, green or blue in a picture, as a YOLO detector would", "tensors", False),
    DemoModel("embedder", "embeds texts by the letters that they share", "tensors", False),
)

LANGUAGE_MODELS = ("tinylm", "tinytools", "tinytrt")
"""Those that write: the others that take text say something of the request."""


def demo_options() -> dict[str, Any]:
    """Return an adapter's options for the demo models: the chat template that offers one of them tools."""
    return {"models": {"tinytools": {"chat_template": str(demo_repository() / "tinytools")}}}


def demo_repository() -> Path:
    """Return the model repository with the demo models; it is part of the package, do not write to it."""
    return Path(__file__).parent / "models"

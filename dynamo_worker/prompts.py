"""What the OpenAI requests that Dynamo's frontend hands over ask for, as tasks. No I/O.

The frontend has looked at their form; what cannot be honoured is refused by name, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import TaskRequest
from adapter_kit.openai.requests import CHAT, COMPLETION, chat_of, common_of, completion_of, wants_usage

_DYNAMO_S = frozenset({"model", "nvext"})
"""The model is known by the endpoint; the other is for the frontend."""


class Asked(msgspec.Struct, frozen=True):
    """A request for text: the task, whether it is a chat, and whether the answer may tell its usage."""

    task: TaskRequest
    chat: bool
    usage: bool


def parse_prompt(given: Mapping[str, Any], *, model: str, engine: str, trace: Mapping[str, str]) -> Asked:
    """Return what a request asks for; raises `InvalidRequest` or `Unsupported`.

    Args:
        given: As the frontend hands it over.
        model: The engine's name of the model.
        engine: The adapter's name for the engine: whose parameters the fields are that only an engine can honour.
        trace: The headers of the request's trace.
    """
    chat = "messages" in given
    task, engines = common_of(given, (CHAT if chat else COMPLETION) | _DYNAMO_S)
    if engines:
        task["parameters"] = {f"{engine}.{name}": value for name, value in engines.items()}
    task |= chat_of(given) if chat else completion_of(given)
    task |= {name: trace[name] for name in ("traceparent", "tracestate") if trace.get(name)}
    # An answer that the frontend gathers always tells it; in a stream it would be a chunk nobody asked for.
    usage = wants_usage(given) or not given.get("stream")
    return Asked(TaskRequest.parse({**task, "model": model}), chat, usage)

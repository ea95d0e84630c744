"""What the OpenAI requests that Dynamo's frontend hands over ask for, as tasks. No I/O.

The frontend has looked at their form; what cannot be honoured is refused by name, never dropped.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import TaskRequest, Unsupported
from adapter_kit.openai.requests import CHAT, COMPLETION, chat_of, common_of, completion_of, wants_usage

_FLOAT, _MOST = struct.Struct("f"), 1e38
_DYNAMO_S = frozenset({"model", "nvext"})
"""The model is known by the endpoint; the other is for the frontend."""
_RENAMED = {"chat_template_args": "chat_template_kwargs"}
"""What Dynamo calls otherwise than the clients that sent it."""


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
    given = _as_asked(given)
    chat = "messages" in given
    ignored: list[str] = []
    task, engines = common_of(given, (CHAT if chat else COMPLETION) | _DYNAMO_S, ignored)
    if engines:
        task["parameters"] = {f"{engine}.{name}": value for name, value in engines.items()}
    task |= chat_of(given, ignored) if chat else completion_of(given)
    task |= {name: trace[name] for name in ("traceparent", "tracestate") if trace.get(name)}
    if ignored:  # an answer has no place where its sender would see them
        raise Unsupported(f"{ignored[0][:64]!r} is not supported here; leave it out")
    # An answer that the frontend gathers always tells it; in a stream it would be a chunk nobody asked for.
    usage = wants_usage(given, ignored) or not given.get("stream")
    return Asked(TaskRequest.parse({**task, "model": model}), chat, usage)


def _as_asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields as the client sent them."""
    return {_RENAMED.get(name, name): _number(value) for name, value in given.items()}


def _number(value: Any) -> Any:
    """The frontend keeps numbers in 32 bits: 0.7 comes as 0.699999988079071. Of those that are the same in 32 bits the
    shortest is what was written."""
    if not isinstance(value, float) or not abs(value) < _MOST:
        return value
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if _FLOAT.unpack(_FLOAT.pack(short)) == (value,):
            return short
    return value  # which was never in 32 bits

"""What a harness owes the suite: held against it, because a check on an empty task would pass on any adapter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from adapter_api import TaskRequest

_SEVERAL = 2


def settings_problem(harness: object) -> str | None:
    """Say which attribute of a harness makes its checks prove nothing."""
    for name in ("settle_s", "control_timeout_s"):
        seconds = getattr(harness, name)
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            return f"{name} is {seconds}; it is seconds, and more than 0"
    for name, least in (("streams", _SEVERAL), ("long_tokens", 1)):
        if getattr(harness, name) < least:
            return f"{name} is {getattr(harness, name)}; at least {least} are needed"
    versions = getattr(harness, "echo_versions", ())
    if len(set(versions)) < len(versions):
        return f"echo_versions names a version twice: {', '.join(versions)}"
    return None


def broken_promise(method: str, given: Any) -> str | None:
    """Say what is wrong with what the harness's method returned; `None` when it is as it should be."""
    promise = _PROMISES.get(method)
    return None if promise is None else promise(given)


def _count(count: Any) -> str | None:
    counts = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    return None if counts else f"{count!r}, which is no count"


def _task(task: Any) -> str | None:
    return None if isinstance(task, TaskRequest) else f"{type(task).__name__}, not a TaskRequest"


def _with(task: Any, field: str) -> str | None:
    return _task(task) or (None if getattr(task, field) else f"a task without {field}")


def _known_text(known: Any) -> str | None:
    return None if len(known.text.split()) >= _SEVERAL else "an answer of fewer than two words"


def _known_tool_calls(known: Any) -> str | None:
    if not known.calls:
        return "a task without known tool calls"
    return _with(known.task, "tools")


def _known_reasoning(known: Any) -> str | None:
    return None if known.reasoning and known.text else "a task without thoughts, or without an answer"


def _split_text(known: Any) -> str | None:
    if known.text.isascii():
        return "an answer whose characters all have one byte: there is nothing to cut"
    return "an answer whose last character has one byte only" if known.text[-1:].isascii() else None


def _cut_text(known: Any) -> str | None:
    return None if known.text else "an answer of which nothing is whole"


def _tensors(known: Any) -> str | None:
    return None if known.outputs else "an inference without known outputs"


def _named_tensors(known: Any) -> str | None:
    several = len(known.outputs) >= _SEVERAL and len(known.request.inputs) >= _SEVERAL
    return None if several else "an inference with fewer than two inputs or outputs"


def _stream(known: Any) -> str | None:
    if len(known.responses) < _SEVERAL:
        return "an inference with fewer than two responses"
    return None if all(known.responses) else "a response without known outputs"


def _sequence(known: Any) -> str | None:
    if len(known) <= _SEVERAL:
        return "a sequence of fewer than three requests"
    if any(case.request.sequence is None for case in known):
        return "a request that belongs to no sequence"
    return None if all(case.outputs for case in known) else "a request without known outputs"


_PROMISES: dict[str, Callable[[Any], str | None]] = {
    "in_flight": _count,
    "inferences": _count,
    "emitted": _count,
    "task": _task,
    "long_task": _task,
    "messages_task": lambda task: _with(task, "messages"),
    "json_task": lambda task: _with(task, "response_format"),
    "images_task": lambda task: _with(task, "images"),
    "tools_task": lambda task: _with(task, "tools"),
    "empty_task": _task,
    "echo_task": _task,
    "known_text": _known_text,
    "known_tool_calls": _known_tool_calls,
    "known_reasoning": _known_reasoning,
    "split_text": _split_text,
    "cut_text": _cut_text,
    "known_tensors": _tensors,
    "named_tensors": _named_tensors,
    "known_stream": _stream,
    "known_sequence": _sequence,
}

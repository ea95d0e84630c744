"""What the OpenAI API's requests ask for, as tasks. What cannot be honoured is refused by name, never dropped.

What every face of that API reads alike is `adapter_kit.openai`'s; here is what this host alone has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import TaskRequest
from adapter_kit.openai import requests
from adapter_kit.openai.requests import CHAT, COMPLETION, chat_of, completion_of, flag, wants_usage
from orchestrator.http.reading import trace_of
from orchestrator.pools.fit import ANY_ENGINE

__all__ = ["CHAT", "COMPLETION", "SAME", "Asked", "parse_chat", "parse_completion"]

_OURS = ("model", "priority", "session_id", "job_id", "parameters", "timeout_s")
SAME = (*requests.SAME, *_OURS)
"""Fields that mean the same in a task; those the OpenAI API does not know are sent as `extra_body`."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the OpenAI face."""

    task: TaskRequest
    stream: bool
    include_usage: bool
    history: bool


def parse_chat(fields: dict[str, Any], headers: Mapping[str, str]) -> Asked:
    """Return what a chat completion asks for; raises `InvalidRequest` or `Unsupported`."""
    return _asked({**_common(fields, headers, CHAT), **chat_of(fields)}, fields)


def parse_completion(fields: dict[str, Any], headers: Mapping[str, str]) -> Asked:
    """Return what a completion asks for; raises `InvalidRequest` or `Unsupported`."""
    return _asked({**_common(fields, headers, COMPLETION), **completion_of(fields)}, fields)


def _common(fields: dict[str, Any], headers: Mapping[str, str], taken: frozenset[str]) -> dict[str, Any]:
    task, engines = requests.common_of(fields, {*taken, *_OURS, "history"})
    task |= {name: fields[name] for name in _OURS if fields.get(name) is not None}
    if isinstance(priority := task.get("priority"), int) and not isinstance(priority, bool):
        del task["priority"]  # a number orders an engine's own queue, and this host's line has two classes
    if engines:
        given = task.get("parameters", {})
        parameters = {f"{ANY_ENGINE}.{name}": value for name, value in engines.items()}
        task["parameters"] = {**parameters, **given} if isinstance(given, dict) else given
    return {**task, **trace_of(headers)}


def _asked(task: dict[str, Any], fields: dict[str, Any]) -> Asked:
    include_usage = wants_usage(fields)
    return Asked(
        task=TaskRequest.parse(task),
        stream=flag(fields, "stream"),
        include_usage=include_usage,
        history=flag(fields, "history"),
    )

"""How models of different families write their calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Call = tuple[str, dict[str, Any]]
ONE_AT_A_TIME = frozenset({"llama3_json"})
"""Families that call one tool, and wait for what it says."""


def written(calls: Sequence[Call], grammar: str) -> str:
    """Return calls, name and arguments each, as the model's text."""
    if grammar == "pythonic":
        return "[" + ", ".join(_python(name, arguments) for name, arguments in calls) + "]"
    if grammar == "llama3_json":
        return "; ".join(json.dumps({"name": name, "parameters": arguments}) for name, arguments in calls)
    objects = [json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) for name, arguments in calls]
    if grammar == "mistral":
        return f"[TOOL_CALLS][{', '.join(objects)}]"
    return "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in objects)


def _python(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"

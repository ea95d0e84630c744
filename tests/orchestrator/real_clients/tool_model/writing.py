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
    if grammar == "olmo3":
        return "<function_calls>\n" + "\n".join(_python(*each) for each in calls) + "\n</function_calls>"
    if grammar == "llama3_json":
        return "; ".join(json.dumps({"name": name, "parameters": arguments}) for name, arguments in calls)
    if grammar in _TAGGED:
        return "\n".join(_tagged(name, arguments, *_TAGGED[grammar]) for name, arguments in calls)
    if grammar in _NAMED:
        first, each, last = _NAMED[grammar]
        named = (each.format(name=n, at=at, arguments=json.dumps(a)) for at, (n, a) in enumerate(calls))
        return first + "".join(named) + last
    objects = [json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) for name, arguments in calls]
    if grammar == "mistral":
        return f"[TOOL_CALLS][{', '.join(objects)}]"
    if grammar == "cohere_command":
        actions = [{"tool_call_id": str(at), "tool_name": n, "parameters": a} for at, (n, a) in enumerate(calls)]
        return f"<|START_ACTION|>{json.dumps(actions, indent=4)}<|END_ACTION|>"
    return "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in objects)


_TAGGED = {
    "qwen3_coder": ("<tool_call>\n<function=%s>\n", "<parameter=%s>\n%s\n</parameter>\n", "</function>\n</tool_call>"),
    "glm45": ("<tool_call>%s\n", "<arg_key>%s</arg_key>\n<arg_value>%s</arg_value>\n", "</tool_call>"),
    "minimax_m2": ('<minimax:tool_call>\n<invoke name="%s">\n', '<parameter name="%s">%s</parameter>\n',
                   "</invoke>\n</minimax:tool_call>"),
}  # fmt: skip
_NAMED = {
    "deepseek_v3": (
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    "kimi_k2": (
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>functions.{name}:{at}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
    "openai": (
        "",
        "<|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}<|call|>",
        "",
    ),
}


def _tagged(name: str, arguments: dict[str, Any], head: str, each: str, end: str) -> str:
    values = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in arguments.items())
    return head % name + "".join(each % pair for pair in values) + end


def _python(name: str, arguments: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"

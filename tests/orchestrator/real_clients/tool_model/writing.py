"""How models of different families write their calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

Call = tuple[str, dict[str, Any]]
ONE_AT_A_TIME = frozenset({"llama3_json"})
"""Families that call one tool, and wait for what it says."""


def written(calls: Sequence[Call], grammar: str) -> str:
    """Return calls, name and arguments each, as the model's text."""
    return _WRITERS[grammar](calls)


def in_turn(parts: Iterable[str | Call], grammar: str) -> str:
    """Return an answer of texts and calls; calls that follow each other are written together."""
    told = ""
    for are_texts, run in groupby(parts, key=lambda part: isinstance(part, str)):
        if are_texts:
            text = "\n".join(part for part in run if isinstance(part, str))
            told += _SAID.get(grammar, "{}").format(text)
        else:
            told += written([part for part in run if not isinstance(part, str)], grammar)
    return told.removeprefix(_PROMPTED.get(grammar, ""))


_SAID = {
    "functionary_v32": ">>>all\n{}",
    "gigachat3": "{}<|message_sep|>\n\n",
    "openai": "<|start|>assistant<|channel|>commentary<|message|>{}<|end|>",
    "cohere_command": "<|START_RESPONSE|>{}<|END_RESPONSE|>",
    "kimi_k3": "<|open|>response<|sep|>{}<|close|>response<|sep|>",
    "llama3_json": "{}\n", "pythonic": "{}\n", "xlam": "{}\n",
}  # fmt: skip
"""Where text does not stand as it is."""
_PROMPTED = {"functionary_v32": ">>>"}
"""What the prompt ends with already."""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _objects(calls: Sequence[Call], arguments: str = "arguments") -> list[str]:
    return [_json({"name": name, arguments: given}) for name, given in calls]


def _each(before: str, after: str, arguments: str = "arguments") -> Callable[[Sequence[Call]], str]:
    """Write each call as an object of its own between marks."""
    return lambda calls: "\n".join(before + each + after for each in _objects(calls, arguments))


def _list(before: str, after: str, arguments: str = "arguments") -> Callable[[Sequence[Call]], str]:
    """Write all calls as one list of objects between marks."""
    return lambda calls: f"{before}[{', '.join(_objects(calls, arguments))}]{after}"


def _named(first: str, each: str, last: str) -> Callable[[Sequence[Call]], str]:
    """Write a name and arguments in JSON, by `{name}`, `{arguments}` and the number `{at}`."""

    def write(calls: Sequence[Call]) -> str:
        return first + "".join(each.format(name=n, at=at, arguments=_json(a)) for at, (n, a) in enumerate(calls)) + last

    return write


def _tagged(
    head: str, each: str, end: str, *, first: str = "", last: str = "", value: Callable[[Any], str] | None = None
) -> Callable[[Sequence[Call]], str]:
    """Write arguments between tags: `head` has the name, `each` a key and a value."""

    def one(name: str, arguments: dict[str, Any]) -> str:
        return head % name + "".join(each % (key, (value or _plain)(given)) for key, given in arguments.items()) + end

    return lambda calls: first + "\n".join(one(*call) for call in calls) + last


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _typed(value: Any) -> str:
    """Write a value behind the rest of its tag, which says of what type it is."""
    name = {bool: "boolean", int: "number", float: "number", list: "array", dict: "object", str: "string"}
    return f'{name.get(type(value), "null")}"<|sep|>{_plain(value)}'


def _as_string(value: Any) -> str:
    """Write a value behind the rest of its tag, which says whether it is a string."""
    return f'{"true" if isinstance(value, str) else "false"}">{_plain(value)}'


def _python(before: str, between: str, after: str) -> Callable[[Sequence[Call]], str]:
    def one(name: str, arguments: dict[str, Any]) -> str:
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"

    return lambda calls: before + between.join(one(*call) for call in calls) + after


def _loose(before: str, quote: str, after: str) -> Callable[[Sequence[Call]], str]:
    def value(given: Any) -> str:
        match given:
            case str():
                return f"{quote}{given}{quote}"
            case dict():
                return "{" + ",".join(f"{key(name)}:{value(each)}" for name, each in given.items()) + "}"
            case list():
                return f"[{','.join(map(value, given))}]"
        return _json(given)

    def key(name: str) -> str:
        return name if name.isidentifier() else f"{quote}{name}{quote}"

    return lambda calls: "".join(f"{before}call:{name}{value(arguments)}{after}" for name, arguments in calls)


def _apertus(calls: Sequence[Call]) -> str:
    return f"<|tools_prefix|>[{', '.join(_json({name: arguments}) for name, arguments in calls)}]<|tools_suffix|>"


def _cohere(before: str, after: str, **more: Any) -> Callable[[Sequence[Call]], str]:
    def write(calls: Sequence[Call]) -> str:
        actions = [{"tool_name": name, "parameters": arguments} for name, arguments in calls]
        if more:
            actions = [{"tool_call_id": str(at), **each} for at, each in enumerate(actions)]
        return before + json.dumps(actions, indent=4, ensure_ascii=False) + after

    return write


_WRITERS: dict[str, Callable[[Sequence[Call]], str]] = {
    "apertus": _apertus,
    "cohere_command": _cohere("<|START_ACTION|>", "<|END_ACTION|>", ids=True),
    "command_r": _cohere("Action: ```json\n", "\n```"),
    "deepseek_v3": _named(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
    ),
    "deepseek_v32": _tagged(
        '<｜DSML｜invoke name="%s">\n', '<｜DSML｜parameter name="%s" string="%s</｜DSML｜parameter>\n',
        "</｜DSML｜invoke>", first="<｜DSML｜function_calls>\n", last="\n</｜DSML｜function_calls>", value=_as_string,
    ),
    "functionary": _named("", "<function={name}>{arguments}</function>", ""),
    "functionary_v32": _named("", ">>>{name}\n{arguments}", ""),
    "functiongemma": _loose("<start_function_call>", "<escape>", "<end_function_call>"),
    "gemma3": _python("```tool_code\n", "\n", "\n```"),
    "gemma4": _loose("<|tool_call>", '<|"|>', "<tool_call|>"),
    "gigachat3": _each("function call<|role_sep|>\n", "<|message_sep|>"),
    "glm45": _tagged(
        "<tool_call>%s\n", "<arg_key>%s</arg_key>\n<arg_value>%s</arg_value>\n", "</tool_call>",
    ),
    "granite": _list("<|tool_call|>", ""),
    "granite-20b-fc": _each("<function_call> ", ""),
    "hermes": _each("<tool_call>\n", "\n</tool_call>"),
    "internlm": _each("<|action_start|><|plugin|>\n", "<|action_end|>", "parameters"),
    "kimi_k2": _named(
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>functions.{name}:{at}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
    "kimi_k3": _tagged(
        '<|open|>call tool="%s" index="1"<|sep|>', '<|open|>argument key="%s" type="%s<|close|>argument<|sep|>',
        "<|close|>call<|sep|>", first="<|open|>tools<|sep|>", last="<|close|>tools<|sep|>", value=_typed,
    ),
    "lfm2": _python("<|tool_call_start|>[", ", ", "]<|tool_call_end|>"),
    "llama3_json": lambda calls: "; ".join(_objects(calls, "parameters")),
    "longcat": _each("<longcat_tool_call>", "</longcat_tool_call>"),
    "minimax_m2": _tagged(
        '<invoke name="%s">\n', '<parameter name="%s">%s</parameter>\n', "</invoke>",
        first="<minimax:tool_call>\n", last="\n</minimax:tool_call>",
    ),
    "mistral": _list("[TOOL_CALLS]", ""),
    "nemotron": _list("<TOOLCALL>", "</TOOLCALL>"),
    "olmo3": _python("<function_calls>\n", "\n", "\n</function_calls>"),
    "openai": _named(
        "",
        "<|start|>assistant<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}<|call|>",
        "",
    ),
    "pythonic": _python("[", ", ", "]"),
    "qwen2_5_coder": _each("<tools>\n", "\n</tools>"),
    "qwen3_coder": _tagged(
        "<tool_call>\n<function=%s>\n", "<parameter=%s>\n%s\n</parameter>\n", "</function>\n</tool_call>",
    ),
    "seed_oss": _tagged(
        "<seed:tool_call>\n<function=%s>\n", "<parameter=%s>%s</parameter>\n", "</function>\n</seed:tool_call>",
    ),
    "step3": _tagged(
        '<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="%s">\n',
        '<steptml:parameter name="%s">%s</steptml:parameter>\n', "</steptml:invoke><｜tool_call_end｜>",
        first="<｜tool_calls_begin｜>\n", last="\n<｜tool_calls_end｜>",
    ),
    "tool_calls": _list("<tool_calls>\n", "\n</tool_calls>"),
    "xlam": _list("", ""),
}  # fmt: skip
FAMILIES = tuple(_WRITERS)

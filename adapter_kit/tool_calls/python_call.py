"""One call in Python, `name(argument=value, …)`, given on as JSON.

A call is given on whole: that its arguments are values is certain only when it is complete.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Container, Mapping
from typing import Any

from adapter_api.bounds import MAX_NAME
from adapter_kit.tool_calls.grammar import NAME_LETTER
from adapter_kit.tool_calls.parts import Parts
from adapter_kit.tool_calls.source import NoCall, Reading, Source, letter, run

_NAME_LETTERS = re.compile(rf"(?:{NAME_LETTER}|[ ])*")
_NEXT = re.compile(r"""["'()\[\]{}]""")
_IN_STRING = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}
_DEEPEST = 32
_CONSTANTS = {"true": True, "false": False, "null": None}


def read_python_call(
    source: Source, parts: Parts, tools: Mapping[str, Mapping[str, Any]], known: Container[str] | None
) -> Reading[None]:
    """Read one call.

    Args:
        source: What is read, and held.
        parts: Where the call goes.
        tools: The schemas of the arguments of the tools there are, by name: arguments without a name are those that
            it names first.
        known: The tools there are, where a call is one by its name only; any where absent.

    Raises:
        NoCall: It is none, or has arguments that are no values.
    """
    name = (yield from run(source, _NAME_LETTERS, limit=MAX_NAME)).rstrip()
    if not name or (known is not None and name not in known) or (yield from letter(source)) != "(":
        raise NoCall
    if " " in name and name not in tools:
        raise NoCall
    text = yield from _in_brackets(source)
    arguments = arguments_in(text, list(_properties(tools.get(name, {}))))
    if arguments is None:
        raise NoCall
    source.release()
    parts.begin(name)
    parts.arguments(arguments)
    parts.end()


def _in_brackets(source: Source) -> Reading[str]:
    """Return all from the opening bracket that stands here to the closing one."""
    pieces: list[str] = []
    depth, quote = 0, ""
    while True:
        if not (yield from letter(source)):
            raise NoCall
        find = _IN_STRING[quote] if quote else _NEXT
        found = find.search(source.text, source.at)
        pieces.append(source.take(len(source.text) if found is None else found.end()))
        if found is None:
            continue
        sign = found[0]
        if quote:
            if sign == "\\":
                yield from letter(source)
                pieces.append(source.take(source.at + 1))
            else:
                quote = ""
        elif sign in "\"'":
            quote = sign
        elif sign in "([{":
            depth += 1
            if depth > _DEEPEST:
                raise NoCall
        else:
            depth -= 1
            if not depth:
                return "".join(pieces)


def arguments_in(text: str, positions: list[str]) -> str | None:
    """Return the arguments of a call, from bracket to bracket, as JSON; `None` where they are not all values with a
    name. `positions` are the names of those that have none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a model escapes
            call = ast.parse(f"f{text}", mode="eval").body
        if not isinstance(call, ast.Call) or len(call.args) > len(positions):
            return None
        arguments = {key: _value(each) for key, each in zip(positions, call.args, strict=False)}
        for each in call.keywords:
            if each.arg is None or each.arg in arguments:
                return None
            arguments[each.arg] = _value(each.value)
        as_json = json.dumps(arguments, allow_nan=False, ensure_ascii=False)
        as_json.encode()
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None
    return as_json


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        return {_key(key): _value(value) for key, value in zip(node.keys, node.values, strict=True)}
    return ast.literal_eval(node)


def _key(node: ast.expr | None) -> str:
    key = None if node is None else ast.literal_eval(node)
    if not isinstance(key, str):
        raise ValueError("JSON has texts for keys only")
    return key

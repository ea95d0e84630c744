"""Values that a model writes as they are, made JSON by the schema of the tool."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from adapter_kit.tool_calls.parts import MOST_HELD

STRING = frozenset({"string"})
_MOST_SCHEMAS = 256
_MOST_REFERENCES = 16
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_INTEGER = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?")
_LONGEST_NUMBER = 400
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null",
               list: "array", tuple: "array", dict: "object"}  # fmt: skip


def types_of(schema: Mapping[str, Any], key: str) -> frozenset[str] | None:
    """Return what an argument may be by the schema of all of them; `None` where it does not say."""
    properties = _resolved(schema, schema).get("properties")
    found: set[str] = set()
    choices: list[Any] = [properties[key]] if isinstance(properties, Mapping) and key in properties else []
    looked_at = 0
    while choices and looked_at < _MOST_SCHEMAS:  # schemas may hold themselves
        looked_at += 1
        each = _resolved(choices.pop(), schema)
        found |= _said(each)
        for several in ("anyOf", "oneOf", "allOf"):
            if isinstance(more := each.get(several), list | tuple):
                choices += more[:_MOST_SCHEMAS]
    return frozenset(found) or None


def in_json(text: str, types: frozenset[str]) -> str:
    """Return a value as JSON: as the first of those types that it can be, of all where there are none; a string where
    it can be none of them."""
    for name, read in _READERS:
        if (name in types or not types) and (value := read(text.strip())) is not None:
            return value
    if types and "string" not in types and text.strip().lower() in ("null", "none"):
        return "null"
    return json.dumps(text, ensure_ascii=False)


def _said(schema: Mapping[str, Any]) -> set[str]:
    """Return what a schema itself says, beside those that it has in it."""
    said = schema.get("type")
    if isinstance(said, str):
        return {said, "null"} if schema.get("nullable") is True else {said}
    if isinstance(said, list | tuple):
        return {each for each in said if isinstance(each, str)}
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list | tuple):
        return {_JSON_TYPES.get(type(each), "object") for each in values}
    return {"object"} if "properties" in schema else {"array"} if "items" in schema else set()


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references, for a while."""
    for _ in range(_MOST_REFERENCES):
        reference = schema.get("$ref") if isinstance(schema, Mapping) else None
        if not isinstance(reference, str):
            break
        schema = root
        for part in reference.removeprefix("#").strip("/").split("/"):
            schema = schema.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(schema, Mapping) else None
    return schema if isinstance(schema, Mapping) else {}


def _null(text: str) -> str | None:
    return "null" if text.lower() in ("null", "none") else None


def _boolean(text: str) -> str | None:
    return text.lower() if text.lower() in ("true", "false") else None


def _integer(text: str) -> str | None:
    found = _INTEGER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    return found and found[1]


def _number(text: str) -> str | None:
    return text if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else None


def _nested(kind: type) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        try:
            return text if isinstance(json.loads(text, parse_constant=_no_json), kind) else None
        except (ValueError, RecursionError):
            return _python(text, kind)

    return read


def _python(text: str, kind: type) -> str | None:
    """Some models write objects and lists as Python does."""
    if len(text) > MOST_HELD:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a model escapes
            value = ast.literal_eval(text)
        return json.dumps(value, ensure_ascii=False, allow_nan=False) if isinstance(value, kind) else None
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _no_json(name: str) -> float:
    raise ValueError(name)


_READERS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    ("null", _null),
    ("boolean", _boolean),
    ("integer", _integer),
    ("number", _number),
    ("object", _nested(dict)),
    ("array", _nested(list)),
)

"""Whether a JSON Schema is one, as far as engines trip over it. No I/O.

Engines that are to keep an answer to a schema compile it first, and their refusal of one that is none reads like a
fault of theirs. Only a wrong form is found here; whether a schema can be met, and which keywords an engine knows, is
the engine's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_ONE = ("additionalProperties", "items", "not", "contains", "propertyNames", "if", "then", "else")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SHOWN = 64


class _Place(NamedTuple):
    """Where in a schema something is; put in words only when something is wrong there."""

    above: _Place | None
    name: str

    def __str__(self) -> str:
        names: list[str] = []
        each: _Place | None = self
        while each is not None and len(names) < _SHOWN:
            names.append(each.name[:_SHOWN])
            each = each.above
        return ".".join(reversed(names))


def why_no_schema(schema: Any) -> str | None:
    """Return what is wrong with a schema, and where in it; `None` when it has the form of one.

    Takes time in the size of the schema, however deep it is.
    """
    left: list[tuple[_Place | None, Any]] = [(None, schema)]
    while left:
        place, each = left.pop()
        if isinstance(each, bool):
            continue
        if not isinstance(each, Mapping):
            return f"{place or 'it'} must be a schema: an object"
        for name, fits, what in _RULES:
            if name in each and not fits(each[name]):
                return f"{_Place(place, name)} must be {what}"
        for name in _ONE:
            if name in each:
                found = each[name]
                # Until 2019 `items` could be a list.
                inner = enumerate(found) if name == "items" and _is_list(found) else [(None, found)]
                left += [(_Place(place, name if at is None else f"{name}.{at}"), one) for at, one in inner]
        for name in _SEVERAL:
            left += [(_Place(place, f"{name}.{at}"), one) for at, one in enumerate(each.get(name, ()))]
        for name in _NAMED:
            if name in each:
                named = _Place(place, name)
                left += [(_Place(named, key), one) for key, one in each[name].items()]
    return None


def _is_type(value: Any) -> bool:
    names = value if _is_list(value) else [value]
    return bool(names) and all(isinstance(each, str) and each in _TYPES for each in names)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_texts(value: Any) -> bool:
    return _is_list(value) and all(isinstance(each, str) for each in value)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and (isinstance(value, int) or value.is_integer())


def _is_limit(value: Any) -> bool:
    return _is_number(value) or isinstance(value, bool)  # until 2017 `exclusiveMinimum` was a flag


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("type", _is_type, f"one of {', '.join(sorted(_TYPES))}, or a list of them"),
    ("enum", _is_list, "a list"),
    ("required", _is_texts, "a list of names"),
    ("$ref", _is_text, "a text"),
    ("pattern", _is_text, "a text"),
    *((name, _is_list, "a list of schemas") for name in _SEVERAL),
    *((name, _is_object, "an object of schemas") for name in _NAMED),
    *((name, _is_count, "a whole number from 0 on") for name in _COUNTS),
    *((name, _is_limit, "a number") for name in _NUMBERS),
)

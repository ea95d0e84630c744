"""Values between tags, made JSON by the schema of the tool."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_kit.tool_calls.tagged import MOST_TYPED
from adapter_kit.tool_calls.typed import types_of
from tests.adapter_kit.tool_calls.reading import joined, parts_of

pytestmark = pytest.mark.spec("ORCH-3073-017")

INTEGER, STRING, NULL = {"type": "integer"}, {"type": "string"}, {"type": "null"}


def value(text: str, schema: Any, root: Any = None) -> Any:
    """Return what a value becomes; `None` for a schema is none."""
    properties = {} if schema is None else {"v": schema}
    tools = {"f": {"type": "object", "properties": properties, **(root or {})}}
    written = f"<tool_call>\n<function=f>\n<parameter=v>\n{text}\n</parameter>\n</function>\n</tool_call>"
    (call,) = joined(parts_of("qwen3_coder", [written], tools))
    return json.loads(call[1])["v"]


@pytest.mark.parametrize(
    "text, schema, expected",
    [
        ("12", INTEGER, 12),
        ("12.0", INTEGER, 12),
        ("-7", {"type": "number"}, -7),
        ("1e3", {"type": "number"}, 1000.0),
        ("12345678901234567890123", INTEGER, 12345678901234567890123),
        ("007", INTEGER, "007"),
        ("12.5", INTEGER, "12.5"),
        ("NaN", {"type": "number"}, "NaN"),
        ("many", INTEGER, "many"),
        ("", INTEGER, ""),
        ("True", {"type": "boolean"}, True),
        ("false", {"type": "boolean"}, False),
        ("yes", {"type": "boolean"}, "yes"),
        ("null", NULL, None),
        ("None", INTEGER, None),
        ("null", STRING, "null"),
        ("null", {"type": ["string", "null"]}, None),
        ("null", {"anyOf": [STRING, NULL]}, None),
        ("null", {"type": "string", "nullable": True}, None),
        ("5", {"oneOf": [INTEGER, STRING]}, 5),
        ("five", {"oneOf": [INTEGER, STRING]}, "five"),
        ("12", STRING, "12"),
        ("12", None, "12"),
        ("12", {}, "12"),
        ("12", True, "12"),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        ("{'a': True}", {"type": "object"}, {"a": True}),
        ("[1, 2]", {"type": "object"}, "[1, 2]"),
        ("{1}", {"type": "object"}, "{1}"),
        ("[1, 'x']", {"type": "array"}, [1, "x"]),
        ("[1,", {"type": "array"}, "[1,"),
        ("[" * 2000, {"type": "array"}, "[" * 2000),
        ('{"a": 1}', {"properties": {"a": INTEGER}}, {"a": 1}),
        ("[1]", {"items": INTEGER}, [1]),
        ("2", {"enum": [1, 2]}, 2),
        ("2", {"enum": ["1", "2"]}, "2"),
        ("2", {"const": 2}, 2),
        ("  a\n\n b ", STRING, "  a\n\n b "),
        ('a "b" \\ é \t', STRING, 'a "b" \\ é \t'),
    ],
)
def test_a_value_becomes_what_its_schema_says_or_stays_a_string(text: str, schema: Any, expected: Any) -> None:
    found = value(text, schema)
    assert found == expected
    assert type(found) is type(expected)


def test_references_are_followed_and_those_in_circles_are_not() -> None:
    root = {"$defs": {"N": INTEGER, "M": {"$ref": "#/$defs/N"}, "C": {"$ref": "#/$defs/C"}, "a/b": INTEGER}}
    assert value("1", {"$ref": "#/$defs/M"}, root) == 1
    assert value("1", {"$ref": "#/$defs/a~1b"}, root) == 1
    assert value("1", {"$ref": "#/$defs/C"}, root) == "1"
    assert value("1", {"$ref": "#/nowhere"}, root) == "1"
    assert value("1", {"anyOf": [{"$ref": "#/$defs/N"}, NULL]}, root) == 1
    circle: dict[str, Any] = {"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}] * 20}}}
    assert types_of({**circle, "properties": {"v": {"$ref": "#/$defs/A"}}}, "v") is None


def test_a_value_that_is_too_long_to_be_held_is_a_string() -> None:
    text = "[" + "1," * MOST_TYPED + "1]"
    assert value(text, {"type": "array"}) == text

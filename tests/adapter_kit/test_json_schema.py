"""JSON Schemas that are none are told from those that are, before an engine is asked to compile one."""

from __future__ import annotations

from itertools import product
from typing import Any

import jsonschema
import pytest

from adapter_kit.json_schema import why_no_schema

no_spec = "a tool that faces and templates share; what is refused with it is tried at the faces"

NONE: list[tuple[Any, str]] = [
    ("string", "it must be a schema"),
    ([], "it must be a schema"),
    ({"type": "strin"}, "type must be one of"),
    ({"type": []}, "type must be one of"),
    ({"type": ["string", 1]}, "type must be one of"),
    ({"type": None}, "type must be one of"),
    ({"properties": []}, "properties must be an object of schemas"),
    ({"properties": {"a": "string"}}, "properties.a must be a schema"),
    ({"properties": {"a": {"type": "int"}}}, "properties.a.type must be one of"),
    ({"required": "a"}, "required must be a list of names"),
    ({"required": [1]}, "required must be a list of names"),
    ({"items": "string"}, "items must be a schema"),
    ({"items": [{"type": "x"}]}, "items.0.type must be"),
    ({"anyOf": {"type": "string"}}, "anyOf must be a list of schemas"),
    ({"anyOf": [{}, None]}, "anyOf.1 must be a schema"),
    ({"enum": "a"}, "enum must be a list"),
    ({"$defs": {"A": 1}}, "$defs.A must be a schema"),
    ({"$defs": [1]}, "$defs must be an object"),
    ({"$ref": {}}, "$ref must be a text"),
    ({"pattern": 1}, "pattern must be a text"),
    ({"minItems": -1}, "minItems must be a whole number"),
    ({"maxLength": 1.5}, "maxLength must be a whole number"),
    ({"minimum": "0"}, "minimum must be a number"),
    ({"additionalProperties": 1}, "additionalProperties must be a schema"),
]
SOME: list[Any] = [
    True,
    {},
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#/$defs/A"}, "minItems": 1, "$defs": {"A": {"enum": [1, None]}}},
    {"anyOf": [{"type": "string"}, True], "title": 3, "unheard of": [1]},
    {"maxItems": 2.0, "exclusiveMinimum": 0, "additionalProperties": False},
    {"properties": {"type": {"type": "string"}, "items": {"type": "array"}, "required": True}},
    {"enum": []},
]


@pytest.mark.parametrize("schema, said", NONE)
def test_what_is_no_schema_is_told_with_its_place(schema: Any, said: str) -> None:
    assert (why_no_schema(schema) or "").startswith(said)


@pytest.mark.parametrize("schema", SOME)
def test_schemas_pass(schema: Any) -> None:
    assert why_no_schema(schema) is None


def test_nothing_is_refused_that_the_metaschemas_take() -> None:
    values: list[Any] = [None, True, 0, -1, 1.0, 1.5, "a", "string", [], ["a"], [{}], [True], {}, {"a": {}}, {"a": 1}]
    names = [
        "type", "enum", "required", "$ref", "pattern", "items", "not", "additionalProperties", "anyOf", "prefixItems",
        "properties", "$defs", "minItems", "maxLength", "minimum", "multipleOf", "exclusiveMaximum",
    ]  # fmt: skip
    valid = [jsonschema.Draft202012Validator, jsonschema.Draft4Validator]
    wrongly = []
    for name, value in product(names, values):
        schema = {name: value}
        for validator in valid:
            try:
                validator.check_schema(schema)
            except jsonschema.SchemaError:
                continue
            if name in validator.META_SCHEMA.get("properties", {}) or validator is valid[0]:
                wrongly += [(schema, why)] if (why := why_no_schema(schema)) is not None else []
                break

    assert wrongly == []


def test_a_deep_schema_is_looked_at_to_its_bottom() -> None:
    schema: dict[str, Any] = {"type": "nothing"}
    for _ in range(2000):
        schema = {"items": schema}

    assert (why_no_schema(schema) or "").endswith("items.type must be one of array, boolean, integer, null, number, "
                                                  "object, string, or a list of them")  # fmt: skip

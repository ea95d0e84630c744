"""What an OpenAI request says of the answer's format: the API's own way, and vLLM's. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import InvalidRequest, Unsupported
from adapter_kit.json_schema import why_no_schema

_WAYS = frozenset({"whitespace_pattern", "disable_any_whitespace", "disable_additional_properties"})
"""How vLLM makes a format of a constraint, which is none of itself."""
GUIDED = {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}

_CONSTRAINTS = frozenset({"structured_outputs", *GUIDED})


def response_format_of(asked: Any) -> dict[str, Any] | None:
    kind = asked.get("type") if isinstance(asked, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json"}
    if kind == "json_schema" and isinstance(asked.get("json_schema"), dict):
        schema = asked["json_schema"].get("schema")
        if schema is not None:  # without one the task is refused, by its name there
            require_schema(schema, "response_format.json_schema.schema")
        return {"type": "json_schema", "json_schema": schema}
    if kind in ("regex", "grammar"):
        return {"type": kind, kind: asked.get(kind)}
    raise Unsupported(f"'response_format' of type {str(kind)[:64]!r} is not supported")


def require_schema(schema: Any, name: str) -> None:
    """Raise `InvalidRequest` when a JSON Schema is none; `name` is the field that has it."""
    if (fault := why_no_schema(schema)) is not None:
        raise InvalidRequest(f"{name!r} is no JSON Schema: {fault}")


def constrain(task: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Take what vLLM's clients say of the answer's format."""
    if _CONSTRAINTS.isdisjoint(fields):
        return
    asked = fields.get("structured_outputs") or {}
    if not isinstance(asked, dict):
        raise InvalidRequest("'structured_outputs' must be an object")
    for name in _WAYS & asked.keys():
        if asked[name] not in (None, False):
            raise Unsupported(f"'structured_outputs.{name}' is not supported here; leave it out")
    asked = {name: value for name, value in asked.items() if name not in _WAYS and value is not None}
    asked |= {ours: fields[name] for name, ours in GUIDED.items() if fields.get(name) is not None}
    if asked.get("json_object") is False:
        del asked["json_object"]
    if not asked:
        return
    if len(asked) > 1 or "response_format" in task:
        raise InvalidRequest("'structured_outputs' constrains the answer in one way, and 'response_format' in another")
    [(kind, value)] = asked.items()
    task["response_format"] = _guided(kind, value)


def _guided(kind: str, value: Any) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json"}
    if kind == "json":
        if isinstance(value, str):
            try:
                value = msgspec.json.decode(value)
            except msgspec.DecodeError as exc:
                raise InvalidRequest("'structured_outputs.json' must be a JSON Schema") from exc
        require_schema(value, "structured_outputs.json")
        return {"type": "json_schema", "json_schema": value}
    if kind == "choice":
        if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
            raise InvalidRequest("'structured_outputs.choice' must be a list of texts, with at least one in it")
        return {"type": "regex", "regex": "|".join(f"({re.escape(each)})" for each in value)}
    if kind in ("regex", "grammar"):
        if not isinstance(value, str) or not value:
            raise InvalidRequest(f"'structured_outputs.{kind}' must be a text that is not empty")
        return {"type": kind, kind: value}
    raise Unsupported(f"'structured_outputs.{kind}' is not supported here; leave it out")


def is_empty(value: Any) -> bool:
    return value is False or (isinstance(value, str | list | dict) and not value)

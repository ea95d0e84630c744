"""Texts that keep a constraint: a JSON Schema, any JSON object, a regular expression, or one of several texts.

The names are those of vLLM's StructuredOutputsParams. The text is made beforehand; written token by token it is what a
mask over the vocabulary comes to when the constraint leaves one choice each time.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

_WORDS = ("red", "green", "blue", "river", "stone", "cloud")
_REPEATED_AT_MOST = 4
# Python's own parser of regular expressions; there is no public one.
_parser = re._parser  # type: ignore[attr-defined]


def constrained_text(constraint: Mapping[str, Any], chance: random.Random) -> str:
    """Return a text that keeps the constraint.

    Raises:
        ValueError: The constraint is of a kind that this model does not know, or is none.
    """
    given = {name: value for name, value in constraint.items() if value is not None}
    if len(given) != 1:
        raise ValueError("structured_outputs needs exactly one of json, json_object, regex, choice")
    ((kind, value),) = given.items()
    if kind == "json":
        return json.dumps(_instance(value, value, chance))
    if kind == "json_object":
        return json.dumps({chance.choice(_WORDS): chance.randrange(10)})
    if kind == "regex":
        return _matching(_parse(value), chance)
    if kind == "choice":
        return str(chance.choice(value))
    raise ValueError(f"structured_outputs.{kind} is not supported by this model")


def _instance(schema: Any, root: Any, chance: random.Random) -> Any:
    if not isinstance(schema, Mapping):
        return None
    if "$ref" in schema:
        return _instance(_resolve(schema["$ref"], root), root, chance)
    for name in ("enum", "anyOf", "oneOf"):
        if name in schema:
            chosen = chance.choice(schema[name])
            return chosen if name == "enum" else _instance(chosen, root, chance)
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: _instance(inner, root, chance) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        size = max(schema.get("minItems", 1), 0)
        return [_instance(schema.get("items", {"type": "integer"}), root, chance) for _ in range(size)]
    if kind in ("integer", "number"):
        return _number(schema, chance)
    if kind == "boolean":
        return chance.random() < 0.5
    return None if kind == "null" else _word(schema, chance)


def _resolve(reference: str, root: Any) -> Any:
    for step in reference.removeprefix("#/").split("/"):
        root = root[step]
    return root


def _number(schema: Mapping[str, Any], chance: random.Random) -> int:
    low = int(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
    high = int(schema.get("maximum", schema.get("exclusiveMaximum", low + 10) - 1))
    return chance.randint(low, max(low, high))


def _word(schema: Mapping[str, Any], chance: random.Random) -> str:
    if "pattern" in schema:
        return _matching(_parse(schema["pattern"]), chance)
    word = chance.choice(_WORDS)
    word *= -(-schema.get("minLength", 0) // len(word)) or 1
    return word[: schema.get("maxLength", len(word))]


def _parse(pattern: str) -> Any:
    try:
        return _parser.parse(pattern)
    except re.error as error:
        raise ValueError(f"invalid regular expression: {error}") from error


def _matching(pattern: Iterable[tuple[Any, Any]], chance: random.Random) -> str:
    """Return a text that the parsed expression matches; anchors and look-arounds are taken for granted."""
    written = ""
    for operation, argument in pattern:
        name = str(operation)
        if name == "LITERAL":
            written += chr(argument)
        elif name in ("ANY", "NOT_LITERAL", "IN"):
            written += chance.choice(_letters(name, argument))
        elif name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = argument
            times = chance.randint(low, max(low, min(high, low + _REPEATED_AT_MOST)))
            written += "".join(_matching(inner, chance) for _ in range(times))
        elif name == "SUBPATTERN":
            written += _matching(argument[-1], chance)
        elif name == "BRANCH":
            written += _matching(chance.choice(argument[1]), chance)
        elif name not in ("AT", "ASSERT", "ASSERT_NOT"):
            raise ValueError(f"{name.lower()} in a regular expression is not supported by this model")
    return written


def _letters(name: str, argument: Any) -> list[str]:
    """Return the printable characters that one place of an expression may take."""
    if name == "ANY":
        return list(string.ascii_lowercase)
    one = [("NOT_LITERAL", argument)] if name == "NOT_LITERAL" else argument
    negated = any(str(operation) in ("NEGATE", "NOT_LITERAL") for operation, _ in one)
    allowed = [letter for letter in string.printable if any(_covers(letter, *item) for item in one) is not negated]
    if not allowed:
        raise ValueError("a part of the regular expression matches no printable character")
    return allowed


def _covers(letter: str, operation: Any, argument: Any) -> bool:
    name = str(operation)
    if name in ("LITERAL", "NOT_LITERAL"):
        return letter == chr(argument)
    if name == "RANGE":
        return ord(letter) in range(argument[0], argument[1] + 1)
    if name == "CATEGORY":
        kind = str(argument).removeprefix("CATEGORY_")
        found = {"DIGIT": letter.isdigit(), "SPACE": letter.isspace(), "WORD": letter.isalnum() or letter == "_"}
        return not found[kind.removeprefix("NOT_")] if kind.startswith("NOT_") else found[kind]
    return False

"""JSON by its schema, filled with what a text says."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from .planning import EXPRESSION, LAST, stems

_NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"(?P<number>{_NUMBER})|(?P<last>{LAST.pattern})", re.IGNORECASE)
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)|`([^`]+)`")
_AFTER = re.compile(
    r"\b(?:of|for|in|at|about|from|called|named)\s+(?:an?\s+|the\s+)?"
    r"(?P<phrase>[^\s.,;?!]+(?:\s+(?!(?:in|at|for|by|to|with|using|and|please|cost|costs|today|tomorrow|is|was)\b)[^\s.,;?!]+)*)"
)
_PROPER = re.compile(r"\b[A-ZÄÖÜ][\w'’-]*(?:\s+[A-ZÄÖÜ][\w'’-]*)*")
_NO_NAMES = frozenset(
    "What Which Who How Is Are Use Look Find Tell Give Get Please Add Multiply The Extract I In Now Then".split()
)
_DEEPEST = 16


class Filler:
    """Makes values out of a text. What it has given once it does not give again.

    Args:
        text: The question, or the part of it that is meant.
        last: What the last tool answered, which "it" and "the result" stand for.
        known: Stems of words that name the tool, and so none of its arguments.
    """

    def __init__(self, text: str, last: str | None = None, known: Collection[str] = ()) -> None:
        self._text = text
        self._last = last
        self._known = known
        self._numbers = list(self._found_numbers())
        self._phrases = list(self._found_phrases())

    def fill(self, schema: Any, *, root: Any = None, name: str = "", depth: int = 0) -> Any:
        """Return a value that the schema allows."""
        root = schema if root is None else root
        if not isinstance(schema, Mapping) or depth > _DEEPEST:
            return self._phrase()
        if "$ref" in schema:
            return self.fill(_resolve(schema["$ref"], root), root=root, name=name, depth=depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._one_of(schema["enum"])
        for several in ("anyOf", "oneOf", "allOf"):
            if schema.get(several):
                fitting = [each for each in schema[several] if each.get("type") != "null"]
                return self.fill((fitting or schema[several])[0], root=root, name=name, depth=depth + 1)
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = next((each for each in kind if each != "null"), "null") if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(schema, root, depth)
        if kind == "array":
            least = max(int(schema.get("minItems", 1)), 1)
            items = schema.get("items", {})
            return [self.fill(items, root=root, name=name, depth=depth + 1) for _ in range(least)]
        if kind in ("integer", "number"):
            number = self._number()
            return int(number) if kind == "integer" or number == int(number) else number
        if kind == "boolean":
            return True
        return None if kind == "null" else self._string(name)

    def _object(self, schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or list(properties)
        wanted = [name for name in properties if name in required or self._is_said(properties[name])]
        return {name: self.fill(properties[name], root=root, name=name, depth=depth + 1) for name in wanted}

    def _is_said(self, schema: Any) -> bool:
        """Whether the text has a value for what may be left out."""
        if not isinstance(schema, Mapping):
            return False
        if schema.get("enum"):
            return any(str(each).lower() in self._text.lower() for each in schema["enum"])
        return schema.get("type") in ("integer", "number") and bool(self._numbers)

    def _one_of(self, values: list[Any]) -> Any:
        return next((each for each in values if str(each).lower() in self._text.lower()), values[0])

    def _number(self) -> float:
        return self._numbers.pop(0) if self._numbers else 0

    def _string(self, name: str) -> str:
        if (found := EXPRESSION.search(self._text)) and not re.search(r"name|city|place|item|unit", name):
            return found[0].strip().replace("x", "*").replace("×", "*").replace("÷", "/").replace("^", "**")
        return self._phrase(proper="name" in name)

    def _phrase(self, *, proper: bool = False) -> str:
        if proper and (found := [each for each in self._proper() if each in self._phrases]):
            self._phrases.remove(found[0])
            return found[0]
        if self._phrases:
            return self._phrases.pop(0)
        return self._text if self._last is None or not LAST.search(self._text) else self._last

    def _found_numbers(self) -> list[float]:
        found = [float(m["number"]) if m["number"] else number_in(self._last) for m in _VALUE.finditer(self._text)]
        return [number for number in found if number is not None]

    def _found_phrases(self) -> list[str]:
        quoted = [next(filter(None, each)) for each in _QUOTED.findall(self._text)]
        after = [m["phrase"] for m in _AFTER.finditer(self._text) if not LAST.fullmatch(m["phrase"])]
        words = [word for word in re.findall(r"[^\W\d_]+", self._text) if stems(word) - set(self._known)]
        proper = self._proper()
        after = [each for each in after if not re.fullmatch(_NUMBER, each) and not any(each in name for name in proper)]
        return list(dict.fromkeys([*quoted, *(proper or after), *after, *words]))

    def _proper(self) -> list[str]:
        return [each for each in _PROPER.findall(self._text) if re.split(r"[\s'’]", each)[0] not in _NO_NAMES]


def number_in(text: str | None) -> float | None:
    """Return the first number that a tool's answer has."""
    found = re.search(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", text or "")
    return float(found[0]) if found else None


def _resolve(reference: str, root: Any) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        root = root[part]
    return root

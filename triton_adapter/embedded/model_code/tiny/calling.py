"""Calls of the tools that a prompt offers, by rules: a stand-in for models that learnt to.

It reads what `chat_template.jinja` beside the model writes. Of the tools it takes the one that has the most words in
common with the question, and fills the arguments with what the question says; of what a tool answered it tells. Asked
without tools it goes on with the text as the language model does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_OFFER = re.compile(r"<tools>\n(.*?)\n</tools>", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
_PHRASE = re.compile(
    r"\b(?:in|of|for|from|to|at|about|named|called)\s+(?:the\s+|an?\s+)?"
    r"([^\W\da-z_][\w-]*(?:\s+[^\W\da-z_][\w-]*)*|[^\s,;?!.]+)"
)
"""What follows a preposition: a name of several words, or one word."""
_STEM = 4
"""Letters by which words are the same: add, added, adding."""


def answer(prompt: str) -> str | None:
    """Return what follows a prompt that offers tools: a call, or a sentence; `None` after any other."""
    turns = [(match[1], match[2].strip()) for match in _TURN.finditer(prompt)]
    offer = next((found for role, text in turns if role == "system" and (found := _OFFER.search(text))), None)
    if offer is None:
        return None
    asked = max((at for at, (role, _) in enumerate(turns) if role == "user"), default=None)
    if asked is None:
        return "I was asked nothing."
    results = [text for role, text in turns[asked:] if role == "tool"]
    if results:
        return f"The answer is {', '.join(results)}."
    question = turns[asked][1]
    tools = [each.get("function", each) for each in map(json.loads, offer[1].splitlines())]
    best = max(tools, key=lambda tool: _in_common(tool, question))
    if not _in_common(best, question):
        return f"None of my tools is for this: {question}"
    call = {"name": best["name"], "arguments": _Arguments(question).fill(best.get("parameters") or {})}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _in_common(tool: Mapping[str, Any], question: str) -> int:
    return len(_stems(f"{tool['name'].replace('_', ' ')} {tool.get('description') or ''}") & _stems(question))


def _stems(text: str) -> set[str]:
    return {word[:_STEM].lower() for word in _WORD.findall(text) if len(word) > 2}


class _Arguments:
    """Values out of a question, each used once, in the order of the properties."""

    def __init__(self, question: str) -> None:
        self._question = question
        self._numbers = _NUMBER.findall(question)
        self._phrases = _PHRASE.findall(question)

    def fill(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or list(properties)
        return {name: self._value(kind) for name, kind in properties.items() if name in required}

    def _value(self, schema: Mapping[str, Any]) -> Any:
        if schema.get("enum"):
            said = (each for each in schema["enum"] if str(each).lower() in self._question.lower())
            return next(said, schema["enum"][0])
        match schema.get("type"):
            case "number" | "integer" as kind:
                number = float(self._numbers.pop(0)) if self._numbers else 0.0
                return int(number) if kind == "integer" or number.is_integer() else number
            case "boolean":
                return True
            case "array":
                return [self._value(schema.get("items") or {})]
            case "object":
                return self.fill(schema)
            case "null":
                return None
        return self._phrases.pop(0) if self._phrases else self._question

"""What a model of these tests answers: it reads its prompt, finds the tools that are asked for, and works out their
arguments from the words and the tools' schemas."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.orchestrator.real_clients.tool_model.writing import Call, in_turn

TEMPLATE = (
    '{"grammar": "GRAMMAR", "tools": {{ (tools or []) | tojson }}, "messages": ['
    "{%- for m in messages %}{{ ', ' if not loop.first }}{{ {'role': m.role, 'content': m.content, "
    "'calls': m.tool_calls or [], 'call': m.tool_call_id or ''} | tojson }}{%- endfor %}]}"
)
"""A prompt is an object in JSON; a pool's template names its grammar."""
RAW = "say exactly: "
"""What a question begins with that is to be answered by the rest of it."""


def answer(prompt: str, schema: Mapping[str, Any] | None = None) -> str:
    """Return what the model writes.

    A question is lines: `tool: words` has a tool called, any other line is said. What tools have answered is told.

    Args:
        prompt: The prompt.
        schema: What the answer has to keep: the arguments of a tool, or a list of calls.
    """
    told = json.loads(prompt)
    tools = {each["function"]["name"]: each["function"].get("parameters") or {} for each in told["tools"]}
    messages = told["messages"]
    question = next(each["content"] for each in reversed(messages) if each["role"] == "user")
    if messages[-1]["role"] == "tool":
        results = [each["content"] for each in messages if each["role"] == "tool"]
        return f"It came to {' and '.join(results)}."
    if question.startswith(RAW):
        return str(question.removeprefix(RAW))
    parts = list(parts_of(question, tools))
    if schema is None:
        return in_turn(parts, told["grammar"])
    calls = [part for part in parts if not isinstance(part, str)]
    if schema.get("type") == "array":
        return json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls], ensure_ascii=False)
    return json.dumps(next(each for name, each in calls if tools[name] == schema), ensure_ascii=False)


def parts_of(question: str, tools: Mapping[str, Mapping[str, Any]]) -> Iterable[str | Call]:
    """Yield what is said, and the calls in it."""
    for line in question.split("\n"):
        head, _, words = line.partition(": ")
        yield (head, arguments_of(words, tools[head])) if head in tools else line


def arguments_of(words: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an argument for each property, by its type."""
    return {name: _value(words, each.get("type")) for name, each in schema.get("properties", {}).items()}


def _value(words: str, kind: str | None) -> Any:
    match kind:
        case "integer":
            return -len(words.split())
        case "number":
            return len(words) / 4
        case "boolean":
            return words.endswith("!")
        case "array":
            return words.split()
        case "object":
            letters = Counter(each for each in words.lower() if not each.isalnum() and not each.isspace())
            return {"marks": dict(sorted(letters.items())), "first": [words.split()[0], {"none": None, "deep": [[]]}]}
        case "null":
            return None
    return words

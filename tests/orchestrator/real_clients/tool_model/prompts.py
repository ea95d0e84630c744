"""What a rendered prompt says: the tools, the question, and what tools have answered since."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .layouts import SIGNS

_TURNS = (
    re.compile(r"<\|im_start\|>(?P<role>\w+)\n?(?P<text>.*?)(?=<\|im_end\|>|<\|im_start\|>|\Z)", re.DOTALL),
    re.compile(
        r"<\|(?:start_header_id|header_start)\|>(?P<role>\w+)<\|(?:end_header_id|header_end)\|>\s*"
        r"(?P<text>.*?)(?=<\|eo[tm]_id\|>|<\|eo[tm]\|>|<\|(?:start_header_id|header_start)\|>|\Z)",
        re.DOTALL,
    ),
    re.compile(r"<start_of_turn>(?P<role>\w+)\n(?P<text>.*?)(?=<end_of_turn>|<start_of_turn>|\Z)", re.DOTALL),
    re.compile(
        r"\[(?P<role>INST|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT)\](?P<text>.*?)(?=\[/(?P=role)\]|\Z)", re.DOTALL
    ),
    re.compile(r"<\|(?P<role>system|user|assistant|tool)\|>\s*(?P<text>.*?)(?=<\|\w+\|>|\Z)", re.DOTALL),
    re.compile(
        r"(?:^|\n\n)(?P<role>system|user|assistant|tool): ?(?P<text>.*?)(?=\n\n(?:system|user|assistant|tool):|\Z)",
        re.DOTALL,
    ),
)
_ROLES = {
    "INST": "user", "TOOL_RESULTS": "tool", "AVAILABLE_TOOLS": "system", "SYSTEM_PROMPT": "system",
    "model": "assistant", "ipython": "tool", "developer": "system",
}  # fmt: skip
_RESPONSE = re.compile(r"<tool_response>\s*(.*?)\s*</tool_response>", re.DOTALL)
_OBSERVED = re.compile(r"Observation:\s*(.*)", re.DOTALL)
"""Some frameworks bring what a tool said as a user's words."""
_ASKS_FOR_JSON = re.compile(r"\s*Return the correct JSON")
_GRAMMARS = (
    *((name, re.compile(re.escape(sign))) for name, sign in SIGNS.items()),
    ("mistral", re.compile(r"\[AVAILABLE_TOOLS\]|\[TOOL_CALLS\]")),
    ("hermes", re.compile(r"<tool_call>")),
    ("pythonic", re.compile(r"<\|python_start\|>|\[\s*\w+\(\w+\s*=")),
    ("llama3_json", re.compile(r"<\|start_header_id\|>")),
)


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Prompt:
    """`results` are the tools' answers since the question, `grammar` how a call is to be written, and `schema` that of
    the JSON which the words ask for, if they do."""

    tools: tuple[Tool, ...]
    question: str
    results: tuple[str, ...]
    grammar: str
    schema: Mapping[str, Any] | None


def read(prompt: str) -> Prompt:
    """Read a prompt in whichever layout it is; one without any is a question."""
    turns = _turns(prompt)
    tools: dict[str, Tool] = {}
    schema: Mapping[str, Any] | None = None
    question, results = "", []
    for role, text in turns:
        if role in ("system", "user"):
            found, end = _objects(text)
            tools |= {tool.name: tool for tool in map(_tool, found) if tool is not None}
            schema = next((each for each in found if _is_schema(each)), schema)
        responses = _RESPONSE.findall(text) or [m[1].strip() for m in [_OBSERVED.match(text)] if m]
        if role == "tool" or responses:
            results += responses or [text.strip()]
        elif role == "user" and _ASKS_FOR_JSON.match(text) is None:
            question, results = text[end:].strip(" \n]"), []
    grammar = next((name for name, sign in _GRAMMARS if sign.search(prompt)), "hermes")
    return Prompt(tuple(tools.values()), question, tuple(map(_content, results)), grammar, schema)


def _turns(prompt: str) -> list[tuple[str, str]]:
    for pattern in _TURNS:
        found = [(_ROLES.get(m["role"], m["role"]), m["text"]) for m in pattern.finditer(prompt)]
        if found:
            return found
    return [("user", prompt)]


def _objects(text: str) -> tuple[list[dict[str, Any]], int]:
    """Return the JSON objects in a text, and where the last one ends that is a tool or a schema."""
    decoder, found, at, end = json.JSONDecoder(), [], 0, 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, after = decoder.raw_decode(text, at)
        except ValueError:
            at += 1
            continue
        if _tool(value) is not None or _is_schema(value):
            found.append(value)
            end = after
        at = after
    return found, end


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("properties"), dict) and "name" not in value


def _tool(value: Any) -> Tool | None:
    value = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or "arguments" in value:
        return None
    parameters = value.get("parameters") or {}
    if not isinstance(parameters, dict) or ("parameters" not in value and "description" not in value):
        return None
    return Tool(value["name"], str(value.get("description") or ""), parameters)


def _content(result: str) -> str:
    """Some layouts wrap a result: `{"content": …, "call_id": …}`, `{"output": …}`."""
    try:
        value = json.loads(result)
    except ValueError:
        match = re.match(r'\{"content": (.*), "call_id": "[^"]*"\}$', result, re.DOTALL)
        return match[1].strip() if match else result
    for name in ("content", "output", "result"):
        if isinstance(value, dict) and name in value and len(value) <= 2:
            value = value[name]
    return value if isinstance(value, str) else json.dumps(value)

"""Messages and tools as the values that templates are written for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from adapter_api import Message, TextPart, Tool, ToolCall

if TYPE_CHECKING:
    from adapter_kit.chat_template.analysis import Expected


class Parts(list[dict[str, Any]]):
    """The parts of a content. Where a template that goes through them elsewhere prints them as they are, as some do
    with a system message, they are their text."""

    def __str__(self) -> str:
        return "".join(part.get("text", "") for part in self)

    def __add__(self, other: Any) -> Any:
        return str(self) + other if isinstance(other, str) else super().__add__(other)

    def __radd__(self, other: Any) -> Any:
        return other + str(self) if isinstance(other, str) else NotImplemented


def value_of(
    message: Message, expected: Expected, *, without_image: int | None = None, arguments_as_text: bool = False
) -> dict[str, Any]:
    """Return a message for a template, perhaps without one of its images, and with the arguments of its calls as JSON
    in a text."""
    fields: dict[str, Any] = {"role": message.role, "content": _content(message, expected, without_image)}
    if message.name is not None:
        fields["name"] = message.name
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": _id(call.id, expected),
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": (call.arguments or "{}") if arguments_as_text else _arguments(call),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = _id(message.tool_call_id, expected)
    if message.reasoning:
        fields["reasoning_content"] = fields["reasoning"] = message.reasoning  # by the names that templates look for
    return fields


def marked(message: Message, mark: str) -> Message:
    """Return a message that ends with a text, with a mark behind that."""
    content = message.content
    text = message.last_text + mark
    whole = (*content[:-1], TextPart(text=text)) if isinstance(content, tuple) else text
    return message.model_copy(update={"content": whole})


def value_of_tool(tool: Tool) -> dict[str, Any]:
    """Return a tool for a template, with what it was given and no more."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if "parameters" in tool.model_fields_set:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def plain(value: Any) -> Any:
    """Return a JSON value that templates and `tojson` know, of a frozen one."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def _content(message: Message, expected: Expected, without_image: int | None) -> Any:
    content = message.content
    if content is None and expected.tells_null:
        return None
    if not expected.parts:
        return message.text
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else []
    if isinstance(content, tuple):
        left_out = None if without_image is None else message.images[without_image]
        parts = [
            {"type": "text", "text": part.text} if part.type == "text" else {"type": expected.image_type}
            for part in content
            if part is not left_out
        ]
    if expected.tells_text and (not isinstance(content, tuple) or (len(content) == 1 and not message.images)):
        return message.text
    return Parts(parts)


def _id(id: str, expected: Expected) -> str:
    """Return an id as the template wants it. Some demand a length that other servers' ids, and ours, have not: those
    become others, always the same one for the same id."""
    length = expected.id_length
    if length is None or (len(id) == length and id.isalnum()):
        return id
    return hashlib.sha256(id.encode()).hexdigest()[:length]


def _arguments(call: ToolCall) -> Any:
    """Most templates write arguments out with `tojson`: what is a JSON text already would be quoted."""
    if not call.arguments.strip():
        return {}  # of a function that takes none
    try:
        return json.loads(call.arguments, parse_constant=_no_json, parse_float=_finite)
    except (ValueError, RecursionError):
        return call.arguments


def _no_json(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("no number that can be written again")
    return number

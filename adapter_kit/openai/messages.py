"""The conversation and the tools of an OpenAI request, as a task has them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_api import InvalidRequest, Unsupported

_MESSAGE = frozenset({"role", "name", "tool_call_id", "content", "tool_calls"})
_IGNORED_IN_MESSAGES = frozenset({"annotations", "refusal", "reasoning_content", "reasoning"})
"""What answers carry beside their words: clients send them back with the conversation."""


def message_of(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise InvalidRequest("messages must be objects with role and content")
    for name, value in message.items():
        if name not in _MESSAGE and value and name not in _IGNORED_IN_MESSAGES:
            raise Unsupported(f"{name!r} of a message is not supported here; leave it out")
    found = {name: message[name] for name in ("role", "name", "tool_call_id") if message.get(name) is not None}
    content = message.get("content")
    found["content"] = [_part(part) for part in content] if isinstance(content, list) else content or ""
    if message.get("tool_calls"):
        found["tool_calls"] = [_tool_call(call) for call in list_of(message, "tool_calls")]
        if content is None:
            found["content"] = None  # templates tell it from an empty text
    return found


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return {"type": "text", "text": part.get("text")}
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        # Models that fetch images themselves take those; the others refuse them by name.
        is_remote = isinstance(url, str) and url.lower().startswith(("http://", "https://"))
        return {"type": "image", "url" if is_remote else "data": url}
    raise Unsupported(f"content parts of type {kind!r} are not supported: text and image_url are")


def _tool_call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest("tool_calls must have an id and a function")
    return {"id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}


def tool_of(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        raise Unsupported("tools must be of type function")
    return {name: function[name] for name in ("name", "description", "parameters") if function.get(name) is not None}


def tool_choice_of(choice: Any) -> str | None:
    if isinstance(choice, dict):
        function = choice.get("function")
        return function.get("name") if isinstance(function, dict) else None
    return choice if isinstance(choice, str) else None


def list_of(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise InvalidRequest(f"{name!r} must be a list")
    return value

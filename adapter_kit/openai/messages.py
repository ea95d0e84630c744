"""The conversation and the tools of an OpenAI request, as a task has them. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_api import InvalidRequest, Unsupported

_MESSAGE = frozenset({"role", "name", "tool_call_id", "content", "tool_calls"})
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Content parts that are text, and where they have it: answers, sent back, have other words for it than questions."""
_PART = frozenset({
    "type", "text", "refusal", "image_url", "cache_control", "annotations", "logprobs", "detail", "id", "uuid",
    "prompt_cache_breakpoint",
})  # fmt: skip
"""Fields of a content part that are read, or that say nothing of what it means."""
_IGNORED_IN_MESSAGES = frozenset({
    "annotations", "refusal", "reasoning_content", "reasoning", "reasoning_details", "thinking_blocks",
    "provider_specific_fields", "cache_control", "id",
})  # fmt: skip
"""What answers carry beside their words: clients send them back with the conversation."""
MOST_NAMED = 32
"""Fields that nobody knows and that are looked for: a million messages may have a million."""


_REFUSED_IN_MESSAGES = frozenset({"audio", "function_call"})
"""What a model would have to see: an answer that was spoken, and a call as it was told before there were tools."""


def message_of(message: Any, ignored: list[str]) -> dict[str, Any]:
    """Return a message as a task has it. `ignored` gets the names of fields that nobody knows, each once.

    Raises:
        InvalidRequest, Unsupported: It is none, or has something that nobody here can do.
    """
    if not isinstance(message, dict):
        raise InvalidRequest("'messages' must be objects with role and content")
    if len(message) == 2 and type(message.get("content")) is str and message.get("role") is not None:
        return {"role": message["role"], "content": message["content"]}  # as nearly all are
    for name, value in message.items():
        if name in _MESSAGE or not value or name in _IGNORED_IN_MESSAGES:
            continue
        if name in _REFUSED_IN_MESSAGES:
            raise Unsupported(f"'messages' has {name!r}, which is not supported here; leave it out")
        _note(f"messages.{name}", ignored)
    found = {name: message[name] for name in ("role", "name", "tool_call_id") if message.get(name) is not None}
    content = message.get("content")
    thought = message.get("reasoning") or message.get("reasoning_content")
    if isinstance(content, list) and message.get("role") == "assistant":
        thoughts = [part for part in content if _is_thought(part)]
        if thoughts:
            content = [part for part in content if not _is_thought(part)]
            thought = thought or "".join(str(part.get("thinking") or "") for part in thoughts)
    found["content"] = [_part(part, ignored) for part in content] if isinstance(content, list) else content or ""
    if message.get("role") == "assistant" and thought:
        found["reasoning"] = thought
    if message.get("tool_calls"):
        found["tool_calls"] = [_tool_call(call) for call in list_of(message, "tool_calls")]
        if content is None:
            found["content"] = None  # templates tell it from an empty text
    return found


def _is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking"


def _note(name: str, ignored: list[str]) -> None:
    if len(ignored) < MOST_NAMED and name not in ignored:
        ignored.append(name)


def _part(part: Any, ignored: list[str]) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, dict) else None
    if kind is None and isinstance(part, dict) and "image_url" in part:
        kind = "image_url"  # vLLM's short form
    if isinstance(part, dict) and len(part) > 2:
        for name, value in part.items():
            if value and name not in _PART:
                _note(f"messages.content.{name}", ignored)
    if isinstance(kind, str) and kind in _TEXTS:
        return {"type": "text", "text": part.get(_TEXTS[kind])}
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        # Models that fetch images themselves take those; the others refuse them by name.
        is_remote = isinstance(url, str) and url.lower().startswith(("http://", "https://"))
        return {"type": "image", "url" if is_remote else "data": url}
    raise Unsupported(
        f"'messages' has a content part of type {str(kind)[:64]!r}, which is not supported: text and image_url are"
    )


def _tool_call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest("'messages': tool_calls must have an id and a function")
    return {"id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}


TOOL = ("name", "description", "parameters", "strict")
"""What a task knows of a tool."""


def tool_of(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        raise Unsupported("'tools' must be of type function")
    return {name: function[name] for name in TOOL if function.get(name) is not None}


def chosen_of(tools: list[dict[str, Any]], choice: Any) -> tuple[list[dict[str, Any]], str | None]:
    """Return the tools that may be called, and the choice among them as a task has it.

    Raises:
        InvalidRequest, Unsupported: It is no choice, or of tools of another kind; or among tools that are not there.
    """
    if choice is None or isinstance(choice, str):
        return tools, choice
    kind = choice.get("type", "function") if isinstance(choice, dict) else None
    if kind == "function":
        return tools, _name_in(choice)
    if kind != "allowed_tools":
        raise Unsupported(f"'tool_choice' of type {kind!r} is not supported: function and allowed_tools are")
    # The list may stand beside `type`, as responses have it.
    allowed = choice.get("allowed_tools", choice)
    if not isinstance(allowed, dict) or allowed.get("mode", "auto") not in ("auto", "required"):
        raise InvalidRequest("'tool_choice.allowed_tools' must have a mode, auto or required, and tools")
    names = {_name_in(tool) for tool in list_of(allowed, "tools")}
    if missing := sorted(names - {tool["name"] for tool in tools if isinstance(tool.get("name"), str)}):
        raise InvalidRequest(f"'tool_choice' allows the tool {missing[0]!r}, which is not among 'tools'")
    # What has no proper name is refused with the task.
    kept = [tool for tool in tools if not isinstance(tool.get("name"), str) or tool["name"] in names]
    return kept, allowed.get("mode", "auto")


def _name_in(choice: Any) -> str:
    function = choice.get("function", choice) if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest("'tool_choice' must name a function")
    return name


def list_of(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise InvalidRequest(f"{name!r} must be a list")
    return value

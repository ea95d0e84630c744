"""What the OpenAI API's requests ask for, as tasks. What cannot be honoured is refused by name, never dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import InvalidRequest, TaskRequest, Unsupported
from orchestrator.http.reading import trace_of

SAME = (
    "model", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "min_tokens", "stop", "priority", "session_id", "job_id", "parameters", "timeout_s",
)  # fmt: skip
"""Fields that mean the same in a task; those the OpenAI API does not know are sent as `extra_body`."""
CHAT = frozenset({
    "messages", "max_completion_tokens", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
    "chat_template_kwargs",
})  # fmt: skip
"""Fields that a chat completion has beside those; `bodies` describes them all."""
COMPLETION = frozenset({"prompt", "logprobs"})
"""Fields that a completion has beside those."""
_IGNORED = frozenset({
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls",
})  # fmt: skip
"""Said about the caller, not about the answer."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "logit_bias": ({},), "echo": (False,), "suffix": ("",), "functions": ([],),
    "modalities": (["text"],),
}  # fmt: skip
"""Fields that ask for nothing with these values."""
_MESSAGE = frozenset({"role", "name", "tool_call_id", "content", "tool_calls"})
_IGNORED_IN_MESSAGES = frozenset({"annotations", "refusal", "reasoning_content", "reasoning"})
"""What answers carry beside their words: clients send them back with the conversation."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the OpenAI face."""

    task: TaskRequest
    stream: bool
    include_usage: bool
    history: bool


def parse_chat(fields: dict[str, Any], headers: Mapping[str, str]) -> Asked:
    """Return what a chat completion asks for; raises `InvalidRequest` or `Unsupported`."""
    task = _common(fields, headers, CHAT)
    task["messages"] = [_message(message) for message in _list(fields, "messages")]
    _set(task, "max_tokens", fields.get("max_completion_tokens", fields.get("max_tokens")))
    if _flag(fields, "logprobs"):
        top = fields.get("top_logprobs")
        task["logprobs"] = 0 if top is None else top
    elif fields.get("top_logprobs"):
        raise InvalidRequest("'top_logprobs' needs 'logprobs': true")
    if fields.get("response_format"):
        _set(task, "response_format", _response_format(fields["response_format"]))
    if fields.get("tool_choice") not in (None, "auto", "none") and not fields.get("tools"):
        raise InvalidRequest("'tool_choice' chooses among 'tools', and there are none")
    if fields.get("tools"):
        task["tools"] = [_tool(tool) for tool in _list(fields, "tools")]
        _set(task, "tool_choice", _tool_choice(fields.get("tool_choice")))
    _set(task, "chat_template_kwargs", fields.get("chat_template_kwargs"))
    return _asked(task, fields)


def parse_completion(fields: dict[str, Any], headers: Mapping[str, str]) -> Asked:
    """Return what a completion asks for; raises `InvalidRequest` or `Unsupported`."""
    task = _common(fields, headers, COMPLETION)
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Unsupported("prompt must be one text: several prompts, or token ids, are not supported")
    task["prompt"] = prompt
    _set(task, "max_tokens", fields.get("max_tokens"))
    _set(task, "logprobs", fields.get("logprobs"))
    return _asked(task, fields)


def _common(fields: dict[str, Any], headers: Mapping[str, str], taken: frozenset[str]) -> dict[str, Any]:
    known = {*SAME, *_IGNORED, *taken, "max_tokens", "stream", "stream_options", "history"}
    for name, value in fields.items():
        if name in known or value is None or any(_is_same(value, each) for each in _NEUTRAL.get(name, ())):
            continue
        raise Unsupported(f"{name!r} is not supported here; leave it out")
    task = {name: fields[name] for name in SAME if fields.get(name) is not None}
    return {**task, **trace_of(headers)}


def _is_same(value: Any, other: Any) -> bool:
    """`true` is no 1."""
    return type(value) is type(other) and bool(value == other)


def _asked(task: dict[str, Any], fields: dict[str, Any]) -> Asked:
    options = fields.get("stream_options") or {}
    if not isinstance(options, dict):
        raise InvalidRequest("stream_options must be an object")
    for name, value in options.items():
        if name != "include_usage" and value:
            raise Unsupported(f"'stream_options.{name}' is not supported here; leave it out")
    return Asked(
        task=TaskRequest.parse(task),
        stream=_flag(fields, "stream"),
        include_usage=_flag(options, "include_usage"),
        history=_flag(fields, "history"),
    )


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{name!r} must be true or false")
    return bool(value)


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise InvalidRequest("messages must be objects with role and content")
    for name, value in message.items():
        if name not in _MESSAGE and value and name not in _IGNORED_IN_MESSAGES:
            raise Unsupported(f"{name!r} of a message is not supported here; leave it out")
    found = {name: message[name] for name in ("role", "name", "tool_call_id") if message.get(name) is not None}
    content = message.get("content")
    found["content"] = [_part(part) for part in content] if isinstance(content, list) else content or ""
    if message.get("tool_calls"):
        found["tool_calls"] = [_tool_call(call) for call in _list(message, "tool_calls")]
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


def _tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict):
        raise Unsupported("tools must be of type function")
    return {name: function[name] for name in ("name", "description", "parameters") if function.get(name) is not None}


def _tool_choice(choice: Any) -> str | None:
    if isinstance(choice, dict):
        function = choice.get("function")
        return function.get("name") if isinstance(function, dict) else None
    return choice if isinstance(choice, str) else None


def _response_format(asked: Any) -> dict[str, Any] | None:
    kind = asked.get("type") if isinstance(asked, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json"}
    if kind == "json_schema" and isinstance(asked.get("json_schema"), dict):
        return {"type": "json_schema", "json_schema": asked["json_schema"].get("schema")}
    if kind in ("regex", "grammar"):
        return {"type": kind, kind: asked.get(kind)}
    raise Unsupported(f"response_format of type {kind!r} is not supported")


def _list(fields: Mapping[str, Any], name: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise InvalidRequest(f"{name!r} must be a list")
    return value


def _set(task: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        task[name] = value

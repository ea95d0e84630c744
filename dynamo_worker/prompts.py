"""What the OpenAI requests that Dynamo's frontend hands over ask for, as tasks. No I/O.

The frontend has looked at their form; what cannot be honoured is refused by name, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapter_api import InvalidRequest, TaskRequest, Unsupported

_SAME = (
    "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "min_tokens", "stop", "chat_template_kwargs",
)  # fmt: skip
_IGNORED = frozenset({
    "model", "stream", "stream_options", "user", "store", "metadata", "service_tier", "safety_identifier",
    "prompt_cache_key", "parallel_tool_calls", "nvext",
})  # fmt: skip
"""Said about the caller or the form of the answer, not about the answer."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "logit_bias": ({},), "echo": (False,), "suffix": ("",), "modalities": (["text"],),
    "ignore_eos": (False,),
}  # fmt: skip
"""Fields that ask for nothing with these values."""


class Asked(msgspec.Struct, frozen=True):
    """A request for text: the task, whether it is a chat, and whether the answer may tell its usage."""

    task: TaskRequest
    chat: bool
    usage: bool


def parse_prompt(given: Mapping[str, Any], *, model: str, trace: Mapping[str, str]) -> Asked:
    """Return what a request asks for; raises `InvalidRequest` or `Unsupported`.

    `model` is the engine's name of the model, `trace` the headers of the request's trace.
    """
    chat = "messages" in given
    taken = {"max_tokens", "logprobs"} | (
        {"messages", "max_completion_tokens", "top_logprobs", "response_format", "tools", "tool_choice"}
        if chat
        else {"prompt"}
    )
    for name, value in given.items():
        known = name in taken or name in _SAME or name in _IGNORED or value is None
        if not known and not any(type(value) is type(one) and value == one for one in _NEUTRAL.get(name, ())):
            raise Unsupported(f"{name!r} is not supported by this worker; leave it out")
    task: dict[str, Any] = {name: given[name] for name in _SAME if given.get(name) is not None}
    task["model"] = model
    task |= _chat(given) if chat else _completion(given)
    task |= {name: trace[name] for name in ("traceparent", "tracestate") if trace.get(name)}
    options = given.get("stream_options") or {}
    # An answer that the frontend gathers always tells it; in a stream it would be a chunk nobody asked for.
    usage = not given.get("stream") or bool(options.get("include_usage"))
    return Asked(TaskRequest.parse({name: value for name, value in task.items() if value is not None}), chat, usage)


def _completion(given: Mapping[str, Any]) -> dict[str, Any]:
    prompt = given.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Unsupported("prompt must be one text: several prompts, or token ids, are not supported")
    return {"prompt": prompt, "max_tokens": given.get("max_tokens"), "logprobs": given.get("logprobs")}


def _chat(given: Mapping[str, Any]) -> dict[str, Any]:
    limit = given.get("max_completion_tokens")
    found: dict[str, Any] = {
        "messages": [_message(each) for each in _list(given, "messages")],
        "max_tokens": given.get("max_tokens") if limit is None else limit,
        "response_format": _response_format(given.get("response_format")),
    }
    if given.get("logprobs"):
        found["logprobs"] = given.get("top_logprobs") or 0
    if given.get("tools"):
        choice = given.get("tool_choice")
        found["tools"] = [_tool(each) for each in _list(given, "tools")]
        found["tool_choice"] = choice["function"]["name"] if isinstance(choice, dict) else choice
    return found


def _message(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidRequest("messages must be objects with role and content")
    found = {name: given[name] for name in ("role", "name", "tool_call_id") if given.get(name) is not None}
    content = given.get("content")
    found["content"] = [_part(part) for part in content] if isinstance(content, list) else content
    if given.get("tool_calls"):
        found["tool_calls"] = [{"id": call["id"], **_function(call)} for call in _list(given, "tool_calls")]
    elif content is None:
        found["content"] = ""
    return found


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return {"type": "text", "text": part.get("text")}
    if kind == "image_url" and isinstance(part.get("image_url"), Mapping):
        return {"type": "image", "data": part["image_url"].get("url")}
    raise Unsupported(f"content parts of type {kind!r} are not supported: text and image_url are")


def _tool(given: Any) -> dict[str, Any]:
    function = _function(given)
    return {name: function[name] for name in ("name", "description", "parameters") if function.get(name) is not None}


def _function(given: Any) -> dict[str, Any]:
    function = given.get("function") if isinstance(given, Mapping) else None
    if not isinstance(function, Mapping):
        raise InvalidRequest("tools and tool calls must have a function")
    return dict(function)


def _response_format(given: Any) -> dict[str, Any] | None:
    kind = given.get("type") if isinstance(given, Mapping) else None
    if given is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json"}
    if kind == "json_schema" and isinstance(given.get("json_schema"), Mapping):
        return {"type": "json_schema", "json_schema": given["json_schema"].get("schema")}
    raise Unsupported(f"response_format of type {kind!r} is not supported")


def _list(given: Mapping[str, Any], name: str) -> list[Any]:
    value = given.get(name)
    if not isinstance(value, list):
        raise InvalidRequest(f"{name!r} must be a list")
    return value

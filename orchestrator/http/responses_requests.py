"""What a request for a response asks for, as a task. What cannot be honoured is refused by name, never dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from adapter_api import InvalidRequest, Message, TaskRequest, Unsupported
from adapter_api.bounds import MAX_MESSAGES
from adapter_kit.openai.formats import constrain, require_schema
from adapter_kit.openai.lax import as_meant
from adapter_kit.openai.messages import TOOL, list_of
from adapter_kit.openai.requests import effort_of, flag, most_tokens, wants_usage
from orchestrator.http.namespaces import Spaces, each_tool, flat_name
from orchestrator.http.one_call import wants_one_call
from orchestrator.http.openai_requests import OF_THIS_HOST, common_fields
from orchestrator.http.responses_items import items_of, messages_of

RESPONSE = frozenset({
    "input", "instructions", "previous_response_id", "max_output_tokens", "text", "tools", "tool_choice", "reasoning",
    "include", "top_logprobs", "chat_template_kwargs", "truncation", "store", "metadata", "parallel_tool_calls",
})  # fmt: skip
"""Fields that a response has beside those of every request."""
_TAKEN = RESPONSE | OF_THIS_HOST
_IGNORED = frozenset({"max_tool_calls", "prompt_cache_options", "client_metadata"})
"""Said about the caller, or about tools that are not here, and not about the answer."""
_LOGPROBS = "message.output_text.logprobs"
_INCLUDED = frozenset({
    _LOGPROBS, "reasoning.encrypted_content", "message.input_image.image_url", "web_search_call.action.sources",
    "web_search_call.results", "code_interpreter_call.outputs", "computer_call_output.output.image_url",
    "file_search_call.results",
})  # fmt: skip
"""What may be asked for beside the answer. All but log-probabilities tell more of what does not occur here."""
_METADATA_KEYS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512


class AskedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a response."""

    task: TaskRequest
    asked: tuple[Message, ...]
    """What it asks anew, without its instructions and what was said before."""
    stream: bool
    store: bool
    one_call: bool
    """Whether it has one tool call at most."""
    spaces: Spaces
    """Its tools that stand in a namespace."""
    head: dict[str, Any]
    """What the response repeats of its request."""
    ignored: tuple[str, ...]
    """Fields that nobody knows."""


def previous_of(fields: Mapping[str, Any]) -> str | None:
    """Return the response that a request goes on from; raises `InvalidRequest`."""
    found = fields.get("previous_response_id")
    if found is not None and (not isinstance(found, str) or not found):
        raise InvalidRequest("'previous_response_id' must be the id of a response")
    return found


def references_in(fields: Mapping[str, Any]) -> list[str]:
    """Return the ids of the items that the input only names; raises `InvalidRequest`."""
    given = fields.get("input")
    if not isinstance(given, list):
        return []
    items = items_of(given)
    ids = [item.get("id") for item in items if item.get("type") == "item_reference"]
    if not all(isinstance(each, str) for each in ids):
        raise InvalidRequest("'input': an item_reference needs the 'id' of an item")
    return [each for each in ids if isinstance(each, str)]


def parse_response(
    fields: dict[str, Any],
    headers: Mapping[str, str],
    *,
    past: Sequence[Message] = (),
    named: Mapping[str, Mapping[str, Any]] | None = None,
) -> AskedResponse:
    """Return what a request asks for; raises `InvalidRequest` or `Unsupported`.

    Args:
        fields: The request.
        headers: Its headers.
        past: What was said before.
        named: The items that it only names, by their ids.
    """
    if fields.get("history"):
        raise Unsupported("'history' is not supported here: 'previous_response_id' goes on from a response")
    fields = as_meant(fields)
    ignored: list[str] = []
    given = {name: value for name, value in fields.items() if name not in _IGNORED}
    task = common_fields(given, headers, _TAKEN, ignored)
    items = [(named or {})[each["id"]] if each.get("type") == "item_reference" else each for each in _input(fields)]
    asked = messages_of(items)
    instructions = fields.get("instructions")
    if instructions is not None and not isinstance(instructions, str):
        raise Unsupported("'instructions' must be a text")
    system = [{"role": "system", "content": instructions}] if instructions else []
    if len(past) + len(asked) + len(system) > MAX_MESSAGES:
        raise InvalidRequest(
            f"the conversation has more than {MAX_MESSAGES} messages: begin a new one, without 'previous_response_id'"
        )
    task["messages"] = [*system, *past, *asked]
    _set(task, "max_tokens", most_tokens(fields, "max_output_tokens"))
    _set_format(task, fields)
    spaces = _set_tools(task, fields)
    _set_thinking(task, fields)
    _set_logprobs(task, fields)
    if fields.get("truncation") not in (None, "auto", "disabled"):
        raise InvalidRequest("'truncation' must be 'auto' or 'disabled'")
    wants_usage(fields, ignored)
    if flag(fields.get("stream_options") or {}, "continuous_usage_stats"):
        ignored.append("stream_options.continuous_usage_stats")  # its events have no place for it but the last
    made = TaskRequest.parse(task)
    assert made.messages is not None
    return AskedResponse(
        task=made,
        asked=made.messages[len(system) + len(past) :],
        stream=flag(fields, "stream"),
        store=fields.get("store") is None or flag(fields, "store"),
        one_call=wants_one_call(fields),
        spaces=spaces,
        head=_head(fields, made),
        ignored=tuple(ignored),
    )


def _input(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    if fields.get("input") is None and fields.get("previous_response_id") is not None:
        raise InvalidRequest("'input' is missing: say what comes after the previous response")
    return items_of(fields.get("input"))


def _set_format(task: dict[str, Any], fields: Mapping[str, Any]) -> None:
    asked = _object(fields, "text").get("format")
    kind = asked.get("type") if isinstance(asked, dict) else None
    if asked is None or kind == "text":
        pass
    elif kind == "json_object":
        task["response_format"] = {"type": "json"}
    elif kind == "json_schema":
        if not isinstance(asked.get("schema"), dict):
            raise InvalidRequest("'text.format' of type json_schema needs a 'schema', which is an object")
        require_schema(asked["schema"], "text.format.schema")
        task["response_format"] = {"type": "json_schema", "json_schema": asked["schema"]}
    else:
        raise Unsupported(
            f"'text.format' of type {str(kind)[:64]!r} is not supported: text, json_schema, json_object are"
        )
    constrain(task, fields)


def _set_tools(task: dict[str, Any], fields: Mapping[str, Any]) -> Spaces:
    spaces: dict[str, tuple[str, str]] = {}
    given = list_of(fields, "tools") if fields.get("tools") else []
    tools = [_tool(tool) for tool in each_tool(given, spaces)]
    choice = fields.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        tools = _allowed(tools, choice)
        choice = choice.get("mode", "auto")
    if isinstance(choice, dict):
        if choice.get("type") == "function" and not isinstance(choice.get("name"), str):
            raise InvalidRequest("'tool_choice' of type function needs the 'name' of one of 'tools'")
        if choice.get("type") != "function":
            raise Unsupported(f"'tool_choice' of type {str(choice.get('type'))[:64]!r} is not supported: function is")
        choice = flat_name(choice)
    elif choice not in (None, "auto", "none", "required"):
        raise InvalidRequest("'tool_choice' must be auto, none, required, or a function by its name")
    if choice not in (None, "auto", "none") and not tools:
        raise InvalidRequest("'tool_choice' chooses among 'tools', and there are none")
    if tools:
        task["tools"] = tools
        _set(task, "tool_choice", choice)
    return spaces


def _tool(tool: Any) -> dict[str, Any]:
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind != "function":
        raise Unsupported(
            f"'tools' has one of type {str(kind)[:64]!r}, which is not supported: this host runs no tools of its own; "
            "functions are"
        )
    if "function" in tool and "name" not in tool:
        raise InvalidRequest("'tools': a function of a response has its name and parameters beside 'type'")
    return {name: tool[name] for name in TOOL if tool.get(name) is not None}


def _allowed(tools: list[dict[str, Any]], choice: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = choice.get("tools")
    if not isinstance(listed, list):
        raise InvalidRequest("'tool_choice.tools' must be a list of tools")
    names = {flat_name(each) for each in listed if isinstance(each, dict) and isinstance(each.get("name"), str)}
    # What has no proper name is refused with the task.
    return [tool for tool in tools if not isinstance(tool.get("name"), str) or tool["name"] in names]


def _set_thinking(task: dict[str, Any], fields: Mapping[str, Any]) -> None:
    _set(task, "chat_template_kwargs", fields.get("chat_template_kwargs"))
    effort = effort_of(_object(fields, "reasoning").get("effort"), "reasoning.effort")
    variables = task.get("chat_template_kwargs", {})
    if effort and isinstance(variables, dict):
        task["chat_template_kwargs"] = {**effort, **variables}


def _set_logprobs(task: dict[str, Any], fields: Mapping[str, Any]) -> None:
    include = fields.get("include") or []
    if not isinstance(include, list):
        raise InvalidRequest("'include' must be a list")
    for each in include:
        if not isinstance(each, str) or each not in _INCLUDED:
            raise Unsupported(f"'include' of {str(each)[:64]!r} is not supported here; leave it out")
    top = fields.get("top_logprobs")
    if top or _LOGPROBS in include:
        task["logprobs"] = top or 0


def _head(fields: Mapping[str, Any], task: TaskRequest) -> dict[str, Any]:
    text, reasoning = _object(fields, "text"), _object(fields, "reasoning")
    return {
        "instructions": fields.get("instructions"),
        "max_output_tokens": task.max_tokens,
        "metadata": _metadata(fields.get("metadata")),
        "parallel_tool_calls": not wants_one_call(fields),
        "previous_response_id": fields.get("previous_response_id"),
        "reasoning": {"effort": reasoning.get("effort"), "summary": None},
        "temperature": task.temperature,
        "text": {"format": text.get("format") or {"type": "text"}},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": fields.get("tools") or [],
        "top_p": task.top_p,
        "truncation": fields.get("truncation") or "disabled",
        "user": fields.get("user"),
    }


def _metadata(given: Any) -> dict[str, str]:
    if given is None:
        return {}
    fits = isinstance(given, dict) and len(given) <= _METADATA_KEYS
    if not fits or not all(
        len(name) <= _METADATA_KEY and isinstance(value, str) and len(value) <= _METADATA_VALUE
        for name, value in given.items()
    ):
        raise InvalidRequest(
            f"'metadata' must be an object of at most {_METADATA_KEYS} texts, up to {_METADATA_VALUE} characters each, "
            f"by names of up to {_METADATA_KEY}"
        )
    return dict(given)


def _object(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name!r} must be an object")
    return value


def _set(task: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        task[name] = value

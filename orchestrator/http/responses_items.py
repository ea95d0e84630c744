"""The items of a response's input, as messages of a task. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapter_api import ImagePart, InvalidRequest, Message, Unsupported
from adapter_api.bounds import MAX_MESSAGES, MAX_PARTS
from orchestrator.http.namespaces import flat_name

_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}
"""Parts that are texts, and where in them the text is."""
MAX_ITEMS = MAX_MESSAGES + MAX_PARTS


def items_of(given: Any) -> list[dict[str, Any]]:
    """Return the items of a request's `input`, which may be one text; raises `InvalidRequest`."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'input' must be a text, or a list of items with at least one in it")
    if len(given) > MAX_ITEMS:
        raise InvalidRequest(f"'input' has {len(given)} items; there may be {MAX_ITEMS}")
    if not all(isinstance(each, dict) for each in given):
        raise InvalidRequest("'input' must hold objects: messages, function_call, function_call_output")
    return given


def messages_of(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages that items say: what an assistant says and calls one after the other is one of them.

    Raises:
        InvalidRequest: An item is none.
        Unsupported: An item, or a part of one, is of a type that nobody here can read; it is named.
    """
    messages: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind == "message":
            _add_message(messages, item)
        elif kind == "function_call":
            _add_call(messages, item)
        elif kind == "function_call_output":
            content = _content(item.get("output"), "the 'output' of a function_call_output")
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        elif kind != "reasoning":  # models are not shown their old thoughts
            raise Unsupported(
                f"'input' has an item of type {_shown(kind)}, which is not supported: message, function_call, "
                "function_call_output, reasoning and item_reference are"
            )
    return messages


def items_in(messages: Sequence[Message], name: str) -> list[dict[str, Any]]:
    """Return messages as items of an input, of ids that end in `name` and their place."""
    items: list[dict[str, Any]] = []

    def add(prefix: str, item: dict[str, Any]) -> None:
        items.append({"id": f"{prefix}_{name}_in{len(items)}", **item, "status": "completed"})

    for message in messages:
        if message.role == "tool":
            call = {"type": "function_call_output", "call_id": message.tool_call_id}
            add("fco", {**call, "output": _parts_of(message) if isinstance(message.content, tuple) else message.text})
            continue
        if message.content is not None and (message.content or not message.tool_calls):
            add("msg", {"type": "message", "role": message.role, "content": _parts_of(message)})
        for made in message.tool_calls:
            called = {"call_id": made.id, "name": made.name, "arguments": made.arguments}
            add("fc", {"type": "function_call", **called})
    return items


def _parts_of(message: Message) -> list[dict[str, Any]]:
    parts = message.content if isinstance(message.content, tuple) else (message.text,)
    text = "output_text" if message.role == "assistant" else "input_text"
    found: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, ImagePart):
            url = part.url if part.url is not None else f"data:{part.media_type};base64,{part.data}"
            found.append({"type": "input_image", "image_url": url, "detail": "auto"})
        else:
            said = part if isinstance(part, str) else part.text
            found.append({"type": text, "text": said, **({"annotations": []} if text == "output_text" else {})})
    return found


def _add_message(messages: list[dict[str, Any]], item: Mapping[str, Any]) -> None:
    role, content = item.get("role"), _content(item.get("content"), "the 'content' of a message")
    last = messages[-1] if messages else {}
    if role == "assistant" == last.get("role") and last.get("tool_calls"):
        # What it says after its calls belongs before their results: templates have no place for it between them.
        last["content"] = _joined(last["content"], content)
        return
    messages.append({"role": role, "content": content})


def _add_call(messages: list[dict[str, Any]], item: Mapping[str, Any]) -> None:
    call = {"id": item.get("call_id"), "name": flat_name(item), "arguments": item.get("arguments")}
    if messages and messages[-1]["role"] == "assistant":
        messages[-1].setdefault("tool_calls", []).append(call)
    else:
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _joined(one: Any, other: Any) -> Any:
    if not one or not other:
        return one or other
    if isinstance(one, str) and isinstance(other, str):
        return one + other
    parts = [[{"type": "text", "text": each}] if isinstance(each, str) else each for each in (one, other)]
    return [*parts[0], *parts[1]]


def _content(given: Any, what: str) -> Any:
    if isinstance(given, str):
        return given
    if not isinstance(given, list):
        raise InvalidRequest(f"'input': {what} must be a text or a list of parts")
    parts = [_part(each) for each in given]
    if parts and all(part["type"] == "text" and isinstance(part["text"], str) for part in parts):
        return "".join(part["text"] for part in parts)
    return parts or ""


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in _TEXTS:
        return {"type": "text", "text": part.get(_TEXTS[kind])}
    if kind in ("input_image", "image_url"):  # the second is a chat's word, which vLLM's server takes here, too
        if part.get("file_id") is not None:
            raise Unsupported("'file_id' of an input_image is not supported: no files are kept here; send 'image_url'")
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        # Models that fetch images themselves take those; the others refuse them by name.
        is_remote = isinstance(url, str) and url.lower().startswith(("http://", "https://"))
        return {"type": "image", "url" if is_remote else "data": url}
    raise Unsupported(
        f"'input' has a part of type {_shown(kind)}, which is not supported: input_text and input_image are"
    )


def _shown(kind: Any) -> str:
    return repr(kind[:64] if isinstance(kind, str) else kind) if kind is None or isinstance(kind, str) else "no text"

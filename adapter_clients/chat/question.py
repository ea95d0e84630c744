"""What a caller asks, made into messages of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adapter_api import ImagePart, InvalidRequest, Message, TextPart, Tool, ToolCall
from adapter_api.task import describe_validation_error
from adapter_clients.chat.pictures import Picture, Pictures

ToolLike = Tool | Mapping[str, Any]
_TOOLS = TypeAdapter(tuple[Tool, ...])


@dataclass(frozen=True, slots=True)
class ChatQuestion:
    """One question of a batch: a text, pictures, or both."""

    text: str
    images: Sequence[Picture] | None = ()
    system: str | None = None

    def __repr__(self) -> str:
        return f"ChatQuestion(<{_size(self.text)} characters, {_size(self.images)} images>)"


async def user_message(text: str, images: Sequence[Picture] | None, pictures: Pictures, *, most: int) -> Message:
    """Return the user's turn: at most so many pictures, and the text after them.

    Raises:
        InvalidRequest: It is empty, or a picture cannot be read, or there are too many.
    """
    if not isinstance(text, str):
        raise InvalidRequest(f"a question is a text, not {type(text).__name__}")
    images = () if images is None else images
    if isinstance(images, str | bytes) or not isinstance(images, Sequence):
        raise InvalidRequest("`images` is a list of pictures: put a single one in brackets")
    if not text and not images:
        raise InvalidRequest("the question is empty: give a text, an image, or both")
    if len(images) > most:
        raise InvalidRequest(f"{len(images)} images in one question; there may be {most} (`max_images`)")
    if not images:
        return _message({"role": "user", "content": text})
    parts: list[ImagePart | TextPart] = []
    for number, image in enumerate(images, 1):
        parts.append(await pictures.part(image, what=f"image {number}"))
    if text:
        parts.append(_text_part(text))
    return _message({"role": "user", "content": tuple(parts)})


def result_messages(results: Mapping[str, str], pending: Iterable[ToolCall]) -> tuple[Message, ...]:
    """Return the results of the tools as messages, in the order of their calls.

    Raises:
        InvalidRequest: One is missing, or belongs to no call that waits.
    """
    calls = {call.id: call for call in pending}
    if not calls:
        raise InvalidRequest("no tool call waits for a result in this session")
    if unknown := results.keys() - calls.keys():
        raise InvalidRequest(f"no tool call waits with the id {', '.join(sorted(map(repr, unknown)))}")
    if missing := [call for call in calls.values() if call.id not in results]:
        raise InvalidRequest(f"results are missing: {', '.join(f'{call.name} ({call.id!r})' for call in missing)}")
    return tuple(
        _message({"role": "tool", "content": results[call.id], "tool_call_id": call.id, "name": call.name})
        for call in calls.values()
    )


def tools_of(tools: Iterable[ToolLike]) -> tuple[Tool, ...]:
    """Return tools as the contract has them; OpenAI's form (`{"type": "function", "function": …}`) is taken as well."""
    if isinstance(tools, Mapping | str | bytes) or not isinstance(tools, Iterable):
        raise InvalidRequest("`tools` is a list of tools: put a single one in brackets")
    plain = [_without_wrapping(tool) for tool in tools]
    try:
        return _TOOLS.validate_python(plain)
    except ValidationError as exc:
        raise InvalidRequest(describe_validation_error(exc, "tools")) from exc


def _size(value: Any) -> int | str:
    return len(value) if hasattr(value, "__len__") else "?"


def _without_wrapping(tool: ToolLike) -> Any:
    wrapped = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(wrapped, Mapping):
        return tool
    return {name: value for name, value in wrapped.items() if value is not None}


def _text_part(text: str) -> TextPart:
    try:
        return TextPart(text=text)
    except ValidationError as exc:
        raise InvalidRequest(describe_validation_error(exc, "question")) from exc


def _message(fields: Mapping[str, Any]) -> Message:
    try:
        return Message.model_validate(fields)
    except ValidationError as exc:
        raise InvalidRequest(describe_validation_error(exc, "question")) from exc

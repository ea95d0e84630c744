"""Runs tasks on a scripted engine, for tests."""

from __future__ import annotations

from typing import Any

from adapter_api import End, Error, Reasoning, TaskRequest, Token, TokenEvent, gather_tool_calls
from openai_adapter import OpenAIAdapter, OpenAISettings
from openai_adapter.testing import FakeOpenAI


def settings_for(engine: FakeOpenAI, **options: Any) -> OpenAISettings:
    return OpenAISettings.model_validate({"url": engine.url, **options})


async def events_of(adapter: OpenAIAdapter, **fields: Any) -> list[TokenEvent]:
    """Return the events of a task on the model `tiny`, by prompt unless it has messages."""
    given = {"model": "tiny", "max_tokens": 8, **({} if "messages" in fields else {"prompt": "a long river"}), **fields}
    stream = adapter.submit(TaskRequest.parse(given))
    events = [event async for event in stream]
    assert stream.repairs == 0
    return events


async def run(engine: FakeOpenAI, options: dict[str, Any] | None = None, **fields: Any) -> list[TokenEvent]:
    """Run one task with an adapter of its own."""
    async with OpenAIAdapter(settings_for(engine, **(options or {}))) as adapter:
        return await events_of(adapter, **fields)


def text_of(events: list[TokenEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


def thought_of(events: list[TokenEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Reasoning))


def calls_of(events: list[TokenEvent]) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in gather_tool_calls(events)]


def end_of(events: list[TokenEvent]) -> End:
    assert isinstance(events[-1], End), events[-1]
    return events[-1]


def error_of(events: list[TokenEvent]) -> Error:
    assert isinstance(events[-1], Error), events[-1]
    return events[-1]


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]

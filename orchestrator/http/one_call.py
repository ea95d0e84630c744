"""Answers with one tool call at most, for clients that want no more of them at a time. No I/O."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

from adapter_api import TokenEvent, ToolCallDelta
from adapter_kit.openai.requests import flag


def wants_one_call(fields: Mapping[str, Any]) -> bool:
    """Return whether a request of OpenAI's API wants no calls side by side; raises `InvalidRequest`."""
    return fields.get("parallel_tool_calls") is not None and not flag(fields, "parallel_tool_calls")


async def first_call_only(batches: AsyncIterator[list[TokenEvent]]) -> AsyncIterator[list[TokenEvent]]:
    """Yield the events of an answer without those of any call but the first: no engine can be told to make no more."""
    async with aclosing(cast(Any, batches)) as given:
        async for batch in given:
            kept = [event for event in batch if not isinstance(event, ToolCallDelta) or event.call == 0]
            if kept:
                yield kept

"""From the pieces of tool calls, as a stream brings them, to whole calls, as the next turn's message has them."""

from __future__ import annotations

from collections.abc import Iterable

from adapter_api.events import TokenEvent, ToolCallDelta
from adapter_api.task import ToolCall


def gather_tool_calls(events: Iterable[TokenEvent]) -> tuple[ToolCall, ...]:
    """Return the tool calls among the events of a `TokenStream`, in order, each whole.

    They fit `Message(role="assistant", tool_calls=…)`. `arguments` is the text that the engine wrote, which need not be
    valid JSON: parse it, and be ready for that to fail. After an `Error`, or an `End` with `length` or `cancelled`, the
    last call may be cut off: run none of it.
    """
    calls: list[tuple[ToolCallDelta, list[str]]] = []
    for event in events:
        if isinstance(event, ToolCallDelta):
            if event.call == len(calls):
                calls.append((event, []))
            calls[event.call][1].append(event.arguments)
    return tuple(
        ToolCall(id=first.id or "", name=first.name or "", arguments="".join(pieces)) for first, pieces in calls
    )

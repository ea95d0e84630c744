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

    Raises:
        ValueError: The events begin in the middle of a call, as those of a task do that was resumed.
    """
    calls: list[tuple[str, str, list[str]]] = []
    for event in events:
        if not isinstance(event, ToolCallDelta):
            continue
        if event.call == len(calls) and event.name and event.id:
            calls.append((event.id, event.name, []))
        elif event.call != len(calls) - 1:
            raise ValueError(
                f"a piece of tool call {event.call} without its beginning; gather all events of the answer"
            )
        calls[-1][2].append(event.arguments)
    return tuple(ToolCall(id=id, name=name, arguments="".join(pieces)) for id, name, pieces in calls)

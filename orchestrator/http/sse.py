"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), as bytes. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

from adapter_api import (
    End,
    Error,
    Metrics,
    PromptLogprobs,
    Reasoning,
    Started,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
    encode_event,
)

HEARTBEAT = b": heartbeat\n\n"
"""A comment: it keeps proxies from closing a silent stream, and clients ignore it."""

_HEADS: dict[type, bytes] = {
    Started: b"event: started\nid: ",
    Token: b"event: token\nid: ",
    Reasoning: b"event: reasoning\nid: ",
    ToolCallDelta: b"event: tool_call\nid: ",
    TokenIds: b"event: token_ids\nid: ",
    PromptLogprobs: b"event: prompt_logprobs\nid: ",
    Metrics: b"event: metrics\nid: ",
    End: b"event: end\nid: ",
    Error: b"event: error\nid: ",
}


def task_frames(events: Iterable[TokenEvent], first_id: int) -> bytes:
    """Return the frames of events that are ready together; their ids count from `first_id`."""
    frames = []
    for number, event in enumerate(events, start=first_id):
        frames.append(b"%b%d\ndata: %b\n\n" % (_HEADS[type(event)], number, encode_event(event)))
    return b"".join(frames)


def data_frame(data: bytes) -> bytes:
    """Return a frame without a name, as the OpenAI API sends them; `data` has no line break."""
    return b"data: %b\n\n" % data


def named_frame(name: str, data: bytes) -> bytes:
    """Return a frame with a name; `data` has no line break."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

"""Reading server-sent events as a browser does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx


class Frame(NamedTuple):
    event: str
    id: str | None
    data: Any


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """Yield the frames of a response; comments are frames of event `comment`."""
    event, id, data = "message", None, ""
    async for line in response.aiter_lines():
        if line.startswith(":"):
            yield Frame("comment", None, line[1:].strip())
        elif line.startswith("event: "):
            event = line[7:]
        elif line.startswith("id: "):
            id = line[4:]
        elif line.startswith("data: "):
            data += line[6:]
        elif not line and data:
            yield Frame(event, id, data if data == "[DONE]" else json.loads(data))
            event, id, data = "message", None, ""


async def read_all(response: httpx.Response) -> list[Frame]:
    return [frame async for frame in frames(response)]

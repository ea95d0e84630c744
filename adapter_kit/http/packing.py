"""Packs the body of a request."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterable, Sequence
from dataclasses import replace
from typing import Literal

from adapter_kit.http.request import Buffer, Request

_LEAST_BYTES = 1024
"""What is smaller is not worth it."""
_BESIDE_BYTES = 64 * 1024
"""What is larger would hold up the event loop, and is packed in a thread."""


async def packed(request: Request, coding: Literal["gzip", "deflate"] | None) -> Request:
    """Return `request` with its body packed, where that was asked for and may help."""
    if coding is None or isinstance(request.body, AsyncIterable):
        return request
    parts = request.buffers
    size = sum(memoryview(part).nbytes for part in parts)
    if size < _LEAST_BYTES or request.says("content-encoding"):
        return request
    data = await asyncio.to_thread(_pack, parts, coding) if size > _BESIDE_BYTES else _pack(parts, coding)
    return replace(request, body=data, lines=[*request.lines, f"Content-Encoding: {coding}\r\n"])


def _pack(parts: Sequence[Buffer], coding: str) -> bytes:
    engine = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS + (16 if coding == "gzip" else 0))
    return b"".join([*(engine.compress(part) for part in parts), engine.flush()])

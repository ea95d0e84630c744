"""Reading what clients send: JSON objects, numbers and trace contexts. Bad ones are told as such, never as a crash."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.datastructures import Headers

from adapter_api import InvalidRequest
from adapter_api.task import BAGGAGE_LIMIT, HEADER_TEXT, TRACESTATE_LIMIT
from orchestrator.http.problems import Refused

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MOST_DIGITS = 18
_ANY_ZLIB_HEADER = 32 + zlib.MAX_WBITS


def parse_object(data: bytes, what: str = "the body") -> dict[str, Any]:
    """Return the JSON object that `data` is; raises `InvalidRequest`, which calls it `what`."""
    try:
        found = msgspec.json.decode(data)
    except RecursionError as exc:
        raise InvalidRequest(f"{what} is nested too deeply") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{what} is not UTF-8 text") from exc
    except msgspec.MsgspecError as exc:
        raise InvalidRequest(f"{what} is not JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidRequest(f"{what} is not a JSON object")
    return found


def inflate(body: bytes, coding: str, limit: int) -> bytes:
    """Return what was compressed to `body`; raises `InvalidRequest`, and `Refused` when it is more than `limit` bytes.

    Args:
        coding: What `Content-Encoding` says, in lower case.
    """
    if coding not in ("gzip", "deflate"):
        raise InvalidRequest("Content-Encoding must be gzip, deflate or identity")
    unpacker = zlib.decompressobj(_ANY_ZLIB_HEADER)
    try:
        found = unpacker.decompress(body, limit + 1)
    except zlib.error as exc:
        raise InvalidRequest(f"the body is not {coding} data") from exc
    require_size(len(found), limit)
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidRequest(f"the body is not one piece of {coding} data")
    return found


def require_size(size: int, limit: int) -> None:
    """Raise `Refused` when a body has more than `limit` bytes."""
    if size > limit:
        raise Refused("body_too_large", f"the request's body is larger than the {limit} bytes that are allowed")


def whole_number(text: str) -> int | None:
    """Return the number that a header tells in plain digits; `None` when it does not, or tells an absurd one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def traceparent_of(headers: Mapping[str, str]) -> str | None:
    """Return the trace context that a request came with, if it is one that can be passed on.

    A malformed one is ignored: proxies add it, and a trace is no reason to refuse work
    (https://www.w3.org/TR/trace-context/#considerations-for-traceparent-header-field).
    """
    found = headers.get("traceparent", "").strip()
    return found if _TRACEPARENT.fullmatch(found) else None


def trace_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of a task that carry the trace of its request: those that can be passed on.

    What may come in several headers is one list (https://www.w3.org/TR/trace-context/#tracestate-header); a list
    that is too long, or no text, is ignored like a malformed `traceparent`.
    """
    found = {"traceparent": traceparent_of(headers)}
    for name, limit in (("tracestate", TRACESTATE_LIMIT), ("baggage", BAGGAGE_LIMIT)):
        each = headers.getlist(name) if isinstance(headers, Headers) else [headers.get(name, "")]
        value = ",".join(part.strip() for part in each if part.strip())
        if len(value) <= limit and re.fullmatch(HEADER_TEXT, value):
            found[name] = value
    if found["traceparent"] is None:
        found.pop("tracestate", None)
    return {name: value for name, value in found.items() if value}

"""Reading what clients send: JSON objects, numbers and trace contexts. Bad ones are told as such, never as a crash."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.datastructures import Headers

from adapter_api import InvalidRequest
from adapter_api.task import BAGGAGE_LIMIT, HEADER_TEXT, TRACESTATE_LIMIT
from orchestrator.http.json_bounds import TEXTS_AND_LISTS, require_bounded
from orchestrator.http.problems import Refused

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE = frozenset({b"traceparent", b"tracestate", b"baggage"})
_MOST_DIGITS = 18
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some shells begin every text with it: https://www.rfc-editor.org/rfc/rfc8259#section-8.1 lets it be ignored."""
_ANY_ZLIB_HEADER = 32 + zlib.MAX_WBITS
_ANY_RATIO_BYTES = 2**20
_PIECE = 2**18
MAX_VALUES = 100_000
"""Where no setting says how many values JSON may have."""


def parse_object(data: bytes, what: str = "the body", *, values: int = MAX_VALUES, numbers: int = 0) -> dict[str, Any]:
    """Return the JSON object that `data` is; raises `InvalidRequest`, which calls it `what`.

    Args:
        data: The JSON.
        what: Its name in errors.
        values: How many values it may have.
        numbers: How many more, if they are numbers.
    """
    found = parse_value(data, what, values=values, numbers=numbers)
    if not isinstance(found, dict):
        raise InvalidRequest(f"{what} is not a JSON object")
    return found


def parse_value(data: bytes, what: str, *, values: int = MAX_VALUES, numbers: int = 0) -> Any:
    """Return the JSON value that `data` is; raises like `parse_object`."""
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if not data:
        raise InvalidRequest(f"{what} is empty, and has to be JSON")
    require_bounded(data, what, values=values + numbers)
    if numbers:
        require_bounded(data, what, values=values, depth=None, counted=TEXTS_AND_LISTS, noun="texts and lists")
    try:
        return msgspec.json.decode(data)
    except RecursionError as exc:
        raise InvalidRequest(f"{what} is nested too deeply") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"{what} is not UTF-8 text") from exc
    except msgspec.MsgspecError as exc:
        raise InvalidRequest(f"{what} is not JSON: {exc}") from exc


def coding_of(said: str | None) -> str | None:
    """Return how a body was packed, by its `Content-Encoding`: gzip or deflate; `None` when it was not.

    Raises:
        InvalidRequest: Nobody here can unpack it.
    """
    if said is None:
        return None
    codings = [coding for each in said.lower().split(",") if (coding := each.strip()) not in ("", "identity")]
    if not codings:
        return None
    # https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1.3
    coding = codings[0].removeprefix("x-")
    if len(codings) > 1 or coding not in ("gzip", "deflate"):
        raise InvalidRequest("Content-Encoding must be gzip, deflate or identity")
    return coding


def inflate(
    body: bytes, coding: str, limit: int, *, ratio: int, take: Callable[[int], None] = lambda size: None
) -> bytes:
    """Return what was compressed to `body`; raises `InvalidRequest`, and `Refused` when it is more than `limit` bytes.

    Args:
        body: What came.
        coding: gzip or deflate.
        limit: The most bytes of the result.
        ratio: How many times it may grow, beyond what is small anyway.
        take: Told the size of each piece before the next one is made; what it raises ends the work.
    """
    unpacker = zlib.decompressobj(_ANY_ZLIB_HEADER)
    pieces, size, left = [], 0, body
    allowed = min(limit, max(_ANY_RATIO_BYTES, ratio * len(body)))
    while not unpacker.eof:
        try:
            piece = unpacker.decompress(left, _PIECE)
        except zlib.error as exc:
            raise InvalidRequest(f"the body is not {coding} data") from exc
        left = unpacker.unconsumed_tail
        size += len(piece)
        if size > allowed:
            require_size(size, limit)
            raise Refused(
                "body_too_large",
                f"the compressed body grows more than {ratio} times; send it as it is, or raise "
                "server.limits.max_inflation",
            )
        if not piece and not left and not unpacker.eof:
            break  # it is cut off
        take(len(piece))
        pieces.append(piece)
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidRequest(f"the body is not one piece of {coding} data")
    return b"".join(pieces)


def require_size(size: int, limit: int) -> None:
    """Raise `Refused` when a body has more than `limit` bytes."""
    if size > limit:
        raise Refused(
            "body_too_large",
            f"the request's body is larger than the {limit} bytes that are allowed (server.limits.max_body_bytes)",
        )


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
    if isinstance(headers, Headers) and _TRACE.isdisjoint(dict(headers.raw)):
        return {}
    found = {"traceparent": traceparent_of(headers)}
    for name, limit in (("tracestate", TRACESTATE_LIMIT), ("baggage", BAGGAGE_LIMIT)):
        each = headers.getlist(name) if isinstance(headers, Headers) else [headers.get(name, "")]
        value = ",".join(part.strip() for part in each if part.strip())
        if len(value) <= limit and re.fullmatch(HEADER_TEXT, value):
            found[name] = value
    if found["traceparent"] is None:
        found.pop("tracestate", None)
    return {name: value for name, value in found.items() if value}

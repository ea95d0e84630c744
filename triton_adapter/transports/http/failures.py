"""What an answer means that is no success: HTTP's status and a body of any kind, as a code of gRPC's and a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from triton_adapter.transports.http.json_text import decode

EVENTS = "text/event-stream"

# Triton's own are 400 (also for what has no status of its own), 403, 404, 500, 501, 503; the rest are of proxies and
# of other servers.
_CODES = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 405: "UNIMPLEMENTED", 407: "UNAUTHENTICATED",
    408: "UNAVAILABLE", 409: "ALREADY_EXISTS", 410: "NOT_FOUND", 411: "INTERNAL", 412: "FAILED_PRECONDITION",
    425: "UNAVAILABLE", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 500: "INTERNAL", 501: "UNIMPLEMENTED",
    502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE",
}  # fmt: skip
_NO_ROUTE = frozenset({"", "not found", "method not allowed", "404 page not found"})
"""How servers say that they do not know the path, rather than what it names."""
_PAGE = re.compile(r"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
_LONGEST = 4096


class Failure(NamedTuple):
    """A code by gRPC's name, the server's words, and how long it asks to wait."""

    code: str
    text: str
    retry_after_s: float | None = None


def failure_of(status: int, headers: Mapping[str, str], body: bytes | bytearray, *, version: str = "") -> Failure:
    """Return what an answer of another status than success says.

    Args:
        status: Its status.
        headers: Its headers, by names in lower case.
        body: Its body, or as much of it as was read.
        version: The version of a model that the path named.
    """
    text, is_page = _text_of(body)
    code = _code_of(status)
    retry_after_s = _seconds(headers.get("retry-after", ""))
    if status in (404, 405) and (is_page or text.strip().lower() in _NO_ROUTE):
        if version and not version.isdecimal():
            # The path has no such version: in the words that Triton has for it over gRPC.
            return Failure("INVALID_ARGUMENT", _WRONG_VERSION.format(version))
        return Failure("UNIMPLEMENTED", f"HTTP {status}, the server has no such path", retry_after_s)
    if is_page or not text:
        text = f"a page called {text!r}" if text else "without a reason"
        return Failure(code, f"HTTP {status}, {text}", retry_after_s)
    return Failure(code, text, retry_after_s)


def tells_failure(body: bytes) -> bool:
    """Return whether the body of a success is an error nevertheless."""
    try:
        said = decode(body)
    except ValueError:
        return False
    return isinstance(said, dict) and "error" in said


def words_of(value: Any) -> str:
    """Return what JSON of an error says, whoever's habit it follows; nothing if it does not say."""
    for _ in range(3):
        if isinstance(value, str):
            return value
        if isinstance(value, list) and value:
            value = value[0]
        elif isinstance(value, dict):
            value = next((value[key] for key in ("error", "message", "detail", "msg", "reason") if key in value), None)
    return value if isinstance(value, str) else ""


_WRONG_VERSION = (
    "failed to get model version from specified version string '{}' (details: stol), version should be an integral "
    "value > 0"
)


def _code_of(status: int) -> str:
    known = _CODES.get(status)
    if known is None:
        known = "INVALID_ARGUMENT" if 400 <= status < 500 else "UNAVAILABLE" if status > 500 else "INTERNAL"
    return known


def _text_of(body: bytes | bytearray) -> tuple[str, bool]:
    """Return the words in a body, and whether it is a page for people."""
    shown = body[:_LONGEST].decode("utf-8", "replace").strip()
    if _PAGE.match(shown):
        title = _TITLE.search(shown)
        return (title[1][:100] if title else "", True)
    try:
        return words_of(decode(body)) or shown, False
    except ValueError:
        return shown, False


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None

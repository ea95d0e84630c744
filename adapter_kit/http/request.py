"""What a caller wants sent. It is checked here: nothing of it can begin a line of its own."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeGuard

from adapter_api import DeadlineStage, InvalidRequest

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
Buffer = bytes | bytearray | memoryview
"""What is sent; an array goes as `memoryview(array)`."""
Body = Buffer | Sequence[Buffer] | AsyncIterable[bytes]

_METHOD = re.compile(r"[A-Z]{1,20}")
_TARGET = re.compile(r"/[\x21\x22\x24-\x7e]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS = frozenset({
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose parts are checked; `lines` are its headers, as they go out."""

    method: str
    target: str
    lines: list[str]
    body: Body
    timeout_s: float
    headers_s: float | None
    stall_s: float | None
    stage: DeadlineStage
    repeatable: bool

    @property
    def buffers(self) -> Sequence[Buffer]:
        """The body, unless it comes in pieces that only its maker has."""
        body = self.body
        if type(body) is bytes:
            return (body,)
        assert not isinstance(body, AsyncIterable)
        return (body,) if isinstance(body, bytes | bytearray | memoryview) else body

    def says(self, name: str) -> bool:
        """Return whether it has the header `name`, which is given in lower case."""
        start = f"{name}:"
        size = len(start)
        for line in self.lines:
            if line[:size].lower() == start:
                return True
        return False


def comes_in_pieces(body: Body) -> TypeGuard[AsyncIterable[bytes]]:
    """Return whether only its maker has what is to be sent."""
    return type(body) is not bytes and isinstance(body, AsyncIterable)


@lru_cache(maxsize=256)
def _checked_name(name: str) -> str:
    """Return the name of a header; most requests have the same ones."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest("a name of an HTTP header has a character that cannot be in one")
    if name.lower() in _OURS:
        raise InvalidRequest(f"the HTTP header {name!r} is written by the client itself")
    return name


def checked_target(target: str) -> str:
    """Return a path and query as they go onto the request line.

    Raises:
        InvalidRequest: It does not begin with `/`, or has blanks, control characters, `#` or non-ASCII in it.
    """
    if not _TARGET.fullmatch(target):
        raise InvalidRequest(
            "a path of an HTTP request begins with / and holds visible ASCII only, the rest of it percent-encoded"
        )
    return target


def checked_method(method: str) -> str:
    """Return `method`; raise `InvalidRequest` when it is not a word in capitals."""
    if not _METHOD.fullmatch(method) or method == "CONNECT":
        raise InvalidRequest("a method of an HTTP request is a word in capitals, as GET or POST")
    return method


def header_lines(headers: Headers) -> list[str]:
    """Return `name: value` lines with their ends.

    Raises:
        InvalidRequest: A name or value that cannot be one, or a name that is the client's own business.
    """
    lines = []
    for name, value in headers.items() if type(headers) is not list and isinstance(headers, Mapping) else headers:
        name = _checked_name(name)
        if not _VALUE.fullmatch(value):
            raise InvalidRequest(f"the value of the HTTP header {name!r} has a character that cannot be in one")
        lines.append(f"{name}: {value.strip()}\r\n")
    return lines

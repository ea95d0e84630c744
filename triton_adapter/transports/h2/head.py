"""The heads of calls: ours as HPACK literals, theirs decoded and held against the rules.

We ask for a header table of size 0, so a peer's header blocks mean the same whenever they come: a block that was read
once is known afterwards. Ours index nothing either: the constant part is made once per path and credentials.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import lru_cache

from hpack import Decoder, HPACKError

from triton_adapter.transports.h2.frames import COMPRESSION_ERROR, PROTOCOL_ERROR, Violation

# The library logs each header as it reads it, and an engine's message may quote a prompt.
logging.getLogger("hpack").setLevel(logging.INFO)

MAX_HEADER_LIST = 64 * 1024
"""Bytes of names and values, 32 more for each (6.5.2), that a peer may send as one list."""
MAX_HEADER_BLOCK = MAX_HEADER_LIST
"""Bytes of an encoded header block: no honest one is larger than what it says."""

Header = tuple[str, str]
_KEPT_BLOCKS, _KEPT_BYTES = 64, 512
_METHOD_POST, _SCHEME_HTTP, _SCHEME_HTTPS = b"\x83", b"\x86", b"\x87"  # RFC 7541, appendix A: static entries 3, 6, 7
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_VALUE = re.compile(rb"[^\x00\r\n]*\Z")
_NOT_IN_HTTP2 = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
# grpc-timeout: at most 8 digits (gRPC, "Timeout").
_MAX_TIMEOUT = 99_999_999
_MICROSECONDS_BELOW_S = 10.0
_KEPT_TIMEOUTS = 256
_TIMEOUT_NAME = b"\x00\x0cgrpc-timeout"


def literal(name: str, value: str, *, secret: bool = False) -> bytes:
    """Return a header as a literal that no table takes in (RFC 7541, 6.2); `secret` ones no proxy may index either."""
    return (b"\x10" if secret else b"\x00") + _string(name) + _string(value)


def constant_block(path: str, authority: str, *, tls: bool, fixed: Iterable[Header]) -> bytes:
    """Return what all calls of a path begin with; `fixed` are the headers that are credentials."""
    parts = [_METHOD_POST, _SCHEME_HTTPS if tls else _SCHEME_HTTP, literal(":path", path)]
    parts += [literal(":authority", authority), literal("te", "trailers"), literal("content-type", "application/grpc")]
    parts += [literal("user-agent", "worker-adapter"), literal("grpc-accept-encoding", "identity,deflate,gzip")]
    parts += [literal(name, value, secret=True) for name, value in fixed]
    return b"".join(parts)


def timeout_header(seconds: float) -> bytes:
    """Return the header that tells the server how long a call may take: in microseconds below 10 s, else in
    milliseconds, or in seconds where those have too many digits. Never more than was asked for."""
    if seconds < _MICROSECONDS_BELOW_S:
        return _timeout_header(max(int(seconds * 1e6), 1), "u")
    milliseconds = int(seconds * 1e3)
    if milliseconds <= _MAX_TIMEOUT:
        return _timeout_header(milliseconds, "m")
    return _timeout_header(min(milliseconds // 1000, _MAX_TIMEOUT), "S")


@lru_cache(_KEPT_TIMEOUTS)
def _timeout_header(number: int, unit: str) -> bytes:
    # Kept: calls of one moment mostly have the same time left, by the millisecond.
    value = f"{number}{unit}".encode()
    return _TIMEOUT_NAME + bytes((len(value),)) + value


class Head(dict[str, str]):
    """The headers of one block by their names. Most are one of two, which are known at sight."""

    __slots__ = ("begins", "ends_well")

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(headers)
        grpc = headers.get("content-type", "").startswith("application/grpc")
        more = "grpc-status" in headers or "content-length" in headers
        self.begins = headers.get(":status") == "200" and grpc and not more
        """Whether it is the head of an answer that goes on, and promises nothing of it."""
        self.ends_well = headers.get("grpc-status") == "0" and ":status" not in headers
        """Whether it is what follows an answer that is whole."""


class HeadReader:
    """Decodes the header blocks of one connection, in the order in which they come."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_LIST)
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0
        self.known: dict[bytes, Head] = {}
        """What blocks say that have been read."""

    def read(self, block: bytes) -> Head:
        """Return a block's headers; of several with one name the last.

        Raises:
            Violation: It cannot be decoded, which ends the connection, or breaks a rule of HTTP/2 (8.2), which ends the
                stream.
        """
        found = self.known.get(block)
        if found is None:
            try:
                decoded = self._decoder.decode(block, raw=True)
            except (HPACKError, UnicodeError, IndexError) as exc:
                raise Violation(COMPRESSION_ERROR, f"a header block that cannot be decoded ({exc})") from exc
            found = Head(_checked(decoded))
            if len(block) <= _KEPT_BYTES:
                if len(self.known) >= _KEPT_BLOCKS:
                    del self.known[next(iter(self.known))]
                self.known[block] = found
        return found


def _checked(decoded: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return what a stream's headers say; raises `Violation` for what makes a response malformed (8.2, 8.3.2)."""
    found: dict[str, str] = {}
    regular = False
    for name, value in decoded:
        name, value = bytes(name), bytes(value)
        if name.startswith(b":"):
            if regular or name != b":status" or ":status" in found:
                raise Violation(PROTOCOL_ERROR, f"a pseudo-header out of place: {_shown(name)}", stream=True)
        else:
            regular = True
            if not _TOKEN.match(name) or name in _NOT_IN_HTTP2:
                raise Violation(PROTOCOL_ERROR, f"a header that HTTP/2 does not allow: {_shown(name)}", stream=True)
        if not _VALUE.match(value):
            raise Violation(PROTOCOL_ERROR, f"a value that HTTP/2 does not allow, of {_shown(name)}", stream=True)
        found[name.decode("ascii")] = value.decode("latin-1")
    return found


def _shown(name: bytes) -> str:
    return ascii(name[:40].decode("latin-1"))


def _string(text: str) -> bytes:
    # Not Huffman coded (RFC 7541, 5.2): these are made once, or are a few digits.
    data = text.encode("latin-1")
    size = len(data)
    if size < 0x7F:
        return bytes((size,)) + data
    encoded, rest = bytearray((0x7F,)), size - 0x7F
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded) + data

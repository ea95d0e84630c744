"""Unpacks gzip and deflate, a bounded piece at a time: what is made of little never lies around."""

from __future__ import annotations

import zlib

from adapter_api import ProtocolViolation, StreamIncomplete

_GZIP = 16 + zlib.MAX_WBITS


class Inflater:
    """Unpacks one body.

    Args:
        coding: `gzip`, `x-gzip` or `deflate` (with or without zlib's frame: servers send both).
        piece_bytes: The most that one call of `next` returns.
    """

    def __init__(self, coding: str, *, piece_bytes: int) -> None:
        self._gzip = coding != "deflate"
        self._piece_bytes = piece_bytes
        self._engine = zlib.decompressobj(_GZIP if self._gzip else zlib.MAX_WBITS)
        self._packed = b""
        self._begun = False

    @property
    def hungry(self) -> bool:
        """Whether everything that was fed has been unpacked."""
        return not self._packed

    def feed(self, data: bytes) -> None:
        """Take packed bytes."""
        if not self._begun and data and not self._gzip:
            self._choose_frame(data)
        self._begun = self._begun or bool(data)
        self._packed = self._packed + data if self._packed else data

    def next(self) -> bytes:
        """Return what comes next; nothing when more has to be fed first.

        Raises:
            ProtocolViolation: These bytes are not packed as they are said to be.
        """
        made = b""
        while self._packed and not made:
            if self._engine.eof:
                self._next_member()
            try:
                made = self._engine.decompress(self._packed, self._piece_bytes)
            except zlib.error:
                raise ProtocolViolation(f"the body is no {'gzip' if self._gzip else 'deflate'}, as it claims") from None
            self._packed = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
        return made

    def finish(self) -> bytes:
        """Return the last bytes, after all that came was unpacked.

        Raises:
            StreamIncomplete: The packed body is cut.
        """
        rest = self._engine.flush()
        if self._begun and not self._engine.eof:
            raise StreamIncomplete("the packed body ends in its middle")
        return rest

    def _choose_frame(self, data: bytes) -> None:
        # zlib's frame begins with 8 for deflate, in the low half of its first byte.
        if data[0] & 0x0F != 8:
            self._engine = zlib.decompressobj(-zlib.MAX_WBITS)

    def _next_member(self) -> None:
        if not self._gzip:
            raise ProtocolViolation("the body goes on after its packed part")
        self._engine = zlib.decompressobj(_GZIP)

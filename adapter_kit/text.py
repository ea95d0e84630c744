"""The pieces of a stream to text: whole characters, deltas only, cut at a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from adapter_api import ProtocolViolation
from adapter_kit.stops import StopCutter

_UTF8 = codecs.getincrementaldecoder("utf-8")
# What a tokenizer shows for a character whose last bytes are still to come: U+FFFD.
_UNRESOLVED = "\ufffd".encode()


class TextAssembler:
    """Turn the pieces of one stream into text to show.

    A character cut by the end of a piece waits for its other bytes; bytes that are no UTF-8 become U+FFFD.

    Args:
        cumulative: Whether each piece repeats the text so far. Then U+FFFD at the end of a piece waits too: models show
            it for characters that are not complete. `None` finds out from the pieces (see `_Cumulation`).
        stops: Stop strings; the text ends before the first of them.
    """

    __slots__ = ("_cumulation", "_cutter", "_decoder", "plain")

    def __init__(self, *, cumulative: bool | None = False, stops: Iterable[str] = ()) -> None:
        stops = tuple(stops)
        self._decoder: codecs.IncrementalDecoder | None = None
        self._cutter = StopCutter(stops) if stops else None
        self._cumulation = None if cumulative is False else _Cumulation(known=cumulative is True)
        self.plain = self._cutter is None and self._cumulation is None
        """Whether pieces can be decoded on their own: nothing waits, and nothing is to be looked for."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._cutter is not None and self._cutter.stopped

    def feed(self, piece: bytes) -> str:
        """Take the next piece and return what may be shown now, often nothing."""
        if self.plain:
            try:
                return piece.decode()
            except UnicodeDecodeError:
                self.plain = False
        if self._cumulation is not None:
            piece = self._cumulation.feed(piece)
        return self._show(piece)

    def finish(self) -> str:
        """Return what was held back; no more pieces come."""
        piece = b"" if self._cumulation is None else self._cumulation.finish()
        text = self._show(piece, final=True)
        return text if self._cutter is None else text + self._cutter.finish()

    def _show(self, piece: bytes, *, final: bool = False) -> str:
        decoder = self._decoder
        if decoder is None:
            if final and not piece:
                return ""  # all was whole, as it mostly is
            decoder = self._decoder = _UTF8("replace")
        text = decoder.decode(piece, final)
        if self._cutter is not None:
            return self._cutter.feed(text)
        # Back to the short way once the character that was cut is complete.
        self.plain = self._cumulation is None and not decoder.getstate()[0]
        return text


class _Cumulation:
    """Turn pieces that repeat the text so far into deltas.

    Unless it is `known`, the pieces tell: the second one settles it unless it begins with the first and goes on, as a
    piece of a delta stream may by chance. Then it waits for one that does the same to the second, or for the end.
    """

    __slots__ = ("_known", "_seen", "_unsure", "_whole")

    def __init__(self, *, known: bool) -> None:
        self._known: bool | None = True if known else None
        self._seen = b""
        """What has been passed on, as the beginning of every later piece."""
        self._whole = b""
        """The last piece; longer than `_seen` by what is not resolved yet."""
        self._unsure: list[bytes] = []
        """Pieces that look cumulative, all alike, not passed on until a longer one confirms it."""

    def feed(self, piece: bytes) -> bytes:
        if self._known is False:
            return piece
        # Some models end with an empty piece.
        if not piece:
            return b""
        if self._known is None:
            return self._find_out(piece)
        return self._advance(piece)

    def finish(self) -> bytes:
        new = self._resolve() if self._unsure else b""
        return new + self._whole[len(self._seen) :]

    def _advance(self, piece: bytes) -> bytes:
        if not piece.startswith(self._seen):
            raise ProtocolViolation(
                "the engine repeats its text in every response, but changed a part of it that was already shown; "
                "ask it for deltas, or say `cumulative = false` for this model if these were deltas"
            )
        self._whole = piece
        seen, self._seen = self._seen, _resolved(piece)
        return self._seen[len(seen) :]

    def _find_out(self, piece: bytes) -> bytes:
        if not self._whole:
            return self._advance(piece)
        before = self._unsure[-1] if self._unsure else self._whole
        if piece == before and self._unsure:
            self._unsure.append(piece)
            return b""
        if len(piece) > len(before) and piece.startswith(_resolved(before)):
            if not self._unsure:
                self._unsure.append(piece)
                return b""
            self._known = True
            return self._resolve() + self._advance(piece)
        return self._deltas(b"".join(self._unsure) + piece)

    def _resolve(self) -> bytes:
        piece = self._unsure[-1]
        self._unsure.clear()
        return self._advance(piece)

    def _deltas(self, piece: bytes) -> bytes:
        """They were deltas all along: pass on what waited, too."""
        self._known = False
        waiting = self._whole[len(self._seen) :]
        self._unsure.clear()
        self._whole = self._seen = b""
        return waiting + piece


def _resolved(piece: bytes) -> bytes:
    """Return `piece` without the characters at its end that are not complete yet."""
    while piece.endswith(_UNRESOLVED):
        piece = piece[: -len(_UNRESOLVED)]
    return piece

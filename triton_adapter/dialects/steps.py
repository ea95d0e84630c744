"""Gives each step of an engine the part of the text that it made.

An engine may join several steps into one message: one text, and for each step the token that was chosen, decoded on its
own. Those tokens say where to cut the text, though not letter by letter. A token decoded on its own loses the blank
before it (SentencePiece), shows U+FFFD or nothing for some bytes of a character whose others are elsewhere, and is not
in the text at all where it is a special token. So a text is cut only where all of it comes out, and never guessed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

_UNRESOLVED = "\ufffd"
# Steps without text, as special tokens and parts of characters are, that may wait beside those whose text is held back.
_SILENT_STEPS = 64

S = TypeVar("S")


class Piece(NamedTuple, Generic[S]):
    """A part of the text, and the steps that made it: one, or several where nothing tells them apart."""

    text: str
    steps: tuple[S, ...]


class StepTexts(Generic[S]):
    """The texts of the steps of one stream.

    Args:
        behind: How many characters the engine holds back, as it does for stop strings: so far text may come after its
            step, and a step waits for it. With 0 each message stands for itself.
    """

    __slots__ = ("_behind", "_lost", "_text", "_waiting")

    def __init__(self, behind: int = 0) -> None:
        self._behind = behind
        self._text = ""
        """Text that no step has got yet; that of `_waiting` begins with it."""
        self._waiting: list[tuple[S, str | None]] = []
        self._lost = False
        """Whether text and steps no longer fit: then each message is one piece."""

    def take(self, text: str, steps: Sequence[tuple[S, str | None]]) -> list[Piece[S]]:
        """Take a message's text and steps, each with its token, if the engine tells it; return what is known by now."""
        if self._lost or (len(steps) == 1 and not self._behind):
            return [Piece(text, tuple(step for step, _ in steps))]
        return self._take(text, steps, more=self._behind > 0)

    def finish(self, text: str) -> list[Piece[S]]:
        """Take the rest of the text; return all that waited."""
        return self._take(text, (), more=False) if self._waiting else [Piece(text, ())]

    def _take(self, text: str, steps: Sequence[tuple[S, str | None]], *, more: bool) -> list[Piece[S]]:
        text = self._text = self._text + text
        waiting = self._waiting = [*self._waiting, *steps]
        tokens = [token for _, token in waiting if token is not None]
        texts = cut(text, tokens, more=more) if len(tokens) == len(waiting) else None
        if texts is None or len(waiting) - len(texts) > self._behind + _SILENT_STEPS:
            self._lost = self._behind > 0
            self._text, self._waiting = "", []
            return [Piece(text, tuple(step for step, _ in waiting))]
        self._text, self._waiting = text[sum(map(len, texts)) :], waiting[len(texts) :]
        return [Piece(part, (step,)) for part, (step, _) in zip(texts, waiting, strict=False)]


def cut(text: str, tokens: Sequence[str], *, more: bool = False) -> list[str] | None:
    """Return each token's part of `text`; `None` if they do not make it up.

    With `more` to come, it may be the parts of the first tokens only: those whose text is there for certain.
    """
    parts: list[str] = []
    run = _Run()
    at = 0
    for token in tokens:
        if not token or _UNRESOLVED in token:
            run.add(len(parts), token)
            parts.append("")
            continue
        last = run.end(text, at)
        found = _find(text, token, at + run.least, last)
        if found is None and (start := _begun(text, token, at + run.least, last)) is not None:
            if more:
                return parts[: run.places[0] if run.places else len(parts)]
            found = start, len(text)
        if found is not None:
            run.close(text[at : found[0]], parts)
            at = found[1]
        parts.append("" if found is None else text[found[0] : at])
    if run.places and run.end(text, at) == len(text):
        if more:
            return parts[: run.places[0]]
        run.close(text[at:], parts)
        at = len(text)
    return parts if at == len(text) else None


class _Run:
    """Tokens in a row that hold parts of characters, or nothing: they have the text up to the next whole one."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.places: list[int] = []
        self.least = 0
        """How many characters they make at least."""
        self._room = 0
        """How many characters beyond ASCII they can make."""
        self._ascii = ""

    def add(self, place: int, token: str) -> None:
        self.places.append(place)
        if token:
            self.least = 1
        self._ascii += "".join(filter(str.isascii, token))
        self._room += max(1, sum(not letter.isascii() for letter in token))

    def end(self, text: str, at: int) -> int:
        """Return where, at the latest, the text of these tokens ends that begins at `at`."""
        room, letters, first = self._room, iter(self._ascii), at
        letter = next(letters, None)
        while self.places and at < len(text):
            if not text[at].isascii():
                if not room:
                    break
                room -= 1
            elif text[at] == letter:
                letter = next(letters, None)
            elif text[at] != " " or at != first:
                break
            at += 1
        return at

    def close(self, text: str, parts: list[str]) -> None:
        """Give these tokens their text: each character to the token that completes it, as far as that is known."""
        if not self.places:
            return
        if len(text.encode()) == len(self.places):  # one byte each
            at = -1
            for letter in text:
                at += len(letter.encode())
                parts[self.places[at]] = letter
        else:
            parts[self.places[-1]] = text
        self._begin()


def _find(text: str, token: str, first: int, last: int) -> tuple[int, int] | None:
    """Return where a token begins and ends that begins at `first` to `last`, with the blank that it may have lost."""
    for at in range(first, last + 1):
        if text.startswith(token, at):
            return at, at + len(token)
        if text.startswith(" ", at) and text.startswith(token, at + 1):
            return at, at + 1 + len(token)
    return None


def _begun(text: str, token: str, first: int, last: int) -> int | None:
    """Return where the text breaks off inside a token, or before it."""
    for at in range(max(first, len(text) - len(token)), min(last, len(text)) + 1):
        rest = text[at:]
        if token.startswith(rest) or (rest.startswith(" ") and token.startswith(rest[1:])):
            return at
    return len(text) if first > last == len(text) else None

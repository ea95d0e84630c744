"""The text that came and was not read yet, and how it is read while more of it comes.

What reads is a generator: it yields where it needs more text than there is, and is gone on with when there is more, or
when `ended` says that nothing more comes. What it takes does not depend on how the text was cut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import TypeVar

from adapter_kit.tool_calls.parts import MOST_HELD

_T = TypeVar("_T")
Reading = Generator[None, None, _T]
_SPACE = re.compile(r"\s*")


class NoCall(Exception):
    """What was taken since `Source.hold` is no call."""


class Source:
    """What is to be read. From `hold` on, all that is taken is kept, to be given back as text by `release` if it was no
    call."""

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.ended = False
        self._held: list[str] | None = None
        self._size = 0

    def add(self, text: str) -> None:
        self.text = self.text[self.at :] + text
        self.at = 0

    def take(self, end: int) -> str:
        """Return the text up to a position, which is read then.

        Raises:
            NoCall: This is more than may be held back.
        """
        text = self.text[self.at : end]
        self.at += len(text)
        if self._held is not None:
            self._held.append(text)
            self._size += len(text)
            if self._size > MOST_HELD:
                raise NoCall
        return text

    def hold(self) -> None:
        """Forget what was held, and hold from here on."""
        self._held, self._size = [], 0

    def release(self) -> str:
        """Return what was held, and hold no longer."""
        held, self._held = self._held or [], None
        return "".join(held)


class Words:
    """Words to look for. Where one is the beginning of another, the longer one counts."""

    def __init__(self, *words: str) -> None:
        ordered = sorted({*words} - {""}, key=len, reverse=True)
        self._longest = max(map(len, ordered), default=0)
        self._words = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
        begun = [_begun(word) for word in ordered if len(word) > 1]
        self._begun = re.compile(f"(?:{'|'.join(begun)})\\Z" if begun else r"(?!)")

    def find(self, text: str, at: int) -> re.Match[str] | None:
        """Return the first word from a position on."""
        return self._words.search(text, at)

    def match(self, text: str, at: int) -> re.Match[str] | None:
        """Return the word at a position."""
        return self._words.match(text, at)

    def begun_at(self, text: str, at: int) -> int | None:
        """Return where the end of a text may be the beginning of a word."""
        found = self._begun.search(text, max(at, len(text) - self._longest + 1))
        return found and found.start()


def letter(source: Source) -> Reading[str]:
    """Return the next letter, which stays to be read; nothing where the text is over."""
    while source.at == len(source.text):
        if source.ended:
            return ""
        yield
    return source.text[source.at]


def space(source: Source) -> Reading[None]:
    """Read whitespace."""
    while True:
        match = _SPACE.match(source.text, source.at)
        assert match is not None
        if match.end() > source.at:
            source.take(match.end())
        if source.at < len(source.text) or source.ended:
            return
        yield


def word(source: Source, words: Words) -> Reading[str]:
    """Read the word that stands here, if one does."""
    yield from letter(source)
    while not source.ended and words.begun_at(source.text, source.at) == source.at:
        yield
    found = words.match(source.text, source.at)
    return "" if found is None else source.take(found.end())


def until(source: Source, words: Words, say: Callable[[str], object], *, limit: int | None = None) -> Reading[str]:
    """Read up to a word, and return it, which stays to be read; nothing where the text is over.

    Args:
        source: What is read.
        words: What it ends with.
        say: Gets the text before the word, as soon as it is certain not to be the word.
        limit: How much text there may be.

    Raises:
        NoCall: There is more text before the word.
    """
    left = limit
    while True:
        text, at = source.text, source.at
        found = words.find(text, at)
        begun = None if source.ended else words.begun_at(text, at)
        if found is not None and begun is not None and begun <= found.start():
            found = None
        end = found.start() if found is not None else len(text) if begun is None else begun
        if left is not None and end - at > left:
            source.take(at + left)
            raise NoCall
        if end > at:
            say(source.take(end))
            left = left and left - (end - at)
        if found is not None:
            return found[0]
        if source.ended:
            return ""
        yield


def run(source: Source, letters: re.Pattern[str], *, limit: int) -> Reading[str]:
    """Read letters as long as they are such; `letters` matches any number of them.

    Raises:
        NoCall: There are more of them than the limit.
    """
    taken = ""
    while True:
        found = letters.match(source.text, source.at)
        assert found is not None
        end = min(found.end(), source.at + limit - len(taken))
        if end > source.at:
            taken += source.take(end)
        if source.at < found.end():
            raise NoCall
        if source.at < len(source.text) or source.ended:
            return taken
        yield


def _begun(word: str) -> str:
    """Return an expression for the beginnings of a word."""
    pattern = ""
    for each in reversed(word[:-1]):
        pattern = re.escape(each) + (f"(?:{pattern})?" if pattern else "")
    return pattern

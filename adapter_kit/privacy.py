"""Keeps a task's texts out of what is said about it, when an engine quotes them in its errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

_MARK = "…"
_WHOLE = 6
"""Letters and digits of a text that is taken for the prompt when all of it appears. Shorter ones are too common."""
_WINDOW, _STRIDE = 12, 4
"""A part of the prompt is known by `_WINDOW` letters and digits in a row, looked for at every `_STRIDE`th place."""
_EDGES = "\"'\\ "


def without(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with every secret replaced that appears as a whole: as it is, or as Python or JSON writes it."""
    for secret in secrets:
        if sum(map(str.isalnum, secret)) >= _WHOLE:
            for form in _forms(secret):
                text = text.replace(form, _MARK)
    return text


def without_parts(text: str, secrets: Iterable[str]) -> str:
    """Return `text` without secrets and without parts of them, whatever quoting, joining of lines or another case did.

    Parts of less than 15 letters and digits may stay. Meant for texts of some hundred characters.
    """
    for secret in secrets:
        for form in _forms(secret):
            text = _without_parts(text, _letters(form))
    return text


def _forms(secret: str) -> Iterator[str]:
    yield from dict.fromkeys(
        (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    )


def _letters(text: str) -> str:
    return _lower("".join(filter(str.isalnum, text)))


def _lower(text: str) -> str:
    """Return `text` in lower case and as long as it was: İ is the one letter that would become two."""
    return text.replace("İ", "i").lower()


def _without_parts(text: str, secret: str) -> str:
    places = [index for index, letter in enumerate(text) if letter.isalnum()]
    letters = _lower("".join(text[place] for place in places))
    pieces: list[str] = []
    copied = at = 0
    while at + _WINDOW <= len(letters):
        found = secret.find(letters[at : at + _WINDOW])
        if found < 0:
            at += _STRIDE
            continue
        start, end = _widened(letters, secret, at, found)
        pieces += (text[copied : max(places[start], copied)].rstrip(_EDGES), _MARK)
        copied, at = places[end - 1] + 1, end
    rest = text[copied:]
    return " ".join(filter(None, (*pieces, rest.lstrip(_EDGES) if pieces else rest)))


def _widened(letters: str, secret: str, at: int, found: int) -> tuple[int, int]:
    """Return from where to where the two agree around a window in which they do."""
    start, end, ahead = at, at + _WINDOW, found + _WINDOW
    while start > 0 and found > 0 and letters[start - 1] == secret[found - 1]:
        start, found = start - 1, found - 1
    while end < len(letters) and ahead < len(secret) and letters[end] == secret[ahead]:
        end, ahead = end + 1, ahead + 1
    return start, end

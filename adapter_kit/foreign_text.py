"""Words of an engine, a template or a name from outside, made fit for people: in a log line, a message, a terminal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from adapter_kit.privacy import without, without_parts

LIMIT = 400
"""Characters of a message that are shown of what somebody else wrote."""

_TRACEBACK = re.compile(r"\s*Traceback \(most recent call last\):.*?\n(?=\w[\w.]*(Error|Exception)\b)", re.DOTALL)
_FRAME = re.compile(r'\s*File "[^"]*", line \d+, in \S+(\n\s+[^\n]*)?')
_PATH = re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+([\w.@+-]+)")
# Marks that turn the direction of a line round, and characters that nobody sees: with them a text shows as another one.
_UNSEEN = frozenset(map(chr, (
    0x061C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),
)))  # fmt: skip
_CONTROLS = frozenset({"Cc", "Cs"})


def one_line(text: str, *, limit: int = LIMIT) -> str:
    """Return `text` in one line of at most `limit` characters, without control characters and direction marks."""
    text = " ".join(text[: 8 * limit].split())
    if not (text.isascii() and text.isprintable()):
        text = "".join(each for each in text if each not in _UNSEEN and unicodedata.category(each) not in _CONTROLS)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean(text: str, *, hide: Iterable[str] = (), limit: int = LIMIT) -> str:
    """Return an engine's words fit for people: one line, no traceback, no directories of its machine, nothing hidden.

    Args:
        text: The words.
        hide: Texts that must not appear: prompts and credentials, whole or in part, however they are quoted.
        limit: How long the result may be.
    """
    hidden = tuple(hide)
    text = without(text, hidden)
    text = _TRACEBACK.sub("", text)
    text = _FRAME.sub("", text)
    text = _PATH.sub(r"\1", text)
    return one_line(without_parts(one_line(text, limit=2 * limit), hidden), limit=limit)

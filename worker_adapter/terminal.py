"""What may be written to a terminal, and how: colours, tables, text from strangers."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

from adapter_kit.standard_streams import tell

Style = Literal["red", "green", "yellow", "cyan", "bold", "dim"]

_CODES: dict[Style, int] = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
# Control characters but tab and line feed: a model's text must not move the cursor or retitle the window.
_UNSAFE = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def has_colour(stream: TextIO) -> bool:
    """Return whether `stream` shows colours: a terminal, unless `NO_COLOR` is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: Style, stream: TextIO) -> str:
    """Return `text` in a style, or as it is when `stream` shows none."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if has_colour(stream) else text


def without_controls(text: str) -> str:
    """Return `text` without the control characters that a terminal would obey."""
    return text if text.isprintable() else text.translate(_UNSAFE)


def note(text: str, style: Style = "dim") -> None:
    """Write a line about what goes on to standard error. One that cannot be written, on a full disk, stops nothing."""
    tell(styled(without_controls(text), style, sys.stderr))


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], colours: Mapping[str, Style] | None = None
) -> None:
    """Print left-aligned columns as wide as their contents; a cell that is a key of `colours` is coloured."""
    cells = [[without_controls(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(headings, *cells, strict=True)]
    print(styled(_line(headings, widths, {}), "bold", sys.stdout))
    for row in cells:
        print(_line(row, widths, colours or {}))


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair per line."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        print(f"{styled(f'{name:<{width}}', 'dim', sys.stdout)}  {without_controls(value)}".rstrip())


def _line(cells: Sequence[str], widths: Sequence[int], colours: Mapping[str, Style]) -> str:
    line = ""
    for cell, width in zip(cells, widths, strict=True):
        painted = styled(cell, colours[cell], sys.stdout) if cell in colours else cell
        line += painted + " " * (width - _width(cell) + 2)
    return line.rstrip()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)

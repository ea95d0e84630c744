"""Lines from a terminal, with editing, or from a pipe."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Protocol

from adapter_api import InvalidRequest
from worker_adapter.terminal import has_colour


class Lines(Protocol):
    """Where questions come from."""

    interactive: bool
    """Whether somebody sits there."""

    def read(self) -> str | None:
        """Return the next line, `None` after the last one; raises `KeyboardInterrupt` for Ctrl-C."""
        ...


class PipedLines:
    """Lines of a pipe or a file that are not empty; raises `InvalidRequest` for what is no UTF-8."""

    interactive = False

    def read(self) -> str | None:
        for line in sys.stdin.buffer:
            try:
                text = line.decode().strip()
            except UnicodeDecodeError:
                raise InvalidRequest("standard input is not UTF-8 text") from None
            if text:
                return text
        return None


class TypedLines:
    """Lines that somebody types; a backslash at the end of a line, or a pasted line break, goes on with the next."""

    interactive = True

    def __init__(self) -> None:
        # Editing and the lines before, where Python has it. Nothing is written to a file.
        with suppress(ImportError):
            import readline  # noqa: F401 - `input` uses it
        bold = has_colour(sys.stdout)
        self._prompt = "\x01\x1b[1m\x02> \x01\x1b[0m\x02" if bold else "> "

    def read(self) -> str | None:
        try:
            line = input(self._prompt)
            while line.endswith("\\"):
                line = f"{line[:-1]}\n{input('… ')}"
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            raise
        return line

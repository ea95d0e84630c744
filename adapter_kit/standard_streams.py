"""The standard streams of a command-line program: open at its start, and settled at its end.

The interpreter flushes both streams once more when it exits. If that fails, on a full disk for one, it sets the exit
status to 120, whatever the program had done and returned. Here they are flushed while something can still be said of
it, and a stream that takes nothing more is led to nowhere, so that the last flush has nothing to fail at.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def open_streams() -> None:
    """Make both streams usable, whatever started the process; call it first of all.

    A supervisor may have closed them: they are nowhere then, and no file or socket opened later takes their numbers.
    Lines are written as they are printed, into a pipe or a file too, so that a log is read when its line was written
    and an error of writing is raised where the line was printed. Characters that a stream lacks become "?".
    """
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(lowest, True)
    os.close(lowest)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]


def settle_streams() -> OSError | None:
    """Write what is left in both streams; call it last of all. Return why standard output did not take it.

    A standard error that takes nothing is no news: there is no place left to tell it.
    """
    trouble = None
    try:
        sys.stdout.flush()
    except OSError as exc:
        trouble = exc
        abandon(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:
        abandon(sys.stderr)
    return trouble


def abandon(stream: TextIO) -> None:
    """Let nothing more be written to `stream`, which takes nothing: what it still holds and what follows is dropped."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
    with suppress(OSError):
        stream.flush()


def tell(text: str) -> None:
    """Write a line to standard error at once. One that cannot be written stops nothing."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

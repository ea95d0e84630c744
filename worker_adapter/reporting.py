"""Errors as people and programs see them: one sentence on standard error, or one event on standard output."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress

from adapter_api import AdapterError, AdapterFailed, ConfigurationError, Error, encode_event
from adapter_kit.standard_streams import abandon
from worker_adapter.exit_codes import ExitCode, code_for_command
from worker_adapter.terminal import one_line, styled

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a file that takes no more says: the disk is full or broken, or the user's share of it is used up."""


def print_error(error: Error, *, lines: bool = False) -> None:
    """Write `error[code]: message` to standard error: one line, or the message's own lines where they are ours."""
    _complain(f"error[{error.code}]:", *(error.message.split("\n") if lines else (error.message,)))


def report(exc: Exception, *, as_json: bool, debug: bool) -> ExitCode:
    """Tell what a command ended in and return its exit code."""
    cause = _sole(exc)
    if isinstance(cause, BrokenPipeError):
        abandon(sys.stdout)
        return ExitCode.CANCELLED
    if debug:
        with suppress(OSError):
            traceback.print_exception(exc)
    if isinstance(cause, OSError) and cause.errno in _UNWRITABLE:
        _complain("error:", f"cannot write the output: {cause.strerror}")
        abandon(sys.stdout)
        return ExitCode.FAILED
    if not isinstance(cause, AdapterError):
        # Without its message: it may quote anything, a prompt included.
        cause = AdapterFailed(f"the program broke with {type(cause).__name__}: a bug in it; --debug shows where")
    error = Error.from_exception(cause)
    if as_json:
        try:
            write_json(encode_event(error))
        except OSError:  # then the sentence, and the exit code, tell it
            abandon(sys.stdout)
            print_error(error)
    else:
        print_error(error, lines=isinstance(cause, ConfigurationError))
    return code_for_command(error)


def write_json(document: bytes) -> None:
    """Write one JSON document as a line of its own to standard output, at once."""
    sys.stdout.buffer.write(document + b"\n")
    sys.stdout.buffer.flush()


def _complain(label: str, text: str, *more: str) -> None:
    """Write `text` after `label`, and each fault that it announces on a line of its own."""
    told = [f"{styled(label, 'red', sys.stderr)} {one_line(text)}", *(f"  {one_line(each.strip())}" for each in more)]
    with suppress(OSError):  # the exit code still tells
        print("\n".join(told), file=sys.stderr, flush=True)


def _sole(exc: Exception) -> Exception:
    """Return what a task group's group comes to: its only exception, or one of several of a kind."""
    leaves = list(_leaves(exc))
    return leaves[0] if len({type(leaf) for leaf in leaves}) == 1 else exc


def _leaves(exc: Exception) -> Iterator[Exception]:
    if isinstance(exc, ExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc

"""From line to line: what was typed is asked or obeyed, until nothing comes any more."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from adapter_api import AdapterError, Error, InvalidRequest
from adapter_kit.standard_streams import abandon
from worker_adapter.chat.conversation import Conversation
from worker_adapter.chat.line import Command, read_line
from worker_adapter.chat.lines import Lines
from worker_adapter.chat.slash_commands import NAMES, Leave, obey
from worker_adapter.exit_codes import ExitCode, code_for_task
from worker_adapter.reporting import print_error
from worker_adapter.submission import describe_receipt
from worker_adapter.terminal import note


def converse(chat: Conversation, lines: Lines) -> ExitCode:
    """Hold the conversation and return how it ended.

    Somebody who sits there is told what goes wrong, and goes on. In a pipe the first thing that goes wrong ends it:
    what follows was meant for an answer that is not there.

    Raises:
        InvalidRequest: A line of a pipe is no command there is, or what it says cannot be done.
    """
    interrupted = False
    try:
        with _ending_in_order():
            while True:
                try:
                    if (line := lines.read()) is None:
                        return ExitCode.DONE
                    interrupted = False
                    if (code := _take(chat, line, interactive=lines.interactive)) is not None:
                        return code
                except KeyboardInterrupt:
                    if interrupted or not lines.interactive:
                        return ExitCode.CANCELLED
                    interrupted = True
                    note("Ctrl-C once more, or Ctrl-D, ends the chat")
    except Leave:
        return ExitCode.DONE
    except _Ended:
        return ExitCode.CANCELLED
    except BrokenPipeError:
        abandon(sys.stdout)
        return ExitCode.CANCELLED


def _take(chat: Conversation, line: str, *, interactive: bool) -> ExitCode | None:
    """Do what a line says; returns the exit code where it ends the conversation."""
    meant = read_line(line, NAMES)
    if isinstance(meant, Command):
        try:
            obey(chat, meant)
        except AdapterError as exc:
            if not interactive:
                raise
            print_error(Error.from_exception(exc))
        return None
    if not meant.text and interactive:
        if meant.images:
            # A picture that was dragged in: the question about it comes next.
            chat.images += meant.images
            note(f"with the next question: {', '.join(chat.images)}")
        return None
    found = chat.ask(meant.text, meant.images)
    if found.receipt is not None:
        forgotten = "; it is not remembered" if found.answer is not None and found.answer.cancelled else ""
        note(f"{found.signal_name}: {describe_receipt(found.receipt)}{forgotten}", "yellow")
    if found.signal_name is not None and (found.signal_name != "SIGINT" or not interactive):
        return ExitCode.CANCELLED
    if found.error is not None and not interactive:
        return ExitCode.USAGE if found.error.code == InvalidRequest.code else code_for_task(found.error)
    return None


class _Ended(BaseException):
    """Somebody wants the program to end."""


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the conversation as Ctrl-C ends other commands: the terminal is as it was."""

    def end(number: int, frame: FrameType | None) -> None:
        raise _Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

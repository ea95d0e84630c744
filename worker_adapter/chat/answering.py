"""One answer: read as it comes, and cancelled by Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from adapter_api import AdapterError, CancelReceipt, End, Error, TokenEvent
from adapter_clients import ChatAnswer, SyncChatClient
from worker_adapter.event_output import EventOutput
from worker_adapter.exit_codes import ExitCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_RECEIPT_S = 15.0


class Answer:
    """What became of a question: the answer, or an error; and what a signal did to it."""

    def __init__(self, answer: ChatAnswer | None, error: Error | None, signal_name: str | None) -> None:
        self.answer = answer
        self.error = error
        self.signal_name = signal_name
        self.receipt: CancelReceipt | None = None


def ask(client: SyncChatClient, output: EventOutput, text: str, **asked: Any) -> Answer:
    """Ask a question and write the events of its answer. The first signal cancels it, a second one ends the process.

    Raises:
        BrokenPipeError: Nobody reads the output any more; the answer is cancelled.
    """
    stream = client.stream(text, **asked)
    with _CancelOnSignal(stream.cancel) as cancelling:
        error: Error | None = None
        try:
            for event in _until_the_end(stream.events()):
                output.write([event])
        except AdapterError as exc:
            error = Error.from_exception(exc)
            output.write([error])
        found = Answer(stream.answer, error, cancelling.signal_name)
        if cancelling.receipt is not None:
            with suppress(Exception):  # the answer was over, or the engine is gone: there is nothing to tell then
                found.receipt = cancelling.receipt.result(_RECEIPT_S)
    return found


def _until_the_end(events: Iterator[TokenEvent]) -> Iterator[TokenEvent]:
    for event in events:
        yield event
        if isinstance(event, End):
            return


class _CancelOnSignal:
    """While entered, a signal cancels the answer rather than the program."""

    def __init__(self, cancel: Any) -> None:
        self._cancel = cancel
        self.signal_name: str | None = None
        self.receipt: Future[CancelReceipt] | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None:
            os._exit(ExitCode.CANCELLED)
        self.signal_name = signal.Signals(number).name
        self.receipt = self._cancel()

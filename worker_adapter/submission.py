"""One task from submission to its last event, with what may get in its way: signals, a reader that goes away."""

from __future__ import annotations

import sys

import anyio

from adapter_api import (
    CancelReceipt,
    End,
    Error,
    TaskRequest,
    TokenEvent,
    WorkerAdapter,
)
from adapter_clients.chat.models import only_text_model
from adapter_kit.standard_streams import abandon
from worker_adapter.event_output import EventOutput
from worker_adapter.exit_codes import ExitCode, code_for_task
from worker_adapter.interrupt import Interrupt
from worker_adapter.terminal import note

# After the engine was told, for the stream to hand out its last event.
_LAST_EVENT_S = 1.0


class Submission:
    """Runs one task.

    Args:
        task: Its model is a placeholder when `choose_model` is true.
        choose_model: Take the engine's only text model.
    """

    def __init__(
        self, adapter: WorkerAdapter, task: TaskRequest, output: EventOutput, *, choose_model: bool = False
    ) -> None:
        self._adapter = adapter
        self._task = task
        self._output = output
        self._choose_model = choose_model
        self._submitted = False
        self._terminal: End | Error | None = None
        self._reader_gone = False

    def run(self) -> ExitCode:
        """Return when the task is over, on an event loop of its own. The first signal cancels it."""
        with Interrupt() as interrupt:
            anyio.run(self._run, interrupt)
        if self._reader_gone:
            return ExitCode.CANCELLED
        if self._terminal is None:
            self._write([End(finish_reason="cancelled")])
        if isinstance(self._terminal, Error):
            return code_for_task(self._terminal)
        return ExitCode.CANCELLED if self._says_cancelled() else ExitCode.DONE

    async def _run(self, interrupt: Interrupt) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._cancel_on_signal, interrupt, group.cancel_scope)
            async with self._adapter:
                if self._choose_model:
                    model = await only_text_model(self._adapter, how="choose one with --model")
                    self._task = self._task.model_copy(update={"model": model})
                await self._stream()
            group.cancel_scope.cancel()

    async def _stream(self) -> None:
        stream = self._adapter.submit(self._task)
        self._submitted = True
        async for events in stream.batches():
            self._write(events)
            if self._reader_gone:
                await self._adapter.cancel(self._task.job_id)
                return

    async def _cancel_on_signal(self, interrupt: Interrupt, scope: anyio.CancelScope) -> None:
        await interrupt.wait()
        if self._submitted:
            receipt = await self._adapter.cancel(self._task.job_id)
            note(f"{interrupt.signal_name}: {describe_receipt(receipt)}", "yellow")
            await anyio.sleep(_LAST_EVENT_S)
        else:
            note(f"{interrupt.signal_name}: cancelled before the task was sent", "yellow")
        scope.cancel()

    def _write(self, events: list[TokenEvent]) -> None:
        if isinstance(events[-1], End | Error):
            self._terminal = events[-1]
        try:
            self._output.write(events)
        except BrokenPipeError:
            abandon(sys.stdout)
            self._reader_gone = True

    def _says_cancelled(self) -> bool:
        return isinstance(self._terminal, End) and self._terminal.finish_reason == "cancelled"


def describe_receipt(receipt: CancelReceipt) -> str:
    """Return a cancel's receipt as a sentence."""
    if not receipt.found:
        return "the task was over already"
    told = {
        "hard": "the engine was told to stop",
        "on_next_chunk": "the engine stops with its next chunk",
        "client_only": "the engine cannot be told and may go on",
        None: "the engine was told" if receipt.sent else "the engine was not told",
    }[receipt.mode]
    ended = "no token follows" if receipt.acknowledged else "its stream did not close in time"
    slot = {True: "its slot is free", False: "its slot is still busy", None: ""}[receipt.released]
    return ", ".join(part for part in (f"cancelled in {receipt.after_ms:.1f} ms: {told}", ended, slot) if part)

"""Bugs planted in real adapters, before the suite: the mutants are all of one adapter, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from adapter_api import (
    AdapterError,
    ConnectFailed,
    ConnectionLost,
    End,
    EngineFailed,
    InferRequest,
    InferResponse,
    InvalidRequest,
    NotReady,
    Overloaded,
    TaskRequest,
    Token,
    TokenEvent,
    WorkerAdapter,
)
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.harness import Harness
from conformance_tests.outcome import Outcome, Status
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.conformance import TritonHarness
from triton_adapter.embedded import EmbeddedTriton

no_spec = "it is about the checks of several requirements"
pytestmark = [pytest.mark.live, pytest.mark.long]  # on the reference each has a mutant, which is quick


class Planted(TritonHarness):
    """Tries an adapter that is broken in one way."""

    def __init__(self, adapter: Callable[[TritonSettings], WorkerAdapter], server: EmbeddedTriton) -> None:
        super().__init__(server=server)
        self._planted = adapter

    def adapter(self) -> WorkerAdapter:
        sound = super().adapter()
        assert isinstance(sound, TritonAdapter)
        return self._planted(sound.settings)


class _Changing(TritonAdapter):
    """Sends another task than the one it was given."""

    def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        return super()._submit(self._changed(task))

    def _changed(self, task: TaskRequest) -> TaskRequest:
        return task


class SendsTheLastMessage(_Changing):
    def _changed(self, task: TaskRequest) -> TaskRequest:
        return task if task.messages is None else task.model_copy(update={"messages": task.messages[-1:]})


class TakesAllForTheUsers(_Changing):
    def _changed(self, task: TaskRequest) -> TaskRequest:
        if task.messages is None:
            return task
        users = tuple(message.model_copy(update={"role": "user"}) for message in task.messages)
        return task.model_copy(update={"messages": users})


class SendsTheConversationBefore(_Changing):
    before: tuple[Any, ...] = ()

    def _changed(self, task: TaskRequest) -> TaskRequest:
        if task.messages is None:
            return task
        sent = (*self.before, *task.messages)
        self.before = task.messages
        return task.model_copy(update={"messages": sent})


def _without(option: str) -> type[_Changing]:
    class Loses(_Changing):
        def _changed(self, task: TaskRequest) -> TaskRequest:
            return task.model_copy(update={option: None})

    Loses.__name__ = f"Loses{option.title().replace('_', '')}"
    return Loses


class InfersTwice(TritonAdapter):
    async def _infer(self, request: InferRequest) -> InferResponse:
        try:
            return await super()._infer(request)
        except ConnectionLost:
            # As policies of retries do: what is sent at once goes into the connection that has just broken.
            await asyncio.sleep(0.3)
            return await super()._infer(request)


class KeepsItsConnection(TritonAdapter):
    """Leaves the socket of one more connection open."""

    kept: list[Any] = []  # noqa: RUF012 - for ever is the point

    async def _open(self) -> None:
        await super()._open()
        host, _, port = self.settings.url.rpartition("/")[2].partition(":")
        self.kept.append(await asyncio.open_connection(host, int(port)))


class NeverCancels(TritonAdapter):
    """Reads on for itself when its reader has gone."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        events: asyncio.Queue[Any] = asyncio.Queue()
        inner = super()._submit(task)

        async def read() -> None:
            try:
                async for event in inner:
                    events.put_nowait(event)
            except Exception as exc:
                events.put_nowait(exc)
            events.put_nowait(None)

        self.reading = asyncio.create_task(read())
        while (event := await events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event


class HoldsTheLastBack(TritonAdapter):
    """Loses a character of several bytes that nothing follows."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        async for event in super()._submit(task):
            for one in event if isinstance(event, list) else [event]:
                if isinstance(one, Token) and one.text and ord(one.text[-1]) > 0x2000 and one.text[-1] == "…":
                    continue
                yield one


class CountsNothingBesideStops(TritonAdapter):
    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        async for event in super()._submit(task):
            for one in event if isinstance(event, list) else [event]:
                yield End(finish_reason=one.finish_reason) if isinstance(one, End) and task.stop else one


class TellsTheLastEnd(TritonAdapter):
    """Tells the usage of whichever task ended before, when several run."""

    last: TokenEvent | None = None

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        async for event in super()._submit(task):
            for one in event if isinstance(event, list) else [event]:
                if not isinstance(one, End):
                    yield one
                    continue
                told, self.last = self.last, one
                yield told if told is not None and len(self.live_jobs) > 4 else one


class BreaksAtHalfACharacter(TritonAdapter):
    """Calls an answer that stops inside a character a failure, as a strict decoder does."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        async for event in super()._submit(task):
            for one in event if isinstance(event, list) else [event]:
                if isinstance(one, Token) and one.text.endswith("\ufffd"):
                    raise EngineFailed("the engine sent bytes that are no text")
                yield one


class QuotesThePrompt(TritonAdapter):
    """Says what it was asked in what it says of a failure."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        try:
            async for event in super()._submit(task):
                yield event
        except AdapterError as exc:
            raise type(exc)(f"could not answer {task.prompt!r}: {exc.message}") from exc


class PassesOnWhatTheEngineSaid(TritonAdapter):
    """Tells an engine's own words, whatever they repeat."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        try:
            async for event in super()._submit(task):
                yield event
        except AdapterError as exc:
            if isinstance(exc, EngineFailed | InvalidRequest) and "…" in exc.message:
                raise type(exc)(exc.message.replace("…", task.prompt or "")) from exc
            raise


class CountsOn(TritonAdapter):
    """Counts the tokens of a second try from where it thinks that the first one was."""

    def __init__(self, settings: TritonSettings) -> None:
        super().__init__(settings.model_copy(update={"max_retries": 0}))

    async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
        first = 0
        while True:
            try:
                async for event in super()._submit(task):
                    for one in event if isinstance(event, list) else [event]:
                        yield msgspec.structs.replace(one, index=one.index + first) if isinstance(one, Token) else one
                return
            except (NotReady, ConnectionLost, ConnectFailed, Overloaded, EngineFailed):
                if first:
                    raise
                first = 1


PLANTED: list[tuple[type[TritonAdapter], str]] = [
    (SendsTheLastMessage, "ORCH-3055-043"),
    (TakesAllForTheUsers, "ORCH-3055-043"),
    (SendsTheConversationBefore, "ORCH-3055-044"),
    *((_without(option), "ORCH-3055-045") for option in ("temperature", "top_p", "presence_penalty")),
    (_without("model_version"), "ORCH-3055-046"),
    (TellsTheLastEnd, "ORCH-3055-042"),
    (KeepsItsConnection, "ORCH-3056-026"),
    (HoldsTheLastBack, "ORCH-3059-051"),
    (CountsNothingBesideStops, "ORCH-3059-054"),
    (InfersTwice, "ORCH-3061-025"),
    (BreaksAtHalfACharacter, "ORCH-3059-052"),
    (QuotesThePrompt, "ORCH-3058-014"),
    (PassesOnWhatTheEngineSaid, "ORCH-3058-030"),
    (CountsOn, "ORCH-3059-053"),
    pytest.param(NeverCancels, "ORCH-3060-014", marks=pytest.mark.long),  # type: ignore[list-item]
]


def outcome_of(harness: Harness, requirement: str) -> Outcome:
    requirements = {one.id: one for one in load().requirements}
    (outcome,) = Session(harness).run_all([load_suite()[requirement]], requirements, lambda outcome: None)
    return outcome


@pytest.mark.parametrize("adapter, requirement", PLANTED)
def test_a_bug_planted_in_the_triton_adapter_is_found(
    triton: EmbeddedTriton, adapter: type[TritonAdapter], requirement: str
) -> None:
    outcome = outcome_of(Planted(adapter, triton), requirement)

    assert outcome.status is Status.FAILED, outcome

"""Bugs planted in the example adapter, on its engine in a process of its own."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from adapter_api import End, TaskRequest, Usage, WorkerAdapter
from conformance_tests.catalog import load
from conformance_tests.checks import load_suite
from conformance_tests.execution import Session
from conformance_tests.harness import Harness
from conformance_tests.outcome import Status
from tests.project.repository import ROOT

no_spec = "it is about the checks of several requirements"


@pytest.fixture(scope="module")
def parrots() -> Any:
    """The module of the example's own tests, with its harness and its adapter."""
    folder = str(ROOT / "examples" / "minimal_adapter")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("test_conformance")
    finally:
        sys.path.remove(folder)
        sys.modules.pop("test_conformance", None)


def _never_cancels(sound: type[Any]) -> type[Any]:
    class NeverCancels(sound):  # type: ignore[misc]
        async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
            events: asyncio.Queue[Any] = asyncio.Queue()

            async def read() -> None:
                try:
                    async for event in super(NeverCancels, self)._submit(task):
                        events.put_nowait(event)
                except Exception as exc:
                    events.put_nowait(exc)
                events.put_nowait(None)

            self.reading = asyncio.create_task(read())
            while (event := await events.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event

    return NeverCancels


def _drops_the_limit(sound: type[Any]) -> type[Any]:
    class DropsTheLimit(sound):  # type: ignore[misc]
        def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
            return super()._submit(task.model_copy(update={"max_tokens": 16}))  # type: ignore[no-any-return]

    return DropsTheLimit


def _sends_what_was_said_before(sound: type[Any]) -> type[Any]:
    class SendsWhatWasSaidBefore(sound):  # type: ignore[misc]
        before = ""

        def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
            prompt, self.before = f"{self.before} {task.prompt}", task.prompt or ""
            return super()._submit(task.model_copy(update={"prompt": prompt}))  # type: ignore[no-any-return]

    return SendsWhatWasSaidBefore


def _takes_any_version(sound: type[Any]) -> type[Any]:
    class TakesAnyVersion(sound):  # type: ignore[misc]
        def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
            return super()._submit(task.model_copy(update={"model_version": None}))  # type: ignore[no-any-return]

    return TakesAnyVersion


def _tells_the_last_end(sound: type[Any]) -> type[Any]:
    class TellsTheLastEnd(sound):  # type: ignore[misc]
        last = Usage(tokens_in=1, tokens_out=1)

        async def _submit(self, task: TaskRequest) -> AsyncIterator[Any]:
            async for event in super()._submit(task):
                if isinstance(event, End):
                    told, self.last = self.last, event.usage
                    crowded = len(self.live_jobs) > 4
                    event = End(finish_reason=event.finish_reason, usage=told if crowded else event.usage)
                yield event

    return TellsTheLastEnd


@pytest.mark.parametrize(
    "plant, requirement",
    [
        pytest.param(_never_cancels, "ORCH-3060-014", marks=pytest.mark.long),
        (_drops_the_limit, "ORCH-3055-045"),
        (_sends_what_was_said_before, "ORCH-3055-044"),
        (_takes_any_version, "ORCH-3055-046"),
        (_tells_the_last_end, "ORCH-3055-042"),
    ],
)
def test_a_bug_planted_in_the_example_is_found(
    parrots: Any, plant: Callable[[type[Any]], type[Any]], requirement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples" / "minimal_adapter"))

    class Planted(parrots.ParrotHarness):  # type: ignore[misc]
        def adapter(self) -> WorkerAdapter:
            adapter: WorkerAdapter = plant(parrots.ParrotAdapter)(parrots.ParrotSettings(url=self.url))
            return adapter

    harness: Harness = Planted()
    requirements = {one.id: one for one in load().requirements}

    (outcome,) = Session(harness).run_all([load_suite()[requirement]], requirements, lambda outcome: None)

    assert outcome.status is Status.FAILED, outcome

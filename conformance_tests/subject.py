"""What a check is given: the adapter under test, opened and tapped, and the harness that knows about it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec

from adapter_api import Capability, End, EngineProps, TaskRequest, WorkerAdapter, new_job_id
from conformance_tests.harness import Harness, KnownText
from conformance_tests.outcome import Blocked, Failed, NotApplicable, Skipped
from conformance_tests.recording import Recording, Tap

TRIED_S = 0.5
"""Seconds for which an engine that should be gone or hang is tried, to see whether it is."""

CLEANUP_S = 10.0
"""Seconds that mending a fault may take before the check goes on without it."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the adapter told of itself when the run began; `props` is `None` when it could not be asked."""

    props: EngineProps | None = None
    problem: str = ""


class Trust:
    """What the suite found out about the harness itself in this run, once each: a check proves something only if an
    adapter that does nothing would have failed it."""

    def __init__(self) -> None:
        self.known: dict[str, str | None] = {}
        """What was looked at, and what is wrong with it."""

    def forget(self, known: Mapping[str, str | None]) -> None:
        """Go back to what was known before: what was found out on an engine that died says nothing."""
        self.known = dict(known)

    async def ascertain(self, what: str, look: Callable[[], Awaitable[str | None]]) -> None:
        """Block the check when `look`, which is asked once, says that something is wrong."""
        if what not in self.known:
            self.known[what] = await look()
        problem = self.known[what]
        if problem is not None:
            raise Blocked(problem)


class Subject:
    """One check's view of the adapter under test."""

    def __init__(self, harness: Harness, facts: Facts, *, seed: int = 0, trust: Trust | None = None) -> None:
        self.harness = harness
        self.facts = facts
        self.seed = seed
        self._trust = trust or Trust()
        # By identity: an author's adapter may be a dataclass, which has no hash.
        self._taps: dict[int, tuple[WorkerAdapter, Tap]] = {}

    # -- capabilities -------------------------------------------------------------------------------------------------

    @property
    def props(self) -> EngineProps:
        """What the adapter tells of its engine; blocks the check when it could not be asked."""
        if self.facts.props is None:
            raise Blocked(f"the adapter could not be asked for its properties: {self.facts.problem}")
        return self.facts.props

    def declares(self, capability: Capability, model: str | None = None) -> bool:
        """Return whether the capability is declared: for that model where it is listed, else for the engine."""
        for props in self.props.models:
            if props.name == model:
                return capability in props.capabilities
        return capability in self.props.capabilities

    def is_uncertain(self, capability: Capability, model: str | None = None) -> bool:
        """Return whether the adapter says that only a try can tell."""
        return any(capability in props.uncertain for props in self.props.models if props.name == model)

    def only_with(self, capability: Capability, model: str | None = None) -> None:
        """End the check as not applicable unless the capability is declared."""
        if not self.declares(capability, model):
            raise NotApplicable(f"{f'model {model!r}' if model else 'the adapter'} does not declare {capability}")

    def only_without(self, capability: Capability, model: str | None = None) -> None:
        """End the check as not applicable when the capability is declared."""
        if self.declares(capability, model):
            raise NotApplicable(f"{f'model {model!r}' if model else 'the adapter'} declares {capability}")

    # -- the adapter --------------------------------------------------------------------------------------------------

    def adapter(self) -> WorkerAdapter:
        """Return a new adapter, tapped and not open."""
        adapter = self.harness.adapter()
        if self.harness.control_timeout_s is not None:
            adapter.control_timeout_s = self.harness.control_timeout_s
        self._taps[id(adapter)] = (adapter, Tap(adapter))
        return adapter

    @asynccontextmanager
    async def open(self) -> AsyncIterator[WorkerAdapter]:
        """Open a new adapter and close it afterwards; blocks the check when it does not open."""
        adapter = self.adapter()
        try:
            await adapter.__aenter__()
        except Exception as exc:
            raise Blocked(f"the adapter does not open: {type(exc).__name__}: {exc}") from exc
        try:
            yield adapter
        finally:
            with anyio.move_on_after(CLEANUP_S, shield=True):
                await self.close(adapter)

    def _tap(self, adapter: WorkerAdapter) -> Tap:
        return self._taps[id(adapter)][1]

    async def close(self, adapter: WorkerAdapter) -> None:
        """Close an adapter, whatever that raises: one check is about it, and the others need not fail with it."""
        with contextlib.suppress(Exception):
            await adapter.aclose()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def submit(self, adapter: WorkerAdapter, task: TaskRequest) -> Recording:
        """Submit a task and return its recording, not yet read."""
        tap = self._tap(adapter)
        before = len(tap.streams)
        try:
            stream = adapter.submit(task)
        except Exception as exc:
            raise Blocked(f"submit raised {type(exc).__name__}: {exc}") from exc
        return Recording(task, stream, tap.streams[before] if len(tap.streams) > before else None)

    async def run(self, adapter: WorkerAdapter, task: TaskRequest) -> Recording:
        """Submit a task and read it to its end, whatever that is."""
        recording = self.submit(adapter, task)
        await recording.rest()
        return recording

    async def read_all(self, recordings: Iterable[Recording]) -> None:
        """Read tasks to their ends, all at the same time."""
        async with anyio.create_task_group() as readers:
            for recording in recordings:
                readers.start_soon(recording.rest)

    async def complete(self, adapter: WorkerAdapter, task: TaskRequest | None = None) -> Recording:
        """Run a task that must work for the check to begin; blocks the check when it fails."""
        recording = await self.run(adapter, task or self.harness.task())
        if not isinstance(recording.terminal, End):
            raise Blocked(f"a plain task does not work: {recording.summary()}")
        if task is None and not recording.text:
            raise Blocked("a plain task is answered with no text, which proves nothing; see Harness.task")
        return recording

    async def first_token_s(self, adapter: WorkerAdapter) -> float:
        """Run a plain task and return after how many seconds its first token came: what is to reach the engine takes
        that long here and now, which on a busy machine no constant tells."""
        plain = self.submit(adapter, self.harness.task())
        began = anyio.current_time()
        await plain.until_token()
        took_s = anyio.current_time() - began
        await plain.rest()
        return took_s

    async def succeed(self, adapter: WorkerAdapter, task: TaskRequest, what: str) -> Recording:
        """Run the task that the check is about, after a plain one; fails the check when only the former fails."""
        await self.complete(adapter)
        recording = await self.run(adapter, task)
        if not isinstance(recording.terminal, End):
            raise Failed(f"{what} failed: {recording.summary()}")
        return recording

    @asynccontextmanager
    async def streaming(self, adapter: WorkerAdapter, task: TaskRequest | None = None) -> AsyncIterator[Recording]:
        """Submit the long task, read it up to its first token, and leave it closed."""
        recording = self.submit(adapter, task or self.harness.long_task())
        await recording.until_token()
        try:
            yield recording
        finally:
            with anyio.move_on_after(CLEANUP_S, shield=True):
                await recording.stream.aclose()

    async def repeatable(self, adapter: WorkerAdapter, capability: Capability | None = None) -> KnownText:
        """Return a task with the text that it is answered with every time; skips the check when there is none.

        Args:
            capability: What its model has to declare, as far as there is a choice.
        """
        task = self.harness.task()
        seeded = self.declares(Capability.SEED, task.model)
        try:
            known = self.harness.known_text()
        except Skipped:
            if not seeded:
                raise
        else:
            if not seeded or capability is None or self.declares(capability, known.task.model):
                return known
        task = self.harness.task(seed=self.seed + 7)
        first, second = await self.complete(adapter, task), await self.complete(adapter, renamed(task))
        if first.text != second.text:
            raise Blocked("two tasks with the same seed get different texts")
        return KnownText(task=renamed(task), text=first.text)

    async def failures(self, adapter: WorkerAdapter, *codes: str, prompt: str | None = None) -> list[Recording]:
        """Return tasks that failed in those ways, as far as the harness can inject them and the adapter fails at them;
        blocks the check when failures are injected and no task fails."""
        changes = {} if prompt is None else {"prompt": prompt}
        recordings = []
        for code in codes:
            try:
                await self.harness.fail_next(code)
            except Skipped:
                continue
            recordings.append(await self.run(adapter, self.harness.task(**changes)))
        failed = [recording for recording in recordings if recording.error is not None]
        if recordings and not failed:
            raise Blocked(f"the harness injected {len(recordings)} failures, and no task failed")
        return failed

    async def unknown_model(self, adapter: WorkerAdapter, **changes: Any) -> Recording:
        """Return a task that failed because the engine has no such model: the one failure every engine has."""
        return await self.run(adapter, self.harness.task(**({"model": "no-such-model-5309"} | changes)))

    # -- the engine ---------------------------------------------------------------------------------------------------

    async def eventually(
        self, holds: Callable[[], Awaitable[bool]], message: str, *, within_s: float | None = None
    ) -> None:
        """Fail the check with `message` unless `holds` comes true in time."""
        within_s = self.harness.settle_s if within_s is None else within_s
        with anyio.move_on_after(within_s):
            while not await holds():  # noqa: ASYNC110 - an engine elsewhere can only be asked
                await anyio.sleep(0.02)
            return
        raise Failed(f"{message} (waited {within_s:g} s)")

    async def engine_is_idle(self) -> bool:
        return await self.harness.in_flight() == 0

    async def can_prove_cancels(self) -> None:
        """Block the check unless the engine would still be at work on the long task if nobody cancelled it.

        The first time in a run, one is left alone for longer than any check waits, and the engine asked about it.
        """
        await self._trust.ascertain("the long task", self._long_task_problem)

    async def _long_task_problem(self) -> str | None:
        least_s = 2 * self.harness.settle_s
        if not await self._eventually_idle():
            return f"the engine does not become idle within {self.harness.settle_s:g} s; see Harness.in_flight"
        async with self.open() as adapter, self.streaming(adapter) as recording, anyio.create_task_group() as beside:
            if not await self.harness.in_flight():
                return (
                    "the engine is said to work on nothing while the long task runs, or is done with it when its first "
                    "token comes; see Harness.in_flight and Harness.long_task"
                )
            # Read all the time, lest the engine wait for a reader.
            beside.start_soon(recording.rest)
            began = anyio.current_time()
            with anyio.move_on_after(least_s):
                while recording.terminal is None:  # noqa: ASYNC110 - whoever reads must not be interrupted
                    await anyio.sleep(0.05)
            lasted_s = anyio.current_time() - began
            done = recording.terminal is not None or not await self.harness.in_flight()
            await adapter.cancel(recording.task.job_id)
        # Whether it can be stopped is not asked here: what is still at work belongs to no other check.
        await self.harness.reset()
        with contextlib.suppress(Failed):
            await self.eventually(self.engine_is_idle, "", within_s=10 * self.harness.settle_s)
        if done:
            return (
                f"the long task ended by itself after {lasted_s:.1f} s, and a cancel has {least_s / 2:g} s to show: "
                f"make Harness.long_task last more than {least_s:g} s, or lower Harness.settle_s"
            )
        return None

    async def _eventually_idle(self) -> bool:
        try:
            await self.eventually(self.engine_is_idle, "")
        except Failed:
            return False
        return True

    async def must_work_on(self, tasks: int = 1) -> None:
        """Block the check unless the engine works on so many tasks now: only what is at work can be stopped."""
        busy = await self.harness.in_flight()
        if busy < tasks:
            raise Blocked(f"the engine works on {busy} tasks where {tasks} should run: there is nothing to be stopped")

    def secrets(self) -> list[str]:
        """Return the credentials that must not show; skips the check when there are none to look for."""
        secrets = [secret for secret in self.harness.secrets() if secret]
        if not secrets:
            raise Skipped("there is nothing to look for: Harness.secrets names no credential")
        return secrets

    async def must_be_at_work(self) -> None:
        """Block the check when the engine is known to be done with its tasks: there is nothing left to break."""
        try:
            idle = await self.engine_is_idle()
        except Skipped:
            return
        if idle:
            raise Blocked("the engine is done with the long task by the time that its first token is delivered")

    @asynccontextmanager
    async def engine_stopped(self) -> AsyncIterator[None]:
        async with self._fault(self.harness.stop_engine, self.harness.start_engine):
            await self._trust.ascertain("stop", lambda: self._still_answers("stopped", 2 * TRIED_S))
            yield

    @asynccontextmanager
    async def engine_paused(self) -> AsyncIterator[None]:
        async with self._fault(self.harness.pause_engine, self.harness.resume_engine):
            await self._trust.ascertain("pause", lambda: self._still_answers("paused", TRIED_S))
            yield

    async def _still_answers(self, state: str, within_s: float) -> str | None:
        """Say that an engine which should not does answer a task."""
        said = 0
        # An adapter that cannot even begin without its engine is another requirement's matter.
        with contextlib.suppress(Blocked), anyio.move_on_after(within_s):
            async with self.open() as adapter:
                recording = self.submit(adapter, self.harness.task())
                try:
                    await recording.rest()
                finally:
                    said = len(recording.tokens)
        return f"the engine is said to be {state} and answers a task with {said} tokens" if said else None

    @asynccontextmanager
    async def engine_unready(self) -> AsyncIterator[None]:
        async with self._fault(self.harness.make_unready, self.harness.make_ready):
            yield

    @asynccontextmanager
    async def _fault(
        self, inject: Callable[[], Awaitable[None]], mend: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[None]:
        await inject()
        try:
            yield
        finally:
            with anyio.move_on_after(CLEANUP_S, shield=True):
                await mend()


def renamed(task: TaskRequest) -> TaskRequest:
    """Return the same task under another name."""
    return task.model_copy(update={"job_id": new_job_id()})

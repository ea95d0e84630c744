"""Sends one request many times to several replicas, and gathers what they answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import anyio
import msgspec

from adapter_api import (
    Capability,
    End,
    EngineProps,
    Error,
    Finding,
    ModelNotFound,
    ModelProps,
    NotReady,
    Output,
    Started,
    TaskRequest,
    ToolCallDelta,
    Unsupported,
    WorkerAdapter,
)
from worker_adapter.determinism import Divergence, Mode, Run, SeedVerdict, distinct_texts, first_divergence, judge_seeds

_SEEDS = 4
_OTHER_PROMPT = "List the planets from the sun outwards, with one sentence about each."
_SEED_TEMPERATURE = 1.0
_AT_ONCE = 16
_BESIDE = 2
"""How often a seed is tried beside each kind of other task."""
_COMPANION_TOKENS = 4
"""How much longer than the task itself the one beside it may be."""


class Replica(NamedTuple):
    """One engine, opened, and how it is called."""

    name: str
    adapter: WorkerAdapter


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica says of itself."""

    name: str
    engine_version: str | None
    model_versions: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole examination came to."""

    model: str
    replicas: tuple[ReplicaReport, ...]
    sent: dict[str, Any]
    """The request's sampling fields, as they were sent."""
    left_out: tuple[str, ...]
    """Fields of the profile that the model does not take."""
    runs: tuple[Run, ...]
    distinct: int
    divergence: Divergence | None = None
    seeds: SeedVerdict | None = None
    """`None` when the model takes no seed, so that there is nothing to tell."""
    findings: tuple[Finding, ...] = ()

    @property
    def failures(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.error is not None)

    @property
    def is_deterministic(self) -> bool:
        """Whether every run answered, all answers are the same, and each seed gave its text whatever ran beside it."""
        lost = self.seeds is not None and not self.seeds.holds
        return bool(self.runs) and not (self.failures or self.divergence or lost)


class Trials:
    """One request, over and over.

    Args:
        replicas: Where to send it.
        task: What every task has: model, prompt, deadline.
        given: Sampling fields that the user wants; the model must take them.
        profile: Sampling fields that make an answer repeatable; those that the model does not take are left out.
        runs: How often each replica is asked, one after another and then again at once.
    """

    def __init__(
        self, replicas: Sequence[Replica], task: dict[str, Any], *, given: dict[str, Any], profile: dict[str, Any],
        runs: int,
    ) -> None:  # fmt: skip
        self._replicas = replicas
        self._task = task
        self._given = given
        self._profile = dict(profile)
        self._runs = runs
        self._left_out: list[str] = []
        self._model_versions: dict[str, set[str]] = {replica.name: set() for replica in replicas}

    async def run(self) -> Report:
        """Return what the replicas answered. A task that fails is part of the report.

        Nothing more is asked once the very first task failed.

        Raises:
            AdapterError: A replica does not describe itself; nothing was sent.
        """
        described = [await replica.adapter.props() for replica in self._replicas]
        listed = await self._models()
        if not all(Capability.SEED in model.capabilities for model in listed):
            self._leave_out("seed")
        first = await self._first_run()
        runs = [first] if first.error is not None else [first, *await self._sequential(), *await self._concurrent()]
        if len(listed) < len(described):
            # An engine may not list a model before it has been used.
            described = [await replica.adapter.props() for replica in self._replicas]
            listed = await self._models()
        takes_seeds = "seed" in self._fields() and first.error is None
        seed_runs = await self._with_seeds() if takes_seeds else []
        sampled = "temperature" in self._fields()
        verdicts = [
            judge_seeds([run for run in seed_runs if run.replica == replica.name], sampled=sampled)
            for replica in self._replicas
        ]
        findings = [finding for model in listed for finding in model.findings if finding.topic == "determinism"]
        return Report(
            model=self._task["model"],
            replicas=tuple(
                ReplicaReport(
                    name=replica.name, engine_version=props.engine_version,
                    model_versions=tuple(sorted(self._model_versions[replica.name])),
                )
                for replica, props in zip(self._replicas, described, strict=True)
            ),
            sent=self._fields(),
            left_out=tuple(self._left_out),
            runs=(*runs, *(run for run in seed_runs if run.error is not None)),
            distinct=distinct_texts(runs),
            divergence=first_divergence(runs),
            seeds=next((v for v in verdicts if v.ignored), verdicts[0]) if takes_seeds else None,
            findings=(*self._of_versions(described), *dict.fromkeys(findings)),
        )  # fmt: skip

    async def _first_run(self) -> Run:
        """Ask once, leaving out what the model does not take until it takes the rest. This is the reference."""
        while True:
            run = await self._ask(self._replicas[0], 1, "sequential", self._fields())
            droppable = [name for name in self._profile if name in self._fields() and name not in self._given]
            if run.error is None or not run.error.startswith("unsupported") or not droppable:
                return run
            self._leave_out(next((name for name in droppable if name in run.error), droppable[-1]))

    async def _sequential(self) -> list[Run]:
        found = []
        for index, replica in enumerate(self._replicas):
            for number in range(2 if index == 0 else 1, self._runs + 1):
                found.append(await self._ask(replica, number, "sequential", self._fields()))
        return found

    async def _concurrent(self) -> list[Run]:
        asked = [(replica, n) for n in range(1, self._runs + 1) for replica in self._replicas]
        return await _together([(replica, n, "concurrent", self._fields()) for replica, n in asked], self._ask)

    async def _with_seeds(self) -> list[Run]:
        """Use several seeds at a temperature at which they matter, each twice."""
        fields = self._fields()
        # What forces one answer would hide what the seeds do.
        for forcing in ("top_k", "top_p"):
            fields.pop(forcing, None)
        if "temperature" in fields:
            fields["temperature"] = max(fields["temperature"], _SEED_TEMPERATURE)
        seeds = [fields["seed"] + step for step in range(_SEEDS)] * 2
        found = []
        for replica in self._replicas:
            for number, seed in enumerate(seeds, 1):
                found.append(await self._ask(replica, number, "seed", {**fields, "seed": seed}))
            found += await self._beside(replica, {**fields, "seed": seeds[0]})
        return found

    async def _beside(self, replica: Replica, fields: dict[str, Any]) -> list[Run]:
        """Use a seed while a task without one runs, and while a different, greedy one does: some engines lose it."""
        longer = {"max_tokens": fields["max_tokens"] * _COMPANION_TOKENS} if "max_tokens" in fields else {}
        unseeded = {name: value for name, value in fields.items() if name != "seed"} | longer
        different = fields | longer | {"prompt": _OTHER_PROMPT, "seed": fields["seed"] + _SEEDS}
        if "temperature" in fields:
            different["temperature"] = 0.0
        kinds: tuple[tuple[Mode, dict[str, Any]], ...] = (
            ("beside_unseeded", unseeded), ("beside_different", different),
        )  # fmt: skip
        found = []
        for mode, companion in kinds:
            for number in range(1, _BESIDE + 1):
                async with self._running(replica, companion):
                    found.append(await self._ask(replica, number, mode, fields))
        return found

    @asynccontextmanager
    async def _running(self, replica: Replica, fields: dict[str, Any]) -> AsyncIterator[None]:
        """Have another task run, from its first token on; what becomes of it is not told."""
        begun = anyio.Event()

        async def read() -> None:
            async with replica.adapter.submit(TaskRequest.parse({**self._task, **fields})) as stream:
                async for event in stream:
                    if isinstance(event, Output | End | Error):
                        begun.set()
            begun.set()

        async with anyio.create_task_group() as beside:
            beside.start_soon(read)
            await begun.wait()
            yield
            beside.cancel_scope.cancel()

    async def _models(self) -> list[ModelProps]:
        """Return what each replica tells of the model, asked for by name; nothing of those that do not know it."""
        found = []
        for replica in self._replicas:
            with suppress(ModelNotFound, NotReady, Unsupported):
                model = await replica.adapter.model_props(self._task["model"])
                if model.capabilities:
                    found.append(model)
        return found

    def _fields(self) -> dict[str, Any]:
        kept = {name: value for name, value in self._profile.items() if name not in self._left_out}
        return {**kept, **self._given}

    def _leave_out(self, name: str) -> None:
        if name in self._profile and name not in self._given and name not in self._left_out:
            self._left_out.append(name)

    async def _ask(self, replica: Replica, number: int, mode: Mode, fields: dict[str, Any]) -> Run:
        task = TaskRequest.parse({**self._task, **fields})
        pieces: list[str] = []
        ended: End | Error | None = None
        async with replica.adapter.submit(task) as stream:
            async for event in stream:
                if isinstance(event, Output):
                    pieces.append(_said(event))
                elif isinstance(event, Started) and event.model_version:
                    self._model_versions[replica.name].add(event.model_version)
                elif isinstance(event, End | Error):
                    ended = event
        run = Run(replica=replica.name, number=number, mode=mode, seed=fields.get("seed"))
        if isinstance(ended, End):
            return msgspec.structs.replace(run, text="".join(pieces), finish_reason=ended.finish_reason)
        error = f"{ended.code}: {ended.message}" if ended is not None else "stream_incomplete: no end"
        return msgspec.structs.replace(run, error=error)

    def _of_versions(self, described: Sequence[EngineProps]) -> Iterator[Finding]:
        engines = sorted({props.engine_version or "unknown" for props in described})
        if len(engines) > 1:
            yield Finding(
                severity="warning", topic="version", message=f"the replicas run {' and '.join(engines)}",
                advice="run one version everywhere: kernels differ between versions, and so may results",
            )  # fmt: skip
        versions = sorted({version for each in self._model_versions.values() for version in each})
        if len(versions) > 1:
            yield Finding(
                severity="warning", topic="version", message=f"the answers came from model versions {versions}",
                advice="name one with --model-version",
            )  # fmt: skip


def _said(event: Output) -> str:
    """Return what is compared of an event: all that was generated, but for the ids that each run makes anew."""
    return f"{event.name or ''}{event.arguments}" if isinstance(event, ToolCallDelta) else event.text


async def _together(calls: Sequence[Any], ask: Any) -> list[Run]:
    found: dict[int, Run] = {}
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def one(index: int) -> None:
        async with limit:
            found[index] = await ask(*calls[index])

    async with anyio.create_task_group() as group:
        for index in range(len(calls)):
            group.start_soon(one, index)
    return [found[index] for index in range(len(calls))]

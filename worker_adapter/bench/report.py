"""What a whole measurement came to, as JSON has it."""

from __future__ import annotations

import os
import platform
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from worker_adapter.bench.agreement import Mismatch
from worker_adapter.bench.peers import NotRun
from worker_adapter.bench.plan import Plan
from worker_adapter.bench.rounds import Contender, Course
from worker_adapter.bench.samples import Kind, Spread, ratios, spreads

_PACKAGES = ("worker-adapter", "grpcio", "tritonclient", "openai", "uvloop")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where the client ran. `load_1m` counts what wanted to run in the last minute; figures of a busy machine are
    ratios at best."""

    python: str
    system: str
    cores: int | None
    load_1m: float | None
    packages: dict[str, str]

    @classmethod
    def here(cls, packages: tuple[str, ...] = _PACKAGES) -> Machine:
        found: dict[str, str] = {}
        for name in packages:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return cls(
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            cores=_cores(),
            load_1m=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
            packages=found,
        )

    @property
    def sentence(self) -> str:
        cores = "an unknown number of" if self.cores is None else str(self.cores)
        load = "unknown" if self.load_1m is None else f"{self.load_1m:g}"
        versions = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return f"{self.system}, {cores} cores, load {load}; Python {self.python}; {versions}"


class ClientReport(msgspec.Struct, frozen=True, kw_only=True):
    """One client's figures over the whole rounds."""

    name: str
    note: str = ""
    tasks: int
    errors: dict[str, int]
    """How many tasks ended in an error, by its code; those are in no other figure but the CPU's."""
    figures: dict[str, Spread]
    ours_is_better: dict[str, Spread] = {}
    """How many times better ours is, round by round; below 1 it is worse. Empty for ours, and where the two were not
    told the same."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The measurement. `clients` begins with ours."""

    bench: int = 1
    """The form of this document; it changes when a reader of it would have to."""
    kind: Kind
    model: str
    url: str | None
    engine: str
    engine_version: str | None
    transport: str | None
    date: str
    machine: Machine
    plan: dict[str, Any]
    sent: dict[str, Any]
    """What was asked of the model's sampling, or the shapes of its inputs."""
    rounds: int
    """Whole ones that were done."""
    stopped: str | None
    contents: str
    """`same`, `different`, or `not checked: …`."""
    mismatches: tuple[Mismatch, ...]
    clients: tuple[ClientReport, ...]
    not_run: tuple[NotRun, ...]

    @property
    def succeeded(self) -> bool:
        """Whether it was measured, all our tasks came to their end, and nobody was told something else."""
        return self.rounds > 0 and not self.clients[0].errors and not self.mismatches

    @property
    def engine_sentence(self) -> str:
        """What it is, and of which version."""
        return self.engine_version or f"{self.engine} (version unknown)"


def clients_of(plan: Plan, contenders: list[Contender], course: Course) -> tuple[ClientReport, ...]:
    """Return the clients' figures; those of a client that was told something else are not set beside ours."""
    ours = contenders[0].name
    different = {mismatch.client for mismatch in course.agreement.mismatches}
    found = []
    for contender in contenders:
        windows = course.windows[contender.name]
        errors: Counter[str] = sum((window.errors for window in windows), Counter())
        compared = contender.name not in different | {ours}
        found.append(
            ClientReport(
                name=contender.name,
                note=contender.note,
                tasks=sum(len(window.answers) for window in windows),
                errors=dict(sorted(errors.items())),
                figures=spreads(plan.kind, windows),
                ours_is_better=ratios(plan.kind, course.windows[ours], windows) if compared else {},
            )
        )
    return tuple(found)


def now() -> str:
    """Return the date and time in UTC, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

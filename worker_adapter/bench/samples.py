"""What was measured, and what figures come of it. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from time import perf_counter
from typing import Literal

import msgspec

Kind = Literal["text", "tensors"]


@dataclass(slots=True)
class Answer:
    """One task, as its reader saw it. Times are in seconds from when it was asked."""

    total_s: float
    content: Hashable = None
    """What was answered, to be held against others' answers; `None` where it is not kept, or the task failed."""
    pieces: int = 1
    """Pieces of text as they arrived; an inference counts as one."""
    first_s: float | None = None
    gaps_s: list[float] = field(default_factory=list)
    """Between one piece and the next."""
    error: str | None = None
    """Its code, in the words of whoever asked."""


class Reading:
    """The times of one text while it is read; every client pays for the same few steps."""

    __slots__ = ("_began", "_last", "first_s", "gaps_s", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.gaps_s: list[float] = []
        self.first_s: float | None = None
        self._began = self._last = perf_counter()

    def piece(self, text: str) -> None:
        now = perf_counter()
        if self.first_s is None:
            self.first_s = now - self._began
        else:
            self.gaps_s.append(now - self._last)
        self._last = now
        self.texts.append(text)

    def done(self, error: str | None = None) -> Answer:
        total = perf_counter() - self._began
        if error is not None:
            return Answer(total, error=error)
        return Answer(total, "".join(self.texts), len(self.texts), self.first_s, self.gaps_s)


@dataclass(slots=True)
class Window:
    """What one client did in one round."""

    answers: list[Answer]
    wall_s: float
    cpu_s: float
    """Of the whole process, all its threads."""
    grown_kib: float | None = None
    """By how much the process's memory was larger at its largest; `None` where it was not looked at."""

    @property
    def errors(self) -> Counter[str]:
        return Counter(answer.error for answer in self.answers if answer.error is not None)


class Figure(msgspec.Struct, frozen=True):
    """One thing that is measured: its key in JSON, what people call it, and whether less of it is better."""

    key: str
    label: str
    less_is_better: bool = True
    has_ratio: bool = True


TEXT_FIGURES = (
    Figure("tokens_per_s", "tokens/s", False),
    Figure("first_token_ms_p50", "first token, ms, p50"),
    Figure("first_token_ms_p99", "first token, ms, p99"),
    Figure("between_tokens_ms_p50", "between tokens, ms, p50"),
    Figure("between_tokens_ms_p99", "between tokens, ms, p99"),
    Figure("task_ms_p50", "whole task, ms, p50"),
    Figure("task_ms_p99", "whole task, ms, p99"),
    Figure("cpu_us_per_token", "client's CPU per token, µs"),
    Figure("memory_grown_kib", "client's memory, grown by KiB", has_ratio=False),  # often by nothing at all
)
TENSOR_FIGURES = (
    Figure("inferences_per_s", "inferences/s", False),
    Figure("inference_ms_p50", "inference, ms, p50"),
    Figure("inference_ms_p99", "inference, ms, p99"),
    Figure("cpu_us_per_inference", "client's CPU per inference, µs"),
)


def figures_of(kind: Kind) -> tuple[Figure, ...]:
    """Return what is measured of a model of this kind, in the order in which it is shown."""
    return TEXT_FIGURES if kind == "text" else TENSOR_FIGURES


def window_figures(kind: Kind, window: Window) -> dict[str, float]:
    """Return the figures of one round by their key; those of which it tells nothing are missing."""
    good = [answer for answer in window.answers if answer.error is None]
    units = sum(answer.pieces for answer in good)
    if not units:
        return {}
    totals = [answer.total_s * 1e3 for answer in good]
    cpu, rate = window.cpu_s / units * 1e6, units / window.wall_s
    if kind == "tensors":
        found: dict[str, float | None] = {
            "inferences_per_s": rate,
            "inference_ms_p50": percentile(totals, 50),
            "inference_ms_p99": percentile(totals, 99),
            "cpu_us_per_inference": cpu,
        }
    else:
        firsts = [answer.first_s * 1e3 for answer in good if answer.first_s is not None]
        gaps = [gap * 1e3 for answer in good for gap in answer.gaps_s]
        found = {
            "tokens_per_s": rate,
            "first_token_ms_p50": percentile(firsts, 50),
            "first_token_ms_p99": percentile(firsts, 99),
            "between_tokens_ms_p50": percentile(gaps, 50),
            "between_tokens_ms_p99": percentile(gaps, 99),
            "task_ms_p50": percentile(totals, 50),
            "task_ms_p99": percentile(totals, 99),
            "cpu_us_per_token": cpu,
            "memory_grown_kib": window.grown_kib,
        }
    return {key: value for key, value in found.items() if value is not None}


def percentile(values: Sequence[float], percent: float) -> float | None:
    """Return the smallest value that so many percent do not exceed (nearest rank); `None` of no values."""
    if not values:
        return None
    return sorted(values)[max(ceil(len(values) * percent / 100), 1) - 1]


class Spread(msgspec.Struct, frozen=True):
    """The rounds' figures in three."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(min(values), median(values), max(values))


def spreads(kind: Kind, windows: Sequence[Window]) -> dict[str, Spread]:
    """Return the spread of each figure over the rounds that tell it."""
    rounds = [window_figures(kind, window) for window in windows]
    found: dict[str, Spread] = {}
    for figure in figures_of(kind):
        values = [each[figure.key] for each in rounds if figure.key in each]
        if values:
            found[figure.key] = Spread.of(values)
    return found


def ratios(kind: Kind, ours: Sequence[Window], theirs: Sequence[Window]) -> dict[str, Spread]:
    """Return how many times better ours is than theirs, round by round: above 1 is to our credit, below to theirs."""
    pairs = [(window_figures(kind, a), window_figures(kind, b)) for a, b in zip(ours, theirs, strict=True)]
    found: dict[str, Spread] = {}
    for figure in (figure for figure in figures_of(kind) if figure.has_ratio):
        both = [(a[figure.key], b[figure.key]) for a, b in pairs if figure.key in a and figure.key in b]
        values = [b / a if figure.less_is_better else a / b for a, b in both if a > 0 and b > 0]
        if values:
            found[figure.key] = Spread.of(values)
    return found

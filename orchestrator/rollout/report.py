"""Trying a new engine beside an old one: figures per pool, and answers compared. No I/O."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from orchestrator.rollout.boxes import BoxMatch, match_boxes

RECENT = 1000
"""Tasks and comparisons that are remembered per pool."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one task went. `text` is kept only while it is compared."""

    outcome: str
    """A finish reason, or an error's code."""
    failed: bool
    total_ms: float
    ttft_ms: float | None
    tokens: int

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second from the first token to the end; `None` when there were fewer than two."""
        if self.ttft_ms is None or self.tokens < 2 or self.total_ms <= self.ttft_ms:
            return None
        return (self.tokens - 1) / (self.total_ms - self.ttft_ms) * 1e3


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How a figure is distributed; empty when there is none."""

    count: int
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    buckets: tuple[tuple[float, int], ...] = ()
    """Upper bounds, doubling, and how many lie below each and above the one before."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        ordered = sorted(values)
        if not ordered:
            return cls(count=0)
        return cls(
            count=len(ordered),
            p50=_quantile(ordered, 0.5),
            p90=_quantile(ordered, 0.9),
            p99=_quantile(ordered, 0.99),
            buckets=_buckets(ordered),
        )


class PoolFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The last tasks of one pool."""

    pool_id: str
    weight: int
    shadow_of: str | None
    tasks: int
    failed: int
    errors: dict[str, int]
    ttft_ms: Spread
    total_ms: Spread
    tokens_per_s: Spread


class BoxAgreement(msgspec.Struct, frozen=True, kw_only=True):
    """How the boxes of detectors compare; all in percent."""

    compared: int
    unreadable: int
    """Pairs of answers of which one was no JSON with detections."""
    same: int
    """Pairs in which every box has a partner of its class in the other."""
    matched: Spread
    """Of each pair of answers, the boxes that have a partner."""
    overlap: Spread
    """Of each pair of boxes, the intersection over union."""


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How the answers of a pool and its shadow compare, over tasks that both finished."""

    pool_id: str
    shadow_id: str
    compared: int
    same_text: int
    same_tool_calls: int | None = None
    """Of the same tools with the same values, however their JSON is written; `None` from a host before 0.2.0."""
    same_outcome: int
    skipped: int
    """Tasks that were to be copied and were not, because too many copies were running."""
    first_difference: Spread
    """Characters up to which answers that differ are the same."""
    boxes: BoxAgreement | None = None
    """Where the shadow pool compares boxes."""


class RolloutReport(msgspec.Struct, frozen=True, kw_only=True):
    """Pools side by side."""

    pools: tuple[PoolFigures, ...]
    agreements: tuple[Agreement, ...]


class Figures:
    """Remembers the last tasks of each pool."""

    def __init__(self, recent: int = RECENT) -> None:
        self._recent = recent
        self._outcomes: dict[str, deque[Outcome]] = {}

    def add(self, pool_id: str, outcome: Outcome) -> None:
        self._outcomes.setdefault(pool_id, deque(maxlen=self._recent)).append(outcome)

    def of(self, pool_id: str, weight: int, shadow_of: str | None) -> PoolFigures:
        outcomes = self._outcomes.get(pool_id, ())
        well = [outcome for outcome in outcomes if not outcome.failed]
        return PoolFigures(
            pool_id=pool_id,
            weight=weight,
            shadow_of=shadow_of,
            tasks=len(outcomes),
            failed=len(outcomes) - len(well),
            errors=dict(Counter(outcome.outcome for outcome in outcomes if outcome.failed)),
            ttft_ms=Spread.of(outcome.ttft_ms for outcome in well if outcome.ttft_ms is not None),
            total_ms=Spread.of(outcome.total_ms for outcome in well),
            tokens_per_s=Spread.of(rate for outcome in well if (rate := outcome.tokens_per_s) is not None),
        )


class Answer(NamedTuple):
    """What is compared of an answer; what a model thought on its way is not."""

    outcome: str
    text: str
    tool_calls: tuple[tuple[str, str], ...] = ()
    """Names and arguments."""


class Comparisons:
    """Compares the answers of a pool with those of its shadow; keeps figures, never the texts."""

    def __init__(self, recent: int = RECENT) -> None:
        self._same_text: deque[bool] = deque(maxlen=recent)
        self._same_tool_calls: deque[bool] = deque(maxlen=recent)
        self._same_outcome: deque[bool] = deque(maxlen=recent)
        self._differences: deque[int] = deque(maxlen=recent)
        self._matches: deque[BoxMatch | None] = deque(maxlen=recent)
        self.skipped = 0

    def add(self, answer: Answer, shadows: Answer, *, compare: Literal["text", "boxes"] = "text") -> None:
        """Compare two answers to one task; as boxes too, if `compare` says so."""
        if compare == "boxes":
            self._matches.append(match_boxes(answer.text, shadows.text))
        same = answer.text == shadows.text
        self._same_text.append(same)
        self._same_tool_calls.append(_values_of(answer) == _values_of(shadows))
        self._same_outcome.append(answer.outcome == shadows.outcome)
        if not same:
            self._differences.append(first_difference(answer.text, shadows.text))

    def agreement(self, pool_id: str, shadow_id: str) -> Agreement:
        return Agreement(
            pool_id=pool_id,
            shadow_id=shadow_id,
            compared=len(self._same_text),
            same_text=sum(self._same_text),
            same_tool_calls=sum(self._same_tool_calls),
            same_outcome=sum(self._same_outcome),
            skipped=self.skipped,
            first_difference=Spread.of(self._differences),
            boxes=self._box_agreement() if self._matches else None,
        )

    def _box_agreement(self) -> BoxAgreement:
        matches = [match for match in self._matches if match is not None]
        return BoxAgreement(
            compared=len(matches),
            unreadable=len(self._matches) - len(matches),
            same=sum(match.share == 1 for match in matches),
            matched=Spread.of(match.share * 100 for match in matches),
            overlap=Spread.of(each * 100 for match in matches for each in match.overlaps),
        )


def _values_of(answer: Answer) -> list[tuple[str, Any]]:
    """Return the tool calls as who runs them has them: however their JSON is written."""
    return [(name, _value_of(arguments)) for name, arguments in answer.tool_calls]


def _value_of(arguments: str) -> Any:
    try:
        return msgspec.json.decode(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments


def first_difference(one: str, other: str) -> int:
    """Return how many characters two texts have in common from their beginning."""
    for position, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return position
    return min(len(one), len(other))


def _quantile(ordered: Sequence[float], q: float) -> float:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def _buckets(ordered: Sequence[float]) -> tuple[tuple[float, int], ...]:
    found: list[tuple[float, int]] = []
    bound, position = 1.0, 0
    while position < len(ordered):
        below = position
        while below < len(ordered) and ordered[below] <= bound:
            below += 1
        if found or below > position:
            found.append((bound, below - position))
        position, bound = below, bound * 2
    return tuple(found)

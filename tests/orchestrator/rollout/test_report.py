"""Weights, shadows, and the report that compares pools."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from adapter_api import ConfigurationError, End, Started
from adapter_api.testing import collect, text_of
from orchestrator import Orchestrator, OrchestratorSettings
from orchestrator.rollout.page import render
from orchestrator.rollout.report import Answer, Comparisons, Figures, Outcome, Spread, first_difference
from tests.orchestrator.pooling import mock_host, task
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio


def host(*pools: dict[str, Any]) -> Orchestrator:
    fields = [
        {"adapter": "mock", "replicas": [{"id": "r0", "options": pool.pop("options", {})}], **pool}
        for pool in (dict(pool) for pool in pools)
    ]
    settings = OrchestratorSettings.parse({"pools": fields, "read_environment": False})
    return Orchestrator(settings, plugins=mock_host())


@pytest.mark.spec("ORCH-3055-028")
async def test_traffic_is_divided_by_weight() -> None:
    async with host({"id": "old", "weight": 90}, {"id": "new", "weight": 10}) as orchestrator:
        found: Counter[str | None] = Counter()
        for number in range(300):
            started = (await collect(orchestrator.submit(task(job_id=f"j{number}"))))[0]
            assert isinstance(started, Started)
            found[started.pool_id] += 1

    assert 10 < found["new"] < 60
    assert found["old"] == 300 - found["new"]


@pytest.mark.spec("ORCH-3065-001", "ORCH-3065-002")
async def test_a_shadow_gets_copies_that_nobody_sees_and_its_answers_are_compared() -> None:
    async with host(
        {"id": "main", "options": {"reply": "the same text"}},
        {"id": "twin", "options": {"reply": "the same text"}, "shadow_of": "main"},
        {"id": "other", "options": {"reply": "the other text"}, "shadow_of": "main"},
    ) as orchestrator:
        events = await collect(orchestrator.submit(task()))
        await eventually(lambda: all(each.compared for each in orchestrator.rollout_report().agreements))
        report = orchestrator.rollout_report()

    assert text_of(events) == "the same text"
    assert {event.pool_id for event in events if isinstance(event, Started)} == {"main"}
    same, differs = report.agreements
    assert (same.shadow_id, same.compared, same.same_text) == ("twin", 1, 1)
    assert (differs.shadow_id, differs.compared, differs.same_text, differs.same_outcome) == ("other", 1, 0, 1)
    assert differs.first_difference.p50 == len("the ")
    assert [pool.tasks for pool in report.pools] == [1, 1, 1]


@pytest.mark.spec("ORCH-3065-001")
@pytest.mark.parametrize("options", [{"fail": "engine_failed"}, {"state": "unreachable"}, {"hang_after": 0}])
async def test_a_shadow_that_fails_or_hangs_disturbs_nobody(options: dict[str, Any]) -> None:
    queue = {"not_ready_wait_s": 0.01}
    async with host({"id": "main"}, {"id": "ill", "options": options, "shadow_of": "main", "queue": queue}) as running:
        for _ in range(3):
            assert isinstance((await collect(running.submit(task())))[-1], End)
        assert running.ready
        agreement = running.rollout_report().agreements[0]

    assert agreement.compared == 0


@pytest.mark.spec("ORCH-3065-001")
async def test_copies_are_bounded_and_those_left_out_are_counted() -> None:
    shadow = {"id": "slow", "options": {"hang_after": 0}, "shadow_of": "main", "shadow_limit": 2}
    async with host({"id": "main"}, shadow) as orchestrator:
        for _ in range(5):
            await collect(orchestrator.submit(task()))

        assert orchestrator.rollout_report().agreements[0].skipped == 3


@pytest.mark.spec("ORCH-3065-001")
async def test_a_shadow_that_is_slow_takes_no_copies_from_another() -> None:
    slow = {"id": "slow", "options": {"hang_after": 0}, "shadow_of": "main", "shadow_limit": 2}
    quick = {"id": "quick", "shadow_of": "main", "shadow_limit": 1}
    async with host({"id": "main"}, slow, quick) as orchestrator:
        for number in range(4):
            await collect(orchestrator.submit(task()))
            await eventually(lambda: orchestrator.rollout_report().agreements[1].compared == number + 1)  # noqa: B023

        assert [each.skipped for each in orchestrator.rollout_report().agreements] == [2, 0]


async def test_only_the_chosen_share_is_copied() -> None:
    async with host({"id": "main"}, {"id": "some", "shadow_of": "main", "shadow_percent": 0}) as orchestrator:
        for _ in range(20):
            await collect(orchestrator.submit(task()))

        assert orchestrator.pools[1].replicas[0].dispatched == 0


async def test_models_of_a_shadow_alone_cannot_be_asked_for() -> None:
    shadow = {"id": "twin", "shadow_of": "main", "options": {"models": ["mock", "secret-model"]}}
    async with host({"id": "main"}, shadow) as orchestrator:
        events = await collect(orchestrator.submit(task(model="secret-model")))

    assert orchestrator.models() == ("mock",)
    assert events[-1].code == "model_not_found"  # type: ignore[union-attr]


@pytest.mark.parametrize("of", ["nobody", "twin"])
def test_a_shadow_of_what_does_not_serve_is_refused(of: str) -> None:
    with pytest.raises(ConfigurationError, match="is the shadow of"):
        host({"id": "main"}, {"id": "twin", "shadow_of": of})


def outcome(ms: float, tokens: int = 11, failed: bool = False) -> Outcome:
    return Outcome(
        outcome="engine_failed" if failed else "stop", failed=failed, total_ms=ms, ttft_ms=ms / 2, tokens=tokens
    )


@pytest.mark.spec("ORCH-3065-002")
def test_the_figures_of_a_pool_are_its_last_tasks() -> None:
    figures = Figures(recent=3)
    for ms in (9999, 100, 200):
        figures.add("p", outcome(ms))
    figures.add("p", outcome(1, failed=True))

    found = figures.of("p", 50, None)

    assert (found.tasks, found.failed, found.errors) == (3, 1, {"engine_failed": 1})
    assert (found.total_ms.count, found.total_ms.p50, found.total_ms.p99) == (2, 200, 200)
    assert found.tokens_per_s.p50 == pytest.approx(200)


def test_a_spread_counts_every_value_once() -> None:
    spread = Spread.of([0.5, 1, 3, 3, 100])

    assert spread.buckets == ((1.0, 2), (2.0, 0), (4.0, 2), (8.0, 0), (16.0, 0), (32.0, 0), (64.0, 0), (128.0, 1))
    assert Spread.of([]).count == 0


@pytest.mark.parametrize("one, other, position", [("abc", "abd", 2), ("ab", "abc", 2), ("", "x", 0)])
def test_the_first_difference_is_found(one: str, other: str, position: int) -> None:
    assert first_difference(one, other) == position


@pytest.mark.spec("ORCH-3065-002")
async def test_the_report_is_a_page_that_needs_nothing_else() -> None:
    async with host({"id": "main"}, {"id": "twin", "shadow_of": "main"}) as orchestrator:
        await collect(orchestrator.submit(task()))
        await eventually(lambda: orchestrator.rollout_report().agreements[0].compared == 1)
        html = render(orchestrator.rollout_report())

    assert html.count('class="bars"') == 3
    assert "http" not in html
    assert "main and twin" in html


def test_comparisons_keep_no_text() -> None:
    comparisons = Comparisons()
    comparisons.add(Answer("stop", "secret answer"), Answer("stop", "secret other"))

    assert "secret" not in repr(vars(comparisons))

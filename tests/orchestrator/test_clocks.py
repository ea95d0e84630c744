"""The wall clock may jump, by an hour or by years: it is shown to people, and nothing is decided by it."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import orchestrator as package
from adapter_api import End, Metrics
from adapter_api.testing import collect
from orchestrator.config import ApiKeySettings
from orchestrator.http.guard import Client
from orchestrator.http.problems import Refused
from orchestrator.work.keep import KeptTasks
from tests.orchestrator.pooling import QUICK_HEALTH, orchestrator, task
from tests.orchestrator.pools.test_monitor import eventually
from tests.orchestrator.work.test_dispatch import error_of
from tests.orchestrator.work.test_keep import close, short

pytestmark = pytest.mark.anyio
no_spec = "no requirement names the clock: each that has a time is meant"

SHOWN = {
    "work/jobs.py": "when a task ended",
    "work/journal_store.py": "when a task ended, which a host that is started anew has to know",
    "work/journal_responses.py": "when a response is too old, which a host that is started anew has to know",
    "pools/monitor.py": "when a probe was made",
    "http/embeddings.py": "when an answer was made",
    "http/openai.py": "when an answer was made",
    "http/openai_chunks.py": "when an answer was made",
    "http/openai_whole.py": "when an answer was made",
    "http/responses.py": "when an answer was made",
    "observability/statistics.py": "when an inference ended",
    "observability/changes.py": "when a certificate ends",
    "observability/kept_metrics.py": "when something was first counted",
    "observability/tracing.py": "when a span began and ended",
}
WALL_CLOCK = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime"}
DATES = {"now", "utcnow", "today"}


def readings(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    named = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in WALL_CLOCK
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id == "time" and node.attr in WALL_CLOCK) or (
                node.value.id in ("datetime", "date") and node.attr in DATES
            ):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in named:
            yield ast.unparse(node)


@pytest.mark.parametrize("source", ["import time\ntime.time()", "from time import time_ns as t\nt()", "datetime.now()"])
def test_a_reading_of_the_wall_clock_is_found(source: str) -> None:
    assert list(readings(source))


def test_the_wall_clock_is_read_only_where_a_time_is_shown() -> None:
    assert package.__file__ is not None
    root = Path(package.__file__).parent

    found = {
        path.relative_to(root).as_posix() for path in root.rglob("*.py") if list(readings(path.read_text("utf-8")))
    }

    assert found == set(SHOWN)


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the wall clock finds it ten years away from the one before."""
    real, years, looks = time.time, 10 * 365 * 86400, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (years if next(looks) % 2 else -years))


@pytest.mark.usefixtures("jumping_clock")
async def test_tasks_waits_sessions_and_breakers_take_no_notice_of_a_clock_that_jumps() -> None:
    async with orchestrator(
        {"fail": "connection_lost", "fail_times": 1, "delay_s": 0.001, "slots": 1},
        breaker={"failures": 1, "open_s": 0.05}, retry={"attempts": 1}, queue={"timeout_s": 30}, health=QUICK_HEALTH,
    ) as host:  # fmt: skip
        assert error_of(await collect(host.submit(task()))).code == "connection_lost"
        assert host.pools[0].replicas[0].breaker in ("open", "half_open")
        await eventually(lambda: host.ready)

        first = await collect(host.submit(task(session_id="s")))
        events = await collect(host.submit(task(job_id="j", session_id="s", timeout_s=30)))
        status = host.task("j")

    assert isinstance(first[-1], End)
    end = events[-1]
    assert isinstance(end, End)
    assert end.timings is not None
    assert 0 <= (end.timings.queue_ms or 0) <= end.timings.total_ms < 30_000
    assert [event.engine["kv_warmth"] for event in events if isinstance(event, Metrics) and event.engine] == [True]
    assert status is not None
    assert 0 <= status.age_s < 30


@pytest.mark.usefixtures("jumping_clock")
async def test_kept_tasks_and_throttles_take_no_notice_of_a_clock_that_jumps() -> None:
    kept = KeptTasks(tasks=1, events=10, keep_s=60)
    async with anyio.create_task_group() as kept.group:
        log = await kept.start("j", None, short(), close)
        assert [number async for number, _ in log.read(0)] == [0]
        assert (await kept.get("j")) is log
        kept.group.cancel_scope.cancel()

    client = Client(ApiKeySettings(name="k", sha256="0" * 64, requests_per_minute=1))
    client.count_request()
    with pytest.raises(Refused) as refused:
        client.count_request()
    assert 0 < (refused.value.error.retry_after_s or 0) <= 60

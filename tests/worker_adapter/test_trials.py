"""What a seed is worth beside other tasks."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from adapter_api import TaskRequest
from adapter_api.testing import MockAdapter, MockSettings
from worker_adapter.trials import Replica, Report, Trials

pytestmark = pytest.mark.anyio
no_spec = "how the program examines an engine is its own affair"


class LosesItsSeed(MockAdapter):
    """Loses the seed of a task beside which another one runs: without a seed, or greedy."""

    beside: str

    def _words(self, task: TaskRequest) -> Iterable[str]:
        others = [other for other in self.submitted if other.job_id in self.running]
        unseeded = any(other.seed is None for other in others)
        greedy = any(other.temperature == 0 for other in others)
        lost = {"unseeded": unseeded, "greedy": greedy}.get(self.beside, False) and task.temperature != 0
        return super()._words(task.model_copy(update={"seed": random.randrange(10**9)}) if lost else task)


async def examined(beside: str) -> Report:
    adapter = LosesItsSeed(MockSettings(delay_s=0.001))
    adapter.beside = beside
    async with adapter:
        trials = Trials(
            [Replica("mock", adapter)], {"model": "mock", "prompt": "tell me", "timeout_s": 10},
            given={}, profile={"max_tokens": 12, "seed": 7, "temperature": 0.0}, runs=2,
        )  # fmt: skip
        return await trials.run()


@pytest.mark.parametrize(
    "beside, unseeded, different", [("nothing", True, True), ("unseeded", False, True), ("greedy", True, False)]
)
async def test_the_report_says_beside_which_tasks_a_seed_holds(beside: str, unseeded: bool, different: bool) -> None:
    report = await examined(beside)

    assert report.seeds is not None
    assert report.seeds.ignored is None
    assert (report.seeds.beside_unseeded, report.seeds.beside_different) == (unseeded, different)
    assert report.is_deterministic is (unseeded and different)

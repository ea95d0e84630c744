"""Workers that leave, die, pause, and lose their model: each test has a cluster, a store and a Triton of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.dynamo_worker.chain.running import KSERVE, OPENAI, Cluster, cluster, served, until

pytestmark = pytest.mark.long

CLOCK_VARIABLE = "WORKER_ADAPTER_DYNAMO_CHAIN"
by_dynamos_clock = pytest.mark.skipif(
    not os.environ.get(CLOCK_VARIABLE),
    reason=f"rests on how fast Dynamo's frontend hears of a worker: set {CLOCK_VARIABLE}=1 on a quiet machine",
)
METRICS = 18120
"""Where the second worker tells how many requests it has answered."""
_TAKEN_IN_AGAIN_S = 5.0
"""After which Dynamo 1.6.1 sends to a worker again that failed, as long as discovery has it."""


class Fleet(NamedTuple):
    """A Triton and a worker for `addsub` with both frontends, which stay."""

    made: Cluster
    url: str

    def second(self, model: str = "addsub") -> Any:
        """Start a second worker."""
        return self.made.worker("second", "--url", self.url, "--model", model, "--interval", "0.2",
                                DYN_SYSTEM_PORT=str(METRICS))  # fmt: skip

    def second_answers(self) -> None:
        """Return when the second worker has answered one request more."""
        before = self.made.requests(METRICS)
        until(lambda: self.made.requests(METRICS) > before, "the second worker is sent requests")


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with cluster(tmp_path) as made:
        made.start("triton", "-m", "worker_adapter", "triton", "--json", "--model-control-mode", "explicit",
                   "--load-model", "addsub", "--load-model", "slow", until="grpc_url")  # fmt: skip
        url = json.loads(made.wait_for("triton", "grpc_url"))["grpc_url"]
        made.worker("stays", "--url", url, "--model", "addsub", "--kserve-port", str(KSERVE), "--openai-port",
                    str(OPENAI), "--interval", "0.2", DYN_GRPC_METRICS_PORT="18109")  # fmt: skip
        served(made)
        yield Fleet(made, url)


def lost(answers: list[Any]) -> list[Any]:
    return [each for each in answers if "outputs" not in each]


@by_dynamos_clock
@pytest.mark.spec("ORCH-3071-011")
def test_one_of_two_workers_leaves_and_nobody_notices(fleet: Fleet) -> None:
    second = fleet.second()
    with fleet.made.asking("addsub_until_told") as asking:
        fleet.second_answers()
        second.send_signal(signal.SIGTERM)
        assert second.wait(30) == 0
        answers = fleet.made.answer(asking)

    assert lost(answers) == []


@pytest.mark.spec("ORCH-3071-011")
def test_what_runs_when_a_worker_is_told_to_stop_ends(fleet: Fleet) -> None:
    second, told = fleet.second("slow"), {"max_tokens": 150, "delay_ms": 50}
    until(lambda: fleet.made.ask("each", models=["slow"]) == [200], "the frontends know of slow")
    with fleet.made.asking("stream", model="slow", text="a", final=True, parameters=told) as asking:
        assert asking.stderr is not None
        assert "answering\n" in asking.stderr  # which waits for that line
        second.send_signal(signal.SIGTERM)
        fleet.made.wait_for("second", "is withdrawn")
        ran_on = asking.poll() is None
        pieces = fleet.made.answer(asking)

    assert second.wait(30) == 0
    assert ran_on
    assert "".join(text for piece in pieces for text in piece["texts"]) == "a " * 150


@by_dynamos_clock
def test_a_killed_worker_takes_only_few_requests_with_it(fleet: Fleet) -> None:
    """Dynamo sends to a dead worker of `file` discovery again every five seconds, until its files are gone."""
    second, before = fleet.second(), instances(fleet.made)
    with fleet.made.asking("addsub_until_told") as asking:
        fleet.second_answers()
        os.killpg(second.pid, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: instances(fleet.made) < before, "Dynamo forgets the dead worker")
        answers = fleet.made.answer(asking)
        rounds = (time.monotonic() - began) // _TAKEN_IN_AGAIN_S

    assert len(lost(answers)) <= 2 + rounds, answers  # what it had when it died, and the one by which that is seen
    until(lambda: lost(fleet.made.ask("addsub", times=4)) == [], "nothing is sent to the dead worker")


def instances(made: Cluster) -> int:
    """Return how many endpoints of workers discovery has."""
    return len(list((made.folder / "store" / "v1" / "instances").iterdir()))


@pytest.mark.spec("ORCH-3071-002")
def test_an_unloaded_model_is_withdrawn_and_comes_back(fleet: Fleet) -> None:
    fleet.made.program("models", "unload", "addsub", "--url", fleet.url)
    until(lambda: "not found" in fleet.made.ask("addsub")[0].get("text", ""), "the frontends forget the model")
    fleet.made.program("models", "load", "addsub", "--url", fleet.url)

    served(fleet.made)


@by_dynamos_clock
@pytest.mark.spec("ORCH-3071-011")
def test_a_paused_worker_goes_on_where_it_was(fleet: Fleet) -> None:
    second = fleet.second()
    with fleet.made.asking("addsub_until_told") as asking:
        fleet.second_answers()
        fleet.made.answer(asking)
    os.killpg(second.pid, signal.SIGSTOP)
    answers = fleet.made.ask("addsub", times=4, timeout=2_000_000, client_timeout=2)  # sent to both by turns
    os.killpg(second.pid, signal.SIGCONT)

    assert 0 < len(lost(answers)) < 4
    with fleet.made.asking("addsub_until_told") as asking:
        fleet.second_answers()
        fleet.made.answer(asking)
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0

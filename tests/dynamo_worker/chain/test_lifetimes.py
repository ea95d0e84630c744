"""Workers that leave, die, pause, and lose their model: each test has a cluster, a store and a Triton of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from tests.dynamo_worker.chain.running import KSERVE, OPENAI, Cluster, cluster, served, until

pytestmark = pytest.mark.long

CLOCK_VARIABLE = "WORKER_ADAPTER_DYNAMO_CHAIN"
by_dynamos_clock = pytest.mark.skipif(
    not os.environ.get(CLOCK_VARIABLE),
    reason=f"rests on how fast Dynamo's frontend hears of a worker: set {CLOCK_VARIABLE}=1 on a quiet machine",
)
ENGINE = 18130
HOST = f"""
[server]
host = "127.0.0.1"
port = {ENGINE}

[[pools]]
id = "mock"
adapter = "mock"

[[pools.replicas]]
id = "r0"
options = {{ models = ["late"] }}
"""
"""An engine with OpenAI's API: our own host."""
T = TypeVar("T")
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


@pytest.mark.spec("ORCH-3071-002", "ORCH-3071-008")
def test_a_model_unloaded_under_load_is_an_error_for_each_request_until_it_is_back(fleet: Fleet) -> None:
    with fleet.made.asking("addsub_until_told", client_timeout=20) as asking:
        fleet.made.program("models", "unload", "addsub", "--url", fleet.url)
        fleet.made.wait_for("stays", "is withdrawn")
        until(lambda: "not found" in fleet.made.ask("addsub")[0].get("text", ""), "the frontends forget the model")
        fleet.made.program("models", "load", "addsub", "--url", fleet.url)
        served(fleet.made)
        answers = fleet.made.answer(asking)

    told = {each["status"] for each in lost(answers)}
    assert told <= {"StatusCode.NOT_FOUND", "StatusCode.UNAVAILABLE", "StatusCode.INTERNAL"}, told  # and no deadline
    assert "StatusCode.NOT_FOUND" in told
    assert "outputs" in answers[0]
    assert "outputs" in answers[-1]


@pytest.mark.spec("ORCH-3071-017")
def test_a_worker_that_was_paused_until_it_was_forgotten_comes_back(fleet: Fleet) -> None:
    """Dynamo forgets a worker of `file` discovery after ten seconds, and does not register it again by itself."""
    second, before = fleet.second(), instances(fleet.made)
    with fleet.made.asking("addsub_until_told") as asking:
        fleet.second_answers()
        fleet.made.answer(asking)
    os.killpg(second.pid, signal.SIGSTOP)
    try:
        until(lambda: instances(fleet.made) < before, "Dynamo forgets the paused worker")
        until(lambda: lost(fleet.made.ask("addsub", times=4, client_timeout=2)) == [], "all goes to the other")
    finally:
        os.killpg(second.pid, signal.SIGCONT)

    fleet.made.wait_for("second", "joining it again")
    with fleet.made.asking("addsub_until_told") as asking:
        fleet.second_answers()
        answers = fleet.made.answer(asking)
    assert lost(answers) == []
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0


@pytest.mark.spec("ORCH-3071-017")
def test_a_cluster_whose_etcd_was_away_for_longer_than_its_lease_is_whole_again(tmp_path: Path) -> None:
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd: apt-get install etcd-server")
    with cluster(tmp_path) as made:
        data = str(tmp_path / "etcd.data")
        etcd = made.run("etcd", "etcd", "--data-dir", data, until="ready to serve client requests")
        env = {"DYN_STORE_KV": "etcd", "ETCD_ENDPOINTS": "http://127.0.0.1:2379", "ETCD_LEASE_TTL": "3"}
        mock = ("--adapter", "mock", "-o", 'models=["addsub"]', "--interval", "0.2")
        made.worker("first", *mock, "--openai-port", str(OPENAI), **env)
        made.worker("second", *mock, DYN_SYSTEM_PORT=str(METRICS), **env)
        all_well = [200] * 4
        until(lambda: made.ask("each", models=["addsub"] * 4) == all_well, "the frontend knows of the model")
        etcd.send_signal(signal.SIGTERM)
        etcd.wait(20)
        for name in ("first", "second"):
            made.wait_for(name, "joining it again")
        made.run("etcd again", "etcd", "--data-dir", data, until="ready to serve client requests")

        until(lambda: again(made) == all_well, "all is served again")
        (before,) = until(lambda: answered_by_second(made), "the second worker is there again")
        until(lambda: again(made) == all_well and answered_by_second(made) > [before], "by the second worker, too")


def again(made: Cluster) -> Any:
    """Return how completions end; nothing while the frontend, which is in a worker's process, is away."""
    return unless_away(lambda: made.ask("each", models=["addsub"] * 4))


def answered_by_second(made: Cluster) -> list[int]:
    """Return how many requests the second worker has answered, in a list that is empty while it is away."""
    return unless_away(lambda: [made.requests(METRICS)]) or []


def unless_away(asked: Callable[[], T]) -> T | None:
    """Return an answer; nothing while nobody listens, as before a process is there and while a worker joins again."""
    try:
        return asked()
    except AssertionError:
        return None


@pytest.mark.spec("ORCH-3071-002", "ORCH-3071-010")
def test_an_engine_that_is_not_there_yet_is_waited_for_and_health_says_so(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        url, health = f"http://127.0.0.1:{ENGINE}", str(METRICS)
        made.start("worker", "-m", "worker_adapter", "dynamo-worker", "--adapter", "openai", "--url", url,
                   "--openai-port", str(OPENAI), "--interval", "0.2", until="OpenAI frontend listens",
                   DYN_SYSTEM_PORT=health)  # fmt: skip
        until(lambda: told_health(made) == [503, 503], "the worker says that it is not ready")
        settings = tmp_path / "orchestrator.toml"
        settings.write_text(HOST)
        engine = made.start(
            "engine", "-m", "worker_adapter", "serve", "--config", str(settings), until='"event":"serving '
        )
        until(lambda: made.ask("each", models=["late"]) == [200], "the engine's model is served")
        until(lambda: told_health(made) == [200, 200], "the worker says that it is ready")
        engine.send_signal(signal.SIGTERM)
        engine.wait(30)

        until(lambda: made.ask("each", models=["late"]) != [200], "the model is withdrawn")
        until(lambda: told_health(made) == [503, 503], "the worker says that it is not ready any longer")


def told_health(made: Cluster) -> list[int]:
    return unless_away(lambda: [made.ask("fetched", port=METRICS, path=path)[0] for path in ("/health", "/live")]) or []

"""Unmodified clients → Dynamo's frontends → our worker → a real Triton."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamo_worker.faults import FAULTS
from tests.dynamo_worker.chain.running import KSERVE, OPENAI, Cluster, cluster

pytestmark = pytest.mark.long

HEALTH = 18110
QUICK = {"max_tokens": 3, "delay_ms": 1}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, dict[str, Any]]]:
    """A Triton, and a worker with both frontends before it."""
    with cluster(tmp_path_factory.mktemp("chain")) as made:
        made.start("triton", "-m", "worker_adapter", "triton", "--json", "--model-control-mode", "explicit",
                   "--load-model", "*", until="grpc_url")  # fmt: skip
        triton = json.loads(made.wait_for("triton", "grpc_url"))
        frontends = ("--kserve-port", str(KSERVE), "--openai-port", str(OPENAI))
        made.worker("worker", "--url", triton["grpc_url"], *frontends, "--interval", "0.2", until="tinytrt (text)",
                    DYN_SYSTEM_PORT=str(HEALTH), DYN_GRPC_METRICS_PORT="18109")  # fmt: skip
        yield made, triton


def served(made: Cluster) -> None:
    """Return when the frontends know of the model; they tell of it by nothing but answers."""
    ends = time.monotonic() + 30
    while "outputs" not in made.ask("addsub")[0]:
        assert time.monotonic() < ends


@pytest.mark.spec("ORCH-3071-005", "ORCH-3071-006")
def test_an_inference_keeps_its_id_and_returns_the_outputs_asked_for(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, _ = chain
    served(made)

    (whole,) = made.ask("addsub", request_id="r1")
    (part,) = made.ask("addsub", outputs=["DIFFERENCE"], priority=1, timeout=20_000_000)

    assert whole == {"id": "r1", "outputs": {"SUM": [4.0] * 4, "DIFFERENCE": [2.0] * 4}}
    assert part["outputs"] == {"DIFFERENCE": [2.0] * 4}


@pytest.mark.spec("ORCH-3071-014")
def test_metadata_and_configuration_are_triton_s(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, _ = chain
    served(made)
    told = made.ask("model", name="addsub")

    assert told["ready"]
    assert [spec["name"] for spec in told["metadata"]["inputs"]] == ["INPUT0", "INPUT1"]
    assert (told["config"]["name"], told["config"]["maxBatchSize"], told["config"]["backend"]) == (
        "addsub",
        8,
        "python",
    )


@pytest.mark.spec("ORCH-3071-007")
def test_a_stream_ends_with_an_empty_final_response(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, _ = chain
    served(made)
    pieces = made.ask("stream", model="slow", text="a b c", final=True, id="s1", parameters=QUICK)

    assert {piece["id"] for piece in pieces} == {"s1"}
    assert [piece["final"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert "".join(text for piece in pieces for text in piece["texts"]) == "a b c "


@pytest.mark.spec("ORCH-3071-013")
def test_chats_and_completions_come_with_usage_and_a_reason(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, _ = chain
    served(made)
    asked = {"model": "tinylm", "max_tokens": 4}
    whole = made.ask("post", path="/v1/completions", body={**asked, "prompt": "The import"})
    chat = made.ask(
        "post", path="/v1/chat/completions", body={**asked, "messages": [{"role": "user", "content": "hi"}]}
    )
    streamed = made.ask("post", path="/v1/completions", body={**asked, "prompt": "The", "stream": True})
    refused = made.ask("post", path="/v1/completions", body={**asked, "prompt": "x", "best_of": 3})

    assert whole["body"]["choices"][0]["finish_reason"] == "length"
    assert whole["body"]["usage"]["completion_tokens"] == 4
    assert chat["body"]["choices"][0]["message"]["content"]
    assert not any(event.get("usage") for event in streamed["events"])
    assert (refused["status"], "best_of" in refused["body"]["message"]) == (400, True)


def cancelled(made: Cluster) -> int:
    """Return how many cancels the model itself has seen."""
    (piece,) = made.ask("stream", model="slow", text="x", parameters={"probe": True})
    found: int = json.loads(piece["texts"][0])["cancelled"]
    return found


@pytest.mark.spec("ORCH-3071-003")
@pytest.mark.parametrize("how", ["http", "grpc"])
def test_a_client_that_leaves_is_cancelled_at_the_engine(chain: tuple[Cluster, dict[str, Any]], how: str) -> None:
    made, _ = chain
    served(made)
    before = cancelled(made)
    if how == "http":
        assert made.ask("dropped", body={"model": "slow", "prompt": "a", "stream": True, "max_tokens": 3000})
    else:
        assert made.ask("stream", model="slow", text="a", final=True, leave_after=2, parameters={"max_tokens": 3000})

    ends = time.monotonic() + 10
    while cancelled(made) == before:
        assert time.monotonic() < ends, "Triton went on for a client that is gone"


@pytest.mark.spec("ORCH-3071-010")
def test_health_is_told_by_the_worker(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, _ = chain

    assert made.ask("fetched", port=HEALTH, path="/health")[0] == 200
    assert made.ask("fetched", port=HEALTH, path="/live")[0] == 200


@pytest.mark.spec("ORCH-3071-012")
def test_a_worker_with_other_tensors_of_that_name_is_refused_with_what_to_do(
    chain: tuple[Cluster, dict[str, Any]],
) -> None:
    made, _ = chain
    served(made)
    made.worker("other", "--adapter", "mock", "-o", 'models=["addsub"]', "--face", "tensor", "--interval", "0.2",
                until="is not registered")  # fmt: skip

    assert "another namespace" in made.wait_for("other", "is not registered")
    assert all("outputs" in each for each in made.ask("addsub", times=4))


@pytest.mark.spec("ORCH-3071-011")
def test_one_of_two_workers_leaves_and_nobody_notices(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, triton = chain
    served(made)
    second = made.worker("second", "--url", triton["grpc_url"], "--interval", "0.2")
    asking = made.asking("addsub", times=60, pause_s=0.05)
    second.send_signal(signal.SIGTERM)
    out, _ = asking.communicate(timeout=60)

    assert second.wait(30) == 0
    assert [each for each in json.loads(out) if "outputs" not in each] == []


@pytest.mark.spec("ORCH-3071-011")
def test_what_runs_when_a_worker_is_told_to_stop_ends(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, triton = chain
    served(made)
    drained = made.worker("drained", "--url", triton["grpc_url"], "--interval", "0.2", "--model", "slow",
                          "--namespace", "apart", until="slow (text)")  # fmt: skip
    drained.send_signal(signal.SIGTERM)

    assert drained.wait(30) == 0
    assert "withdrawn" in made.wait_for("drained", "withdrawn")


def test_a_killed_worker_takes_only_few_requests_with_it(chain: tuple[Cluster, dict[str, Any]]) -> None:
    """Dynamo takes a dead worker of `file` discovery in again twice: three requests in ten seconds at most."""
    made, triton = chain
    served(made)
    second = made.worker("killed", "--url", triton["grpc_url"], "--interval", "0.2")
    asking = made.asking("addsub", times=150, pause_s=0.1)
    time.sleep(1.0)  # that both have served some: nothing tells of it
    os.killpg(second.pid, signal.SIGKILL)
    out, _ = asking.communicate(timeout=60)
    lost = [each for each in json.loads(out) if "outputs" not in each]

    assert len(lost) <= 6, lost
    assert "outputs" in json.loads(out)[-1]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("failing")) as made:
        made.start("failing", "tests/dynamo_worker/chain/failing_worker.py", str(KSERVE),
                   str(OPENAI), until="serving frozenset({")  # fmt: skip
        ends = time.monotonic() + 30
        while (made.ask("raises", code="engine_failed")["http"]["status"]) == 404:
            assert time.monotonic() < ends
        yield made


HTTP = {"InvalidRequest": 400, "RateLimited": 429, "DeadlineExceeded": 504, "NotFound": 404, "Conflict": 409,
        "Internal": 500, "Unavailable": 503}  # fmt: skip


@pytest.mark.spec("ORCH-3071-008")
@pytest.mark.parametrize("code", [code for code, fault in FAULTS.items() if fault.exception != "WorkerUnavailable"])
def test_each_error_is_told_in_its_class(failing: Cluster, code: str) -> None:
    fault, told = FAULTS[code], failing.ask("raises", code=code)

    if fault.told == "Unavailable":  # the frontend keeps the text of these to itself
        assert told["kserve"]["status"] == "StatusCode.UNAVAILABLE"
    else:
        assert f"{fault.told}: " in told["kserve"]["text"]
        assert "as asked for" in told["kserve"]["text"]
    assert told["http"]["status"] == HTTP[fault.told], told


@pytest.mark.spec("ORCH-3071-016")
def test_one_command_runs_triton_a_worker_and_a_frontend(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        worker = made.worker("all", "--embedded", "--model-name", "addsub", "--log-verbose", "1", "--store-kv", "file",
                             "--interval", "0.2", DYN_HTTP_PORT=str(KSERVE))  # fmt: skip
        served(made)
        written = (tmp_path / "all").read_text()
        worker.send_signal(signal.SIGTERM)

        assert worker.wait(30) == 0
        assert "ALL addresses" in written
        assert "tinylm" not in written


@pytest.mark.spec("ORCH-3071-001", "ORCH-3071-015")
@pytest.mark.parametrize("discovery, plane", [("etcd", "tcp"), ("file", "nats"), ("etcd", "nats")])
def test_a_cluster_by_etcd_and_nats_serves_as_one_by_files(tmp_path: Path, discovery: str, plane: str) -> None:
    programs = {"etcd": "etcd", "nats": "nats-server"}
    for each in {discovery, plane} & programs.keys():
        if shutil.which(programs[each]) is None:
            pytest.skip(f"needs {programs[each]}: apt-get install {each}-server")
    with cluster(tmp_path) as made:
        env = {"DYN_STORE_KV": discovery, "DYN_REQUEST_PLANE": plane, "DYN_GRPC_METRICS_PORT": "18109"}
        if discovery == "etcd":
            made.run("etcd", "etcd", "--data-dir", str(tmp_path / "etcd.data"), until="ready to serve client requests")
            env["ETCD_ENDPOINTS"] = "http://127.0.0.1:2379"
        if plane == "nats":
            made.run("nats", "nats-server", "-a", "127.0.0.1", "-p", "4222", until="Server is ready")
            env["NATS_SERVER"] = "nats://127.0.0.1:4222"
        made.worker("worker", "--embedded", "--model", "addsub", "--kserve-port", str(KSERVE), "--interval", "0.2",
                    until="serving", **env)  # fmt: skip
        served(made)

        assert made.ask("addsub", request_id="r1")[0]["id"] == "r1"


@pytest.mark.spec("ORCH-3071-002")
def test_an_unloaded_model_is_withdrawn_and_comes_back(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, triton = chain
    served(made)
    made.program("models", "unload", "addsub", "--url", triton["grpc_url"])
    ends = time.monotonic() + 20
    while "not found" not in made.ask("addsub")[0].get("text", ""):
        assert time.monotonic() < ends
    made.program("models", "load", "addsub", "--url", triton["grpc_url"])

    served(made)


@pytest.mark.spec("ORCH-3071-002")
def test_fifty_models_of_one_engine_are_served_by_one_worker(tmp_path: Path) -> None:
    """By etcd: with `file`, Dynamo itself takes more watches on files than a user may have."""
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd: apt-get install etcd-server")
    names = [f"model-{number}" for number in range(50)]
    with cluster(tmp_path) as made:
        made.run("etcd", "etcd", "--data-dir", str(tmp_path / "etcd.data"), until="ready to serve client requests")
        env = {"DYN_STORE_KV": "etcd", "ETCD_ENDPOINTS": "http://127.0.0.1:2379"}
        made.worker("fifty", "--adapter", "mock", "-o", f"models={json.dumps(names)}", "--openai-port", str(OPENAI),
                    "--interval", "0.2", until="model-9 (text)", **env)  # fmt: skip
        ends = time.monotonic() + 30
        while made.ask("post", path="/v1/completions", body={"model": names[-1], "prompt": "x"})["status"] != 200:
            assert time.monotonic() < ends
        statuses = made.ask("each", models=names)

        assert statuses == [200] * 50


@pytest.mark.spec("ORCH-3071-011")
def test_a_paused_worker_goes_on_where_it_was(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, triton = chain
    served(made)
    paused = made.worker("paused", "--url", triton["grpc_url"], "--interval", "0.2", "--model", "addsub", "--face",
                         "tensor", "--namespace", "dynamo")  # fmt: skip
    os.killpg(paused.pid, signal.SIGSTOP)
    asking = made.asking("addsub", times=6, timeout=5_000_000, client_timeout=5)
    time.sleep(12)  # longer than the deadlines of what it was sent
    os.killpg(paused.pid, signal.SIGCONT)
    out, _ = asking.communicate(timeout=60)
    answers = json.loads(out)

    assert any("outputs" in each for each in answers)
    served(made)
    paused.send_signal(signal.SIGTERM)
    assert paused.wait(30) == 0


@pytest.mark.spec("ORCH-3071-014")
def test_our_own_adapter_speaks_to_the_cluster_as_to_an_engine(chain: tuple[Cluster, dict[str, Any]]) -> None:
    made, _ = chain
    served(made)
    ones, url = "[[1, 1, 1, 1]]", f"grpc://127.0.0.1:{KSERVE}"
    told = made.program("infer", "--url", url, "--model", "addsub", "--input", f"INPUT0={ones}", "--input",
                        f"INPUT1={ones}", "--json")  # fmt: skip

    found = {output["name"]: output["data"] for output in json.loads(told)["outputs"]}
    assert found["SUM"] == [2.0] * 4

"""Unmodified clients → Dynamo's frontends → our worker → a real Triton."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.dynamo_worker.chain.running import HEALTH, KSERVE, OPENAI, Cluster, cluster, probed, served, until

pytestmark = pytest.mark.long

QUICK = {"max_tokens": 3, "delay_ms": 1}


@pytest.mark.spec("ORCH-3071-005", "ORCH-3071-006")
def test_an_inference_keeps_its_id_and_returns_the_outputs_asked_for(chain: Cluster) -> None:
    (whole,) = chain.ask("addsub", request_id="r1")
    (part,) = chain.ask("addsub", outputs=["DIFFERENCE"], priority=1, timeout=20_000_000)

    assert whole == {"id": "r1", "outputs": {"SUM": [4.0] * 4, "DIFFERENCE": [2.0] * 4}}
    assert part["outputs"] == {"DIFFERENCE": [2.0] * 4}


@pytest.mark.spec("ORCH-3071-014")
def test_metadata_and_configuration_are_triton_s(chain: Cluster) -> None:
    told = chain.ask("model", name="addsub")

    assert told["ready"]
    assert [spec["name"] for spec in told["metadata"]["inputs"]] == ["INPUT0", "INPUT1"]
    assert (told["config"]["name"], told["config"]["maxBatchSize"], told["config"]["backend"]) == (
        "addsub",
        8,
        "python",
    )


@pytest.mark.spec("ORCH-3071-007")
def test_a_stream_ends_with_an_empty_final_response(chain: Cluster) -> None:
    pieces = chain.ask("stream", model="slow", text="a b c", final=True, id="s1", parameters=QUICK)

    assert {piece["id"] for piece in pieces} == {"s1"}
    assert [piece["final"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert "".join(text for piece in pieces for text in piece["texts"]) == "a b c "


@pytest.mark.spec("ORCH-3071-013")
def test_chats_and_completions_come_with_usage_and_a_reason(chain: Cluster) -> None:
    asked = {"model": "tinylm", "max_tokens": 4}
    whole = chain.ask("post", path="/v1/completions", body={**asked, "prompt": "The import"})
    chat = chain.ask(
        "post", path="/v1/chat/completions", body={**asked, "messages": [{"role": "user", "content": "hi"}]}
    )
    streamed = chain.ask("post", path="/v1/completions", body={**asked, "prompt": "The", "stream": True})
    refused = chain.ask("post", path="/v1/completions", body={**asked, "prompt": "x", "best_of": 3})

    assert whole["body"]["choices"][0]["finish_reason"] == "length"
    assert whole["body"]["usage"]["completion_tokens"] == 4
    assert chat["body"]["choices"][0]["message"]["content"]
    assert not any(event.get("usage") for event in streamed["events"])
    assert (refused["status"], "best_of" in refused["body"]["message"]) == (400, True)


@pytest.mark.spec("ORCH-3071-006")
def test_a_deadline_travels_to_the_engine_and_comes_back_as_one(chain: Cluster) -> None:
    before = cancelled(chain)
    told = chain.ask("text", model="slow", text="a", stream=True, timeout=300_000, parameters={"max_tokens": 3000})

    assert "DeadlineExceeded: " in told[-1]["text"]
    until(lambda: cancelled(chain) > before, "Triton works for nobody any longer", within_s=30)


def cancelled(made: Cluster) -> int:
    """Return how many cancels the model itself has seen."""
    return probed(made)["cancelled"]


@pytest.mark.spec("ORCH-3071-003")
@pytest.mark.parametrize("how", ["http", "grpc"])
def test_a_client_that_leaves_is_cancelled_at_the_engine(chain: Cluster, how: str) -> None:
    before = cancelled(chain)
    if how == "http":
        assert chain.ask("dropped", body={"model": "slow", "prompt": "a", "stream": True, "max_tokens": 3000})
    else:
        assert chain.ask("stream", model="slow", text="a", final=True, leave_after=2, parameters={"max_tokens": 3000})

    until(lambda: cancelled(chain) > before, "Triton stops for a client that is gone", within_s=30)


@pytest.mark.spec("ORCH-3071-010")
def test_health_is_told_by_the_worker(chain: Cluster) -> None:
    def told() -> list[int]:
        return [chain.ask("fetched", port=HEALTH, path=path)[0] for path in ("/health", "/live")]

    assert until(lambda: told() == [200, 200], "the worker says that it is ready")


@pytest.mark.spec("ORCH-3071-012")
def test_a_worker_with_other_tensors_of_that_name_is_refused_with_what_to_do(chain: Cluster) -> None:
    other = chain.worker("other", "--adapter", "mock", "-o", 'models=["addsub"]', "--face", "tensor",
                         "--interval", "0.2", until="is not registered")  # fmt: skip

    assert "another namespace" in chain.wait_for("other", "is not registered")
    assert all("outputs" in each for each in chain.ask("addsub", times=4))
    other.send_signal(signal.SIGTERM)  # it would take the name when it is free
    assert other.wait(30) == 0


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
def test_fifty_models_of_one_engine_are_served_by_one_worker(tmp_path: Path) -> None:
    """By etcd: with `file`, Dynamo itself takes more watches on files than a user may have."""
    if shutil.which("etcd") is None:
        pytest.skip("needs etcd: apt-get install etcd-server")
    names = [f"model-{number}" for number in range(50)]
    with cluster(tmp_path) as made:
        made.run("etcd", "etcd", "--data-dir", str(tmp_path / "etcd.data"), until="ready to serve client requests")
        env = {"DYN_STORE_KV": "etcd", "ETCD_ENDPOINTS": "http://127.0.0.1:2379"}
        made.worker("fifty", "--adapter", "mock", "-o", f"models={json.dumps(names)}", "--openai-port", str(OPENAI),
                    "--interval", "0.2", **env)  # fmt: skip

        assert until(lambda: made.ask("each", models=names) == [200] * 50, "all fifty are served")

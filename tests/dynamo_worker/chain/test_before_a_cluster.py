"""The other way round: our adapters, and our host, before a cluster of Dynamo."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dynamo_worker.chain.conftest import TALKER
from tests.dynamo_worker.chain.running import KSERVE, OPENAI, Cluster, probed, until

pytestmark = pytest.mark.long

HOST = 18181
TENSORS, TEXT = ("--url", f"grpc://127.0.0.1:{KSERVE}"), ("--adapter", "openai", "--url", f"http://127.0.0.1:{OPENAI}")
SETTINGS = f"""
[server]
host = "127.0.0.1"
port = {HOST}

[[pools]]
id = "text"
adapter = "openai"
models = ["tinylm", "slow"]

[[pools.replicas]]
id = "r0"
url = "http://127.0.0.1:{OPENAI}"

[[pools]]
id = "tensors"
adapter = "triton"
models = ["addsub", "{TALKER}"]

[[pools.replicas]]
id = "r0"
url = "grpc://127.0.0.1:{KSERVE}"
"""


@pytest.mark.spec("ORCH-3071-014")
def test_the_adapter_for_triton_runs_inferences(chain: Cluster) -> None:
    ones = "[[1, 1, 1, 1]]"
    told = chain.program("infer", *TENSORS, "--model", "addsub", "--input", f"INPUT0={ones}", "--input",
                         f"INPUT1={ones}", "--json")  # fmt: skip

    found = {output["name"]: output["data"] for output in json.loads(told)["outputs"]}
    assert found["SUM"] == [2.0] * 4


@pytest.mark.spec("ORCH-3071-014")
def test_the_adapter_for_triton_writes_text_by_the_tensors_of_the_model(chain: Cluster) -> None:
    assert chain.program("submit", "The import", "--max-tokens", "8", *TENSORS, "--model", "tinylm").strip()


@pytest.mark.spec("ORCH-3071-001")
def test_the_adapter_for_triton_writes_text_by_dynamo_s_own_tensors(chain: Cluster) -> None:
    """`TALKER` is registered for text alone: the frontend makes up its tensors, which are the dialect `dynamo`."""
    assert chain.program("submit", "hi", *TENSORS, "--model", TALKER).strip() == "one two three"


@pytest.mark.spec("ORCH-3071-013")
@pytest.mark.parametrize("model, expected", [("tinylm", None), (TALKER, "one two three")])
def test_the_adapter_for_openai_s_api_writes_text(chain: Cluster, model: str, expected: str | None) -> None:
    told = chain.program("submit", "The import", "--max-tokens", "8", *TEXT, "--model", model, "--json")

    events = [json.loads(line) for line in told.splitlines()]
    text = "".join(event["text"] for event in events if event["type"] == "token")
    assert text == expected if expected else text
    assert events[-1]["usage"]["tokens_out"] == (3 if expected else 8)


@pytest.fixture(scope="module")
def host(chain: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Our host before the cluster: a pool for text and one for tensors."""
    settings = tmp_path_factory.mktemp("host") / "orchestrator.toml"
    settings.write_text(SETTINGS)
    process = chain.start("host", "-m", "worker_adapter", "serve", "--config", str(settings), until='"event":"serving ')
    yield chain
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def ask(host: Cluster, path: str, body: Any) -> Any:
    told = host.ask("post", path=path, body=body, at=f"127.0.0.1:{HOST}")
    assert told["status"] == 200, told
    return told["body"]


@pytest.mark.spec("ORCH-3071-013")
def test_our_host_answers_chats_and_inferences_by_the_cluster(host: Cluster) -> None:
    row = [[1.0, 2.0, 3.0, 4.0]]
    inputs = [{"name": name, "datatype": "FP32", "shape": [1, 4], "data": row} for name in ("INPUT0", "INPUT1")]

    chat = ask(host, "/v1/chat/completions", {
        "model": "tinylm", "messages": [{"role": "user", "content": "The import"}], "max_tokens": 5,
    })  # fmt: skip
    words = ask(host, "/v1/completions", {"model": TALKER, "prompt": "hi"})
    sums = ask(host, "/v2/models/addsub/infer", {"id": "z", "inputs": inputs})

    assert (chat["usage"]["completion_tokens"], chat["choices"][0]["finish_reason"]) == (5, "length")
    assert words["choices"][0]["text"] == "one two three"
    assert (sums["id"], sums["outputs"][0]["data"]) == ("z", [2.0, 4.0, 6.0, 8.0])


@pytest.mark.spec("ORCH-3071-003")
def test_a_client_that_leaves_our_host_is_cancelled_at_the_engine_behind_the_cluster(host: Cluster) -> None:
    before = probed(host)["cancelled"]

    assert host.ask("dropped", body={"model": "slow", "prompt": "a", "stream": True, "max_tokens": 3000},
                    at=f"127.0.0.1:{HOST}")  # fmt: skip

    until(lambda: probed(host)["cancelled"] > before, "Triton stops for a client that is gone", within_s=30)

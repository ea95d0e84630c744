"""The v2 face's statistics: what the host has had done, in Triton's shape."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import End, TaskRequest
from adapter_api.testing import collect
from orchestrator.observability.statistics import Statistics
from orchestrator.pools.demand import Demand
from orchestrator.pools.ticket import Ticket
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.test_guard import bearer, key
from tests.orchestrator.http.test_v2_config import in_front_of
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio

INFER = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}]}


async def stats_of(host: Host, path: str = "mock") -> list[dict[str, Any]]:
    answer = await host.client.get(f"/v2/models/{path}/stats")
    assert answer.status_code == 200
    return list(answer.json()["model_stats"])


@pytest.mark.spec("ORCH-3074-008")
async def test_what_a_model_did_is_counted_with_its_times_in_nanoseconds(serve: Serve) -> None:
    async with serve({"reply": "one two", "delay_s": 0.01}) as host:
        before = await stats_of(host)
        await host.client.post("/v2/models/mock/infer", json=INFER)
        await collect(host.orchestrator.submit(TaskRequest(model="mock", prompt="p")))
        (one,) = await stats_of(host)
        (same,) = await stats_of(host, "mock/versions/1")
        whole = (await host.client.get("/v2/models/stats")).json()

    assert before[0]["inference_stats"]["success"] == {"count": 0, "ns": 0}
    assert (one["name"], one["version"]) == ("mock", "1")
    assert (one["inference_count"], one["execution_count"]) == (2, 2)
    stats = one["inference_stats"]
    assert [stats[name]["count"] for name in ("success", "fail", "queue", "compute_infer")] == [2, 0, 2, 2]
    assert stats["success"]["ns"] >= stats["compute_infer"]["ns"] >= 20_000_000
    assert one["batch_stats"][0]["compute_infer"] == stats["compute_infer"]
    assert one["last_inference"] > 1_600_000_000_000
    assert same == one
    assert whole == {"model_stats": [one]}


@pytest.mark.spec("ORCH-3074-008")
async def test_what_failed_counts_as_that(serve: Serve) -> None:
    async with serve({"fail": "engine_failed"}) as host:
        await collect(host.orchestrator.submit(TaskRequest(model="mock", prompt="p")))
        (one,) = await stats_of(host)

    assert one["inference_stats"]["fail"]["count"] == 1
    assert (one["inference_stats"]["success"]["count"], one["inference_count"]) == (0, 0)


@pytest.mark.spec("ORCH-3074-008")
async def test_rows_of_a_batch_are_counted_one_by_one() -> None:
    with FakeTriton() as fake:
        fake.model("m").signature("text", decoupled=False, max_batch_size=8)
        async with in_front_of(fake.grpc_url) as host:
            text = {"name": "text_input", "datatype": "BYTES", "shape": [3, 1], "data": ["a", "b", "c"]}
            answer = await host.post("/v2/models/m/infer", json={"inputs": [text]})
            (one,) = (await host.get("/v2/models/m/stats")).json()["model_stats"]

    assert answer.status_code == 200
    assert (one["inference_count"], one["execution_count"]) == (3, 1)
    assert [batch["batch_size"] for batch in one["batch_stats"]] == [3]


@pytest.mark.spec("ORCH-3074-008")
async def test_only_those_who_may_watch_are_told_that_there_are_statistics(serve: Serve) -> None:
    keys = [key("plain"), key("watcher", watch=True)]
    async with serve(server={"api_keys": keys}) as host:
        told = [
            (
                "statistics" in (await host.client.get("/v2", headers=bearer(name))).json()["extensions"],
                (await host.client.get("/v2/models/mock/stats", headers=bearer(name))).status_code,
                (await host.client.get("/v2/models/stats", headers=bearer(name))).status_code,
            )
            for name in ("plain", "watcher")
        ]
        unknown = await host.client.get("/v2/models/nope/stats", headers=bearer("watcher"))

    assert told == [(False, 403, 403), (True, 200, 200)]
    assert unknown.status_code == 404


@pytest.mark.spec("ORCH-3074-008")
async def test_models_with_made_up_names_take_a_bounded_place() -> None:
    statistics = Statistics()
    for number in range(5000):
        ticket = Ticket.__new__(Ticket)
        Ticket.__init__(
            ticket, TaskRequest(model=f"m{number}", prompt="p"), Demand(model="m"), None, None,  # type: ignore[arg-type]
            owner=None, session=None, bound=False,
        )  # fmt: skip
        ticket.terminal = End(finish_reason="stop")
        statistics.ended(ticket)

    assert len(statistics._models) == 4096
    assert statistics.of("m4999", ())[0].inference_count == 1

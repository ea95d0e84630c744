"""The simulation of a cluster: what must hold of it whatever the figures, and that it tells what was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from simulate_cluster import MEASURED, TOLERANCE, capacity, check, simulate

no_spec = "a script for planning, which promises nothing"

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "simulate_cluster.py"


def most(**more: Any) -> float:
    return min(capacity(**more).values())


def test_below_capacity_what_arrives_is_served_and_above_it_the_capacity_is() -> None:
    limit = most(workers=2, frontends=1, frontend_us=100, worker_us=1000)

    calm = simulate(workers=2, frontends=1, rate=limit / 2, frontend_us=100, worker_us=1000, requests=5000)
    full = simulate(workers=2, frontends=1, rate=limit * 2, frontend_us=100, worker_us=1000, requests=5000)

    assert limit == 2000
    assert calm["per_s"] == pytest.approx(limit / 2, rel=0.05)
    assert full["per_s"] == pytest.approx(limit, rel=0.05)
    assert calm["p50_ms"] < full["p50_ms"]


def test_one_worker_with_random_arrivals_waits_as_queueing_theory_says() -> None:
    """M/D/1 at half its capacity: on average 1.5 times the service, and the median near it."""
    found = simulate(workers=1, frontends=1, rate=500, frontend_us=0.001, worker_us=1000, requests=20_000)

    assert 1.0 <= found["p50_ms"] < 1.6


def test_more_workers_help_until_the_frontend_is_full() -> None:
    limits = [most(workers=n, frontends=1, frontend_us=250, worker_us=1000) for n in (1, 2, 4, 8)]

    assert limits == [1000, 2000, 4000, 4000]


@pytest.mark.parametrize(
    "more, limit",
    [
        ({"engine_us": 4000}, 500),
        ({"engine_us": 4000, "engine_slots": 3}, 1500),
        ({"cores": 1.2, "client_us": 95}, 1000),
    ],
)
def test_engines_and_shared_cores_are_limits_that_the_simulation_keeps(more: dict[str, Any], limit: float) -> None:
    costs = {"workers": 2, "frontends": 1, "frontend_us": 105, "worker_us": 1000} | more

    found = simulate(clients=64, requests=4000, **costs)

    assert most(**costs) == pytest.approx(limit)
    assert found["per_s"] == pytest.approx(limit, rel=0.05)


def test_clients_that_wait_for_their_answers_get_as_many_as_the_time_of_one_lets_them() -> None:
    found = simulate(workers=1, frontends=1, clients=1, client_us=100, frontend_us=200, worker_us=300, wait_us=400)

    assert found["per_s"] == pytest.approx(1000, rel=0.01)
    assert found["p50_ms"] == pytest.approx(1.0)


def test_the_simulation_tells_what_was_measured() -> None:
    rows = check(json.loads(MEASURED.read_text())["points"])

    assert len(rows) == 4
    assert all(abs(row["off"]) <= TOLERANCE for row in rows), rows
    assert {row["workers"] for row in rows} == {1, 2}


def test_a_measurement_that_the_simulation_does_not_tell_is_said_by_the_exit_code(tmp_path: Path) -> None:
    found = json.loads(MEASURED.read_text())
    found["points"][-1]["per_s"] *= 2
    (tmp_path / "points.json").write_text(json.dumps(found))

    codes = [
        subprocess.run([sys.executable, SCRIPT, "--check", *file], capture_output=True).returncode
        for file in ((), (tmp_path / "points.json",))
    ]

    assert codes == [0, 1]

"""The simulation of a cluster: what must hold of it whatever the figures."""

from __future__ import annotations

import pytest
from simulate_cluster import capacity, simulate

no_spec = "a script for planning, which promises nothing"


def test_below_capacity_what_arrives_is_served_and_above_it_the_capacity_is() -> None:
    most = capacity(workers=2, frontends=1, frontend_us=100, worker_us=1000)

    calm = simulate(workers=2, frontends=1, rate=most / 2, frontend_us=100, worker_us=1000)
    full = simulate(workers=2, frontends=1, rate=most * 2, frontend_us=100, worker_us=1000)

    assert most == 2000
    assert calm["per_s"] == pytest.approx(most / 2, rel=0.05)
    assert full["per_s"] == pytest.approx(most, rel=0.05)
    assert calm["p50_ms"] < full["p50_ms"]


def test_one_worker_with_random_arrivals_waits_as_queueing_theory_says() -> None:
    """M/D/1 at half its capacity: on average 1.5 times the service, and the median near it."""
    found = simulate(workers=1, frontends=1, rate=500, frontend_us=0.001, worker_us=1000, requests=50_000)

    assert 1.0 <= found["p50_ms"] < 1.6


def test_more_workers_help_until_the_frontend_is_full() -> None:
    most = [capacity(workers=n, frontends=1, frontend_us=250, worker_us=1000) for n in (1, 2, 4, 8)]

    assert most == [1000, 2000, 4000, 4000]

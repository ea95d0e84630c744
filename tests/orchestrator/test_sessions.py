"""Which replica knows a session."""

from __future__ import annotations

import pytest

from orchestrator.sessions import Affinity
from orchestrator.settings import SessionSettings
from tests.orchestrator.fake_clock import FakeClock


@pytest.mark.spec("ORCH-3055-031")
def test_a_session_is_forgotten_after_its_time() -> None:
    clock = FakeClock()
    affinity = Affinity(SessionSettings(ttl_s=10), clock)
    affinity.remember(("m", "s"), "r0")

    clock.advance(9)
    assert affinity.replica_of(("m", "s")) == "r0"
    affinity.remember(("m", "s"), "r0")
    clock.advance(9)
    assert affinity.replica_of(("m", "s")) == "r0"
    clock.advance(1)
    assert affinity.replica_of(("m", "s")) is None


def test_the_least_recently_used_session_goes_first() -> None:
    affinity = Affinity(SessionSettings(limit=2), FakeClock())
    affinity.remember(("m", "old"), "r0")
    affinity.remember(("m", "new"), "r0")
    affinity.remember(("m", "old"), "r1")
    affinity.remember(("m", "newest"), "r0")

    assert affinity.replica_of(("m", "new")) is None
    assert affinity.replica_of(("m", "old")) == "r1"
    assert len(affinity) == 2


def test_a_session_can_be_forgotten_on_request_with_every_model() -> None:
    affinity = Affinity(SessionSettings(), FakeClock())
    affinity.remember(("m", "s"), "r0")
    affinity.remember(("n", "s"), "r1")
    affinity.remember(("m", "other"), "r1")

    assert affinity.forget("s") == 2
    assert len(affinity) == 1

"""Which replica knows a session."""

from __future__ import annotations

import pytest

from orchestrator.config.settings import SessionSettings
from orchestrator.sessions.affinity import Affinity, Place, SessionKey
from tests.orchestrator.fake_clock import FakeClock


def at(replica_id: str) -> Place:
    return Place("p", replica_id, 1)


def key(session_id: str, *, model: str = "m", owner: str | None = None) -> SessionKey:
    return SessionKey(owner, model, session_id)


@pytest.mark.spec("ORCH-3055-031")
def test_a_session_is_forgotten_after_its_time() -> None:
    clock = FakeClock()
    affinity = Affinity(SessionSettings(ttl_s=10), clock)
    affinity.remember(key("s"), at("r0"))

    clock.advance(9)
    assert affinity.place_of(key("s")) == at("r0")
    affinity.remember(key("s"), at("r0"))
    clock.advance(9)
    assert affinity.place_of(key("s")) == at("r0")
    clock.advance(1)
    assert affinity.place_of(key("s")) is None


def test_the_least_recently_used_session_goes_first() -> None:
    affinity = Affinity(SessionSettings(limit=2), FakeClock())
    affinity.remember(key("old"), at("r0"))
    affinity.remember(key("new"), at("r0"))
    affinity.remember(key("old"), at("r1"))
    affinity.remember(key("newest"), at("r0"))

    assert affinity.place_of(key("new")) is None
    assert affinity.place_of(key("old")) == at("r1")
    assert len(affinity) == 2


def test_a_session_can_be_forgotten_on_request_with_every_model() -> None:
    affinity = Affinity(SessionSettings(), FakeClock())
    affinity.remember(key("s"), at("r0"))
    affinity.remember(key("s", model="n"), at("r1"))
    affinity.remember(key("other"), at("r1"))

    affinity.remember(key("s", owner="somebody else"), at("r1"))

    assert affinity.forget(None, "s") == 2
    assert len(affinity) == 2


def test_a_session_whose_time_is_up_does_not_stay_in_memory() -> None:
    clock = FakeClock()
    affinity = Affinity(SessionSettings(ttl_s=10), clock)
    affinity.remember(key("old"), at("r0"))

    clock.advance(10)
    affinity.remember(key("new"), at("r0"))

    assert len(affinity) == 1


@pytest.mark.spec("ORCH-3055-032")
def test_owners_do_not_share_a_session_of_one_name() -> None:
    affinity = Affinity(SessionSettings(), FakeClock())
    affinity.remember(key("s", owner="team-a"), at("r0"))

    assert affinity.place_of(key("s", owner="team-b")) is None

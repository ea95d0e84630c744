"""Which replica, and which pool."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.pools.routing import Candidate, choose_pool, choose_replica


@pytest.mark.spec("ORCH-3055-011")
def test_the_replica_with_the_smallest_part_of_its_slots_in_use_is_chosen() -> None:
    small, large = Candidate("a", in_flight=1, slots=2), Candidate("b", in_flight=3, slots=10)

    assert choose_replica([small, large]) == "b"


@pytest.mark.spec("ORCH-3055-012")
def test_among_equals_the_first_by_name_is_chosen_whatever_their_order() -> None:
    candidates = [Candidate("b", 0, 4), Candidate("a", 0, 4), Candidate("c", 0, 4)]

    assert choose_replica(candidates) == choose_replica(reversed(candidates)) == "a"


def test_the_preferred_replica_wins_while_it_has_a_free_slot() -> None:
    assert choose_replica([Candidate("a", 0, 4), Candidate("b", 3, 4)], preferred="b") == "b"
    assert choose_replica([Candidate("a", 0, 4), Candidate("b", 4, 4)], preferred="b") == "a"


def test_a_full_replica_or_one_to_avoid_is_not_chosen() -> None:
    assert choose_replica([Candidate("a", 4, 4), Candidate("b", 0, 4)], avoid={"b"}) is None
    assert choose_replica([]) is None


@pytest.mark.spec("ORCH-3055-028")
def test_pools_get_traffic_by_their_weights() -> None:
    weights = [("old", 90), ("new", 10), ("off", 0)]

    hits = Counter(choose_pool(weights, f"job-{number}") for number in range(20_000))

    assert hits["off"] == 0
    assert 0.09 < hits["new"] / 20_000 < 0.11


def test_the_same_key_goes_to_the_same_pool() -> None:
    weights = [("old", 50), ("new", 50)]

    assert len({choose_pool(weights, "session") for _ in range(10)}) == 1


def test_without_any_weight_no_pool_is_chosen() -> None:
    assert choose_pool([("a", 0)], "key") is None
    assert choose_pool([], "key") is None


@pytest.mark.spec("ORCH-3064-052")
def test_what_an_engine_does_for_others_counts_as_load_and_keeps_nobody_waiting() -> None:
    busy, idle = Candidate("a", 0, 4, elsewhere=9), Candidate("b", 1, 4)

    assert choose_replica([busy, idle]) == "b"
    assert choose_replica([busy, Candidate("b", 4, 4)]) == "a"

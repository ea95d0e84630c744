"""Responses that are kept, gone on from, and forgotten."""

from __future__ import annotations

import pytest

from adapter_api import Message
from orchestrator.config import ResponsesSettings
from orchestrator.sessions.responses import KeptResponse, Responses
from tests.orchestrator.fake_clock import FakeClock


def responses(**settings: float) -> Responses:
    return Responses(ResponsesSettings.model_validate(settings), FakeClock())


def said(
    kept: Responses, name: str, before: KeptResponse | None = None, *, text: str = "q", owner: str | None = None
) -> KeptResponse:
    """Keep a response that is done."""
    found = kept.begin(owner, name, [Message(role="user", content=text)], before)
    assert found is not None
    part = {"type": "output_text", "text": f"to {text}"}
    item = {"id": f"msg_{name}_0", "type": "message", "content": [part]}
    kept.end(found, "completed", {"id": name}, [item], Message(role="assistant", content=f"to {text}"))
    return found


def texts(response: KeptResponse) -> list[str]:
    return [message.text for message in response.conversation]


@pytest.mark.spec("ORCH-3075-010")
def test_a_conversation_is_all_that_was_said_before() -> None:
    kept = responses()
    first = said(kept, "a", text="1")
    second = said(kept, "b", first, text="2")
    other = said(kept, "c", first, text="3")

    assert texts(second) == ["1", "to 1", "2", "to 2"]
    assert texts(other) == ["1", "to 1", "3", "to 3"]
    assert (second.first, other.first) == (first, first)


@pytest.mark.spec("ORCH-3075-010")
def test_what_was_said_before_stays_when_it_is_deleted() -> None:
    kept = responses()
    first = said(kept, "a", text="1")
    second = said(kept, "b", first, text="2")

    assert kept.delete(None, "a")
    assert kept.get(None, "a") is None
    assert texts(second)[:2] == ["1", "to 1"]


@pytest.mark.spec("ORCH-3075-011")
def test_what_was_said_is_counted_once_and_until_nothing_needs_it() -> None:
    kept = responses()
    long = "x" * 100_000
    first = said(kept, "a", text=long)
    alone = kept.bytes
    names = [f"b{number}" for number in range(10)]
    for name in names:
        said(kept, name, first)

    assert 200_000 < alone < kept.bytes < 2 * alone
    kept.delete(None, "a")
    assert kept.bytes > alone
    for name in names:
        kept.delete(None, name)
    assert (kept.bytes, len(kept)) == (0, 0)


@pytest.mark.spec("ORCH-3075-011")
def test_a_long_conversation_is_let_go_of_from_its_end() -> None:
    kept = responses()
    last: KeptResponse | None = None
    for number in range(500):
        last = said(kept, str(number), last)
    for number in range(500):
        assert kept.delete(None, str(number))

    assert kept.bytes == 0


@pytest.mark.spec("ORCH-3075-011")
def test_the_least_recently_used_one_goes_first() -> None:
    kept = responses(limit=2)
    for name in ("a", "b"):
        said(kept, name)
    kept.get(None, "a")
    said(kept, "c")

    assert [kept.get(None, name) is not None for name in ("a", "b", "c")] == [True, False, True]


@pytest.mark.spec("ORCH-3075-011")
def test_all_together_take_no_more_than_they_may() -> None:
    kept = responses(max_bytes=500_000)
    for number in range(20):
        said(kept, str(number), text="x" * 50_000)

    assert 0 < kept.bytes <= 500_000
    assert 2 <= len(kept) < 6
    assert kept.get(None, "19") is not None


@pytest.mark.spec("ORCH-3075-011")
def test_a_conversation_that_is_too_large_is_not_kept() -> None:
    kept = responses(conversation_bytes=200_000)
    first = said(kept, "a", text="x" * 50_000)

    assert kept.begin(None, "b", [Message(role="user", content="x" * 200_000)], first) is None
    grows = kept.begin(None, "c", [Message(role="user", content="q")], first)
    assert grows is not None
    assert not kept.end(grows, "completed", {}, [], Message(role="assistant", content="x" * 200_000))
    assert [kept.get(None, name) is not None for name in ("a", "b", "c")] == [True, False, False]


@pytest.mark.spec("ORCH-3075-011")
def test_one_is_forgotten_when_it_was_not_used_for_its_time() -> None:
    clock = FakeClock()
    kept = Responses(ResponsesSettings(ttl_s=10), clock)
    for name in ("a", "b"):
        said(kept, name)
    clock.advance(6)
    kept.get(None, "a")
    clock.advance(6)

    assert (kept.get(None, "a") is not None, kept.get(None, "b")) == (True, None)
    clock.advance(10)
    kept.forget_old()
    assert (len(kept), kept.bytes) == (0, 0)


@pytest.mark.spec("ORCH-3075-012")
def test_owners_never_meet() -> None:
    kept = responses()
    said(kept, "a", owner="alice")

    assert (kept.get("bob", "a"), kept.get(None, "a"), kept.delete("bob", "a")) == (None, None, False)
    assert kept.get("alice", "a") is not None


@pytest.mark.spec("ORCH-3075-010")
@pytest.mark.parametrize("name", ["msg_a_1", "msg_b_0", "msg_a_", "a", "", "msg_a_" + "9" * 5000, "msg_a_²"])
def test_an_item_is_found_by_its_own_id_only(name: str) -> None:
    found = said(responses(), "a")

    assert found.item("msg_a_0") is not None
    assert found.item(name) is None


@pytest.mark.spec("ORCH-3075-011")
def test_one_that_was_pushed_out_while_it_ran_ends_without_a_trace() -> None:
    kept = responses(limit=1)
    running = kept.begin(None, "a", [Message(role="user", content="q")], None)
    said(kept, "b")

    assert running is not None
    assert not kept.end(running, "completed", {}, [], None)
    assert running.ended.is_set()
    assert kept.get(None, "a") is None
    kept.delete(None, "b")
    assert kept.bytes == 0


@pytest.mark.spec("ORCH-3075-010", "ORCH-3075-011")
def test_one_that_takes_the_id_of_what_it_goes_on_from_takes_nothing_else_of_it() -> None:
    kept = responses()
    first = said(kept, "a", text="1")
    second = said(kept, "b", first, text="2")
    third = said(kept, "a", second, text="3")

    assert kept.get(None, "a") is third
    assert texts(third) == ["1", "to 1", "2", "to 2", "3", "to 3"]
    kept.delete(None, "b")
    kept.delete(None, "a")
    assert (len(kept), kept.bytes) == (0, 0)


@pytest.mark.spec("ORCH-3075-010", "ORCH-3075-011")
def test_what_is_forgotten_while_a_request_goes_on_from_it_is_counted_again() -> None:
    kept = responses()
    first = said(kept, "a", text="1")
    second = said(kept, "b", first, text="2")
    kept.delete(None, "a")
    size = kept.bytes
    kept.delete(None, "b")
    assert kept.bytes == 0

    third = said(kept, "c", second, text="3")

    assert kept.bytes > size
    assert texts(third)[:4] == ["1", "to 1", "2", "to 2"]
    kept.delete(None, "c")
    assert (len(kept), kept.bytes) == (0, 0)

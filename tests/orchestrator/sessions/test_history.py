"""Conversations that are remembered, and forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapter_api import End, FinishReason, Message, Reasoning, TaskRequest, TokenEvent, ToolCall, ToolCallDelta
from orchestrator.config import HistorySettings
from orchestrator.sessions.conversation import Conversations
from orchestrator.sessions.history import Histories, Turn
from tests.orchestrator.fake_clock import FakeClock


def turn(asked: str, answer: str) -> Turn:
    return Turn((Message(role="user", content=asked),), answer)


def texts(histories: Histories, owner: str | None = None) -> list[str]:
    return [t.answer for t in histories.turns(owner, "s")]


@pytest.mark.spec("ORCH-3055-037")
def test_the_last_turns_are_kept() -> None:
    histories = Histories(HistorySettings(turns=2), FakeClock())
    for number in range(3):
        histories.add(None, "s", turn("q", str(number)))

    assert texts(histories) == ["1", "2"]


@pytest.mark.spec("ORCH-3055-037")
def test_a_session_is_forgotten_after_its_time() -> None:
    clock = FakeClock()
    histories = Histories(HistorySettings(ttl_s=10), clock)
    histories.add(None, "s", turn("q", "a"))

    clock.advance(10)

    assert texts(histories) == []
    assert len(histories) == 0


@pytest.mark.spec("ORCH-3055-037")
def test_a_conversation_whose_time_is_up_does_not_stay_in_memory() -> None:
    clock = FakeClock()
    histories = Histories(HistorySettings(ttl_s=10), clock)
    histories.add(None, "old", turn("q", "a"))

    clock.advance(10)
    histories.add(None, "new", turn("q", "a"))

    assert len(histories) == 1


def test_sessions_are_bounded_and_the_least_recently_used_goes() -> None:
    histories = Histories(HistorySettings(limit=1), FakeClock())
    histories.add(None, "s", turn("q", "a"))
    histories.add(None, "other", turn("q", "a"))

    assert texts(histories) == []


@pytest.mark.spec("ORCH-3055-037")
def test_owners_never_see_each_others_sessions() -> None:
    histories = Histories(HistorySettings(), FakeClock())
    histories.add("alice", "s", turn("q", "alice's"))
    histories.add("bob", "s", turn("q", "bob's"))

    assert (texts(histories, "alice"), texts(histories, "bob")) == (["alice's"], ["bob's"])
    assert histories.clear("alice", "s") == 1
    assert texts(histories, "bob") == ["bob's"]


def test_the_system_message_of_the_question_leads_and_older_ones_are_left_out() -> None:
    histories = Histories(HistorySettings(), FakeClock())
    system = Message(role="system", content="old rules")
    histories.add(None, "s", Turn((system, Message(role="user", content="first")), "answer"))
    asked = (Message(role="system", content="new rules"), Message(role="user", content="second"))

    found = histories.messages_with(None, "s", asked)

    assert [(m.role, m.text) for m in found] == [
        ("system", "new rules"), ("user", "first"), ("assistant", "answer"), ("user", "second"),
    ]  # fmt: skip


def test_a_turn_does_not_show_what_was_said() -> None:
    assert "secret" not in repr(turn("secret question", "secret answer"))


def sized(histories: Histories, session: str, size: int) -> None:
    histories.add(None, session, turn("q" * size, "a"))


@pytest.mark.spec("ORCH-3064-036")
def test_a_session_keeps_no_more_bytes_than_it_may() -> None:
    histories = Histories(HistorySettings(session_bytes=20_000), FakeClock())
    for answer in ("1", "2", "3"):
        histories.add(None, "s", turn("q" * 6000, answer))

    assert texts(histories) == ["2", "3"]
    assert histories.bytes <= 20_000


@pytest.mark.spec("ORCH-3064-036")
def test_a_turn_that_is_too_large_by_itself_leaves_nothing_behind() -> None:
    histories = Histories(HistorySettings(session_bytes=10_000), FakeClock())
    histories.add(None, "s", turn("q", "a"))
    histories.add(None, "s", turn("q", "a" * 10_000))

    assert texts(histories) == []
    assert histories.bytes == 0


@pytest.mark.spec("ORCH-3064-036")
@pytest.mark.parametrize("letter", ["q", "é", "日", "🙂"])
def test_all_sessions_together_keep_no_more_bytes_than_they_may(letter: str) -> None:
    histories = Histories(HistorySettings(max_bytes=100_000, session_bytes=50_000), FakeClock())
    for number in range(20):
        histories.add(None, str(number), turn(letter * 5000, "a"))

    assert 0 < histories.bytes <= 100_000
    assert histories.turns(None, "19")
    assert not histories.turns(None, "0")


@pytest.mark.spec("ORCH-3064-036")
def test_what_is_forgotten_is_counted_out() -> None:
    clock = FakeClock()
    histories = Histories(HistorySettings(ttl_s=10, turns=1), clock)
    for _ in range(3):
        sized(histories, "s", 1000)
    sized(histories, "other", 1000)
    histories.clear(None, "other")
    clock.advance(10)
    histories.forget_old()

    assert (len(histories), histories.bytes) == (0, 0)


CALL = ToolCall(id="a", name="time", arguments='{"zone": "UTC"}')


@pytest.mark.spec("ORCH-3059-070")
def test_a_turn_of_tool_calls_goes_before_their_results_as_it_was() -> None:
    histories = Histories(HistorySettings(), FakeClock())
    histories.add(None, "s", Turn((Message(role="user", content="time?"),), "", (CALL,)))

    found = histories.messages_with(None, "s", (Message(role="tool", content="noon", tool_call_id="a"),))

    assert [message.role for message in found] == ["user", "assistant", "tool"]
    assert (found[1].content, found[1].tool_calls) == (None, (CALL,))


@pytest.mark.spec("ORCH-3059-070")
def test_the_results_of_tool_calls_are_forgotten_with_the_calls() -> None:
    histories = Histories(HistorySettings(turns=3), FakeClock())
    result = Message(role="tool", content="noon", tool_call_id="a")
    histories.add(None, "s", Turn((Message(role="user", content="time?"),), "", (CALL,)))
    histories.add(None, "s", Turn((result,), "", (CALL,)))
    histories.add(None, "s", Turn((result,), "noon"))
    histories.add(None, "s", turn("next", "answer"))

    found = histories.messages_with(None, "s", (Message(role="user", content="now"),))

    assert [message.role for message in found] == ["user", "assistant", "user"]
    assert histories.bytes > 0


@pytest.mark.spec("ORCH-3064-036")
def test_tool_calls_count_among_a_sessions_bytes() -> None:
    histories = Histories(HistorySettings(session_bytes=20_000), FakeClock())
    large = ToolCall(id="a", name="time", arguments="x" * 15_000)
    for number in range(2):
        histories.add(None, "s", Turn((Message(role="user", content="q"),), str(number), (large,)))

    assert texts(histories) == ["1"]
    assert histories.bytes <= 20_000


@pytest.mark.anyio
@pytest.mark.parametrize(
    "reason, arguments, kept", [("tool_calls", "{", 2), ("length", "{", 1), ("length", "{}", 2), ("stop", "", 2)]
)
async def test_a_tool_call_that_a_limit_cut_off_is_not_remembered(
    reason: FinishReason, arguments: str, kept: int
) -> None:
    histories = Histories(HistorySettings(), FakeClock())
    conversations = Conversations(histories)
    asked = TaskRequest(model="m", messages=(Message(role="user", content="q"),), session_id="s")

    async def batches() -> AsyncIterator[list[TokenEvent]]:
        yield [Reasoning(0, "hm"), ToolCallDelta(0, "a", "time", "{}"), ToolCallDelta(1, "b", "date")]
        yield [ToolCallDelta(1, arguments=arguments), End(finish_reason=reason)]

    passed = [event async for batch in conversations.remembering(batches(), asked, None) for event in batch]

    assert len(passed) == 5
    (found,) = histories.turns(None, "s")
    assert (found.answer, len(found.tool_calls)) == ("", kept)

"""What a session remembers, and who speaks in it."""

from __future__ import annotations

import gc

import anyio
import pytest

from adapter_api import DeadlineExceeded, EngineFailed, InvalidRequest
from adapter_clients import ChatClient
from tests.adapter_clients.chat.engines import mock, plain, said

pytestmark = pytest.mark.anyio


@pytest.mark.spec("ORCH-3070-003")
async def test_the_last_turns_go_before_a_question_and_the_system_prompt_before_them() -> None:
    adapter = mock(reply="yes")
    async with ChatClient(adapter, max_history=2, system="Be brief.") as client:
        for number in range(4):
            await client.chat(f"question {number}")

    assert plain(adapter.submitted[3].messages) == [
        ("system", "Be brief."),
        ("user", "question 1"), ("assistant", "yes"),
        ("user", "question 2"), ("assistant", "yes"),
        ("user", "question 3"),
    ]  # fmt: skip
    assert [text for role, text in said(client) if role == "user"] == ["question 2", "question 3"]


@pytest.mark.spec("ORCH-3070-003")
async def test_five_turns_are_remembered_unless_told_otherwise_and_none_if_told_so() -> None:
    async with ChatClient(mock()) as usual, ChatClient(mock(), max_history=0) as forgetful:
        for number in range(7):
            await usual.chat(f"question {number}")
            await forgetful.chat(f"question {number}")

    assert len(usual.history()) == 10
    assert forgetful.history() == ()


@pytest.mark.spec("ORCH-3070-003")
async def test_a_history_is_bounded_in_bytes_too_and_its_newest_turn_is_kept() -> None:
    async with ChatClient(mock(), max_history_bytes=20_000) as client:
        for letter in "abcd":
            await client.chat(letter * 8_000)
        assert [text[0] for role, text in said(client) if role == "user"] == ["d"]
        await client.chat("e")
        assert [text[0] for role, text in said(client) if role == "user"] == ["d", "e"]


@pytest.mark.spec("ORCH-3070-003")
async def test_sessions_know_nothing_of_each_other_and_are_forgotten_by_themselves() -> None:
    adapter = mock()
    async with ChatClient(adapter, max_sessions=2) as client:
        await client.chat("mine", session="a")
        await client.chat("yours", session="b")
        assert said(client, "a")[0] == ("user", "mine")
        assert plain(adapter.submitted[1].messages) == [("user", "yours")]
        client.clear_history("a")
        assert client.history("a") == ()
        assert said(client, "b")[0] == ("user", "yours")
        await client.chat("ours", session="c")

        assert client.history("a") == ()
        assert client.history("b")
        await client.chat("theirs", session="d")
    assert client.history("b") == ()


@pytest.mark.spec("ORCH-3070-004")
async def test_what_failed_was_left_or_cancelled_is_not_remembered() -> None:
    adapter = mock()
    async with ChatClient(adapter) as client:
        await client.chat("first")
        before = client.history()
        adapter.fail_next("engine_failed")
        with pytest.raises(EngineFailed):
            await client.chat("fails")
        async for _ in client.chat("left by break"):
            break
        async with client.chat("left by closing") as stream:
            await anext(stream)
        with anyio.CancelScope() as scope:
            async for _ in client.chat("cancelled by its reader"):
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        stream = client.chat("cancelled in the engine")
        await anext(stream)
        receipt = await stream.cancel()
        answer = await stream

        assert client.history() == before
        assert receipt.found
        assert (answer.finish_reason, answer.cancelled) == ("cancelled", True)
        assert (await client.chat("goes on")).text == "one two three"
    assert plain(adapter.submitted[-1].messages) == [*plain(before), ("user", "goes on")]
    assert not adapter.running


@pytest.mark.spec("ORCH-3070-004")
async def test_an_answer_that_fails_in_the_middle_is_not_remembered() -> None:
    async with ChatClient(mock(fail="connection_lost", fail_after=2, fail_times=1)) as client:
        with pytest.raises(Exception, match="injected"):
            await client.chat("fails")
        assert client.history() == ()
        await client.chat("works")

    assert said(client) == [("user", "works"), ("assistant", "one two three")]


@pytest.mark.spec("ORCH-3070-005")
async def test_questions_of_one_session_are_asked_one_after_another_and_of_others_at_once() -> None:
    adapter = mock(delay_s=0.001)
    running: list[int] = []

    async with ChatClient(adapter) as client:

        async def ask(text: str, session: str) -> None:
            async for _ in client.chat(text, session=session):
                running.append(len(adapter.running))

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(ask, f"question {number}", "one")
        assert max(running) == 1
        assert [text for role, text in said(client, "one") if role == "user"] == [f"question {n}" for n in range(5)]
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(ask, f"question {number}", f"session {number}")

    assert max(running) == 5


@pytest.mark.spec("ORCH-3070-005")
async def test_whoever_waits_in_a_session_and_goes_leaves_the_others_their_turn() -> None:
    adapter = mock()
    async with ChatClient(adapter) as client:
        first = client.chat("first")
        await anext(first)
        answers: list[str] = []

        async def ask(text: str, scope: anyio.CancelScope) -> None:
            with scope:
                answers.append((await client.chat(text)).text)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                scopes = [anyio.CancelScope() for _ in range(3)]
                for number, scope in enumerate(scopes):
                    group.start_soon(ask, f"waiting {number}", scope)
                await anyio.wait_all_tasks_blocked()
                scopes[0].cancel()
                await first
                scopes[1].cancel()

        assert answers == ["one two three"]
        assert [text for role, text in said(client) if role == "user"] == ["first", "waiting 2"]


@pytest.mark.spec("ORCH-3070-005")
async def test_a_question_does_not_wait_for_ever_for_an_answer_that_nobody_reads() -> None:
    async with ChatClient(mock()) as client:
        left = client.chat("left unread")
        await anext(left)

        with pytest.raises(InvalidRequest, match=r"not read to its end: .* `async with`"):
            await client.chat("asked by the same")
        late: list[DeadlineExceeded] = []
        async with anyio.create_task_group() as group:
            group.start_soon(_ask_too_soon, client, late)
        assert [(error.stage, "did not end within 0.05 s" in error.message) for error in late] == [("queue", True)]
        assert (await client.chat("elsewhere", session="other")).text == "one two three"
        assert (await left).text == "one two three"
        assert (await client.chat("afterwards")).text == "one two three"


async def _ask_too_soon(client: ChatClient, late: list[DeadlineExceeded]) -> None:
    try:
        await client.chat("asked by another", timeout_s=0.05)
    except DeadlineExceeded as error:
        late.append(error)


@pytest.mark.spec("ORCH-3070-005")
async def test_an_answer_that_nobody_holds_any_more_holds_nobody_up() -> None:
    adapter = mock()
    async with ChatClient(adapter) as client:
        stream = client.chat("dropped")
        await anext(stream)
        del stream
        gc.collect()

        with anyio.fail_after(10):
            assert (await client.chat("next")).text == "one two three"
    assert said(client) == [("user", "next"), ("assistant", "one two three")]


@pytest.mark.spec("ORCH-3070-006")
async def test_a_history_that_was_cleared_does_not_get_the_answer_that_was_under_way() -> None:
    async with ChatClient(mock()) as client:
        await client.chat("before")
        stream = client.chat("under way")
        await anext(stream)
        client.clear_history()
        await stream

        assert client.history() == ()
        await client.chat("after")
    assert said(client) == [("user", "after"), ("assistant", "one two three")]

"""The chat for scripts."""

from __future__ import annotations

import asyncio

import pytest

from adapter_api import AdapterClosed, InvalidRequest
from adapter_clients import ChatAnswer, SyncChatClient
from tests.adapter_clients.chat.engines import mock


@pytest.mark.spec("ORCH-3070-015")
def test_a_script_asks_reads_and_remembers() -> None:
    with SyncChatClient(mock(), max_history=1) as client:
        answer = client.chat("Hello")
        pieces = list(client.stream("And?"))
        batch = client.chat_batch(["a", "", "b"])
        history = client.history()
        client.clear_history()

        assert client.check_health()
        assert client.history() == ()
    assert (answer.text, pieces) == ("one two three", ["one", " two", " three"])
    assert [type(each) for each in batch] == [ChatAnswer, InvalidRequest, ChatAnswer]
    assert [message.text for message in history] == ["And?", "one two three"]


@pytest.mark.spec("ORCH-3070-015")
def test_leaving_a_loop_cancels_the_answer_and_the_next_question_is_answered() -> None:
    adapter = mock(hang_after=2)
    with SyncChatClient(adapter) as client:
        for piece in client.stream("Hello"):
            if piece == " two":
                break
        assert not adapter.running
        assert client.history() == ()


@pytest.mark.spec("ORCH-3070-015")
def test_errors_are_those_of_the_contract() -> None:
    client = SyncChatClient(mock())
    with pytest.raises(AdapterClosed, match="in `with`"):
        client.chat("Hello")
    with client, pytest.raises(InvalidRequest, match="empty"):
        client.chat("")


@pytest.mark.anyio
@pytest.mark.spec("ORCH-3070-015")
async def test_in_a_running_event_loop_it_says_so_before_it_holds_that_up() -> None:
    def ask() -> str:
        with SyncChatClient(mock()) as client:
            return client.chat("Hello").text

    with pytest.raises(InvalidRequest, match="take ChatClient and `await`"):
        ask()
    assert await asyncio.to_thread(ask) == "one two three"

    client = await asyncio.to_thread(SyncChatClient(mock()).__enter__)
    try:
        for wait in (lambda: client.chat("Hello"), client.history, lambda: next(iter(client.stream("Hello")))):
            with pytest.raises(InvalidRequest, match="event loop runs in this thread"):
                wait()
        assert await asyncio.to_thread(lambda: list(client.stream("Hello"))) == ["one", " two", " three"]
    finally:
        await asyncio.to_thread(client.close)

"""Questions and answers: what an answer carries, how it is read, what goes to the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from adapter_api import (
    AdapterClosed,
    AdapterError,
    ConnectFailed,
    DeadlineExceeded,
    End,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    Reasoning,
    Started,
    Token,
    load_plugins,
)
from adapter_api.testing import MockAdapter
from adapter_clients import ChatAnswer, ChatClient, ChatQuestion
from tests.adapter_clients.chat.engines import mock, plain, said

pytestmark = pytest.mark.anyio


@pytest.mark.spec("ORCH-3070-001")
async def test_an_answer_carries_text_time_tokens_and_why_it_ended() -> None:
    async with ChatClient(mock(reasoning="let me see")) as client:
        answer = await client.chat("Hello there")

    assert (answer.text, answer.reasoning, str(answer)) == ("one two three", "let me see", "one two three")
    assert (answer.finish_reason, answer.model, answer.engine) == ("stop", "mock", "mock")
    assert (answer.tokens_in, answer.tokens_out) == (2, 6)
    assert answer.time_to_first_token_s is not None
    assert 0 < answer.time_to_first_token_s <= answer.time_s


@pytest.mark.spec("ORCH-3070-001")
async def test_an_answer_that_was_cut_says_so() -> None:
    async with ChatClient(mock()) as client:
        answer = await client.chat("Hello", max_tokens=2)

    assert (answer.text, answer.finish_reason) == ("one two", "length")


@pytest.mark.spec("ORCH-3070-002")
async def test_a_streamed_answer_comes_in_pieces_and_is_whole_at_the_end() -> None:
    async with ChatClient(mock()) as client:
        stream = client.chat("Hello")
        pieces = [piece async for piece in stream]

    assert pieces == ["one", " two", " three"]
    assert stream.answer is not None
    assert stream.answer.text == "one two three"


@pytest.mark.spec("ORCH-3070-002")
async def test_a_piece_is_there_before_the_answer_goes_on() -> None:
    async with ChatClient(mock(hang_after=1)) as client, client.chat("Hello") as stream:
        with anyio.fail_after(10):
            first = await anext(stream)

    assert first == "one"


@pytest.mark.spec("ORCH-3070-002")
async def test_the_events_of_an_answer_are_those_of_the_contract() -> None:
    async with ChatClient(mock(reasoning="hm")) as client:
        kinds = [type(event) async for event in client.chat("Hello").events()]

    assert kinds[:3] == [Started, Reasoning, Token]
    assert kinds[-1] is End


async def test_an_answer_can_be_awaited_after_it_was_read() -> None:
    async with ChatClient(mock()) as client:
        stream = client.chat("Hello")
        first = await anext(stream)
        answer = await stream

        assert await stream is answer
    assert (first, answer.text) == ("one", "one two three")


async def test_what_the_settings_and_the_caller_ask_for_goes_to_the_engine() -> None:
    adapter = mock()
    async with ChatClient(adapter, system="Be brief.", max_new_tokens=7, temperature=0.5, top_p=0.9) as client:
        await client.chat("Hello", seed=3, stop="!", parameters={"other.x": 1})
        await client.chat("Hello", session="me", system="Be long.", max_new_tokens=9, temperature=0)

    first, second = adapter.submitted
    assert plain(first.messages) == [("system", "Be brief."), ("user", "Hello")]
    assert (first.max_tokens, first.temperature, first.top_p, first.seed, first.stop) == (7, 0.5, 0.9, 3, ("!",))
    assert plain(second.messages) == [("system", "Be long."), ("user", "Hello")]
    assert (second.max_tokens, second.temperature, second.session_id) == (9, 0, "me")


async def test_no_more_tokens_are_asked_for_than_are_set_and_none_where_the_engine_shall_choose() -> None:
    adapter = mock()
    async with ChatClient(adapter) as usual, ChatClient(adapter, max_new_tokens=0) as open_ended:
        await usual.chat("Hello")
        await open_ended.chat("Hello")

    assert [task.max_tokens for task in adapter.submitted] == [512, None]


@pytest.mark.spec("ORCH-3070-009")
@pytest.mark.parametrize(
    "asked, fault",
    [
        ({}, "the question is empty"),
        ({"text": 7}, "a question is a text, not int"),
        ({"text": "x\ud800"}, "half a character"),
        ({"text": "hi", "images": "cat.jpg"}, "put a single one in brackets"),
        ({"text": "hi", "images": ["x"] * 17}, "17 images in one question; there may be 16"),
        ({"text": "hi", "colour": "red"}, "colour: unknown field"),
        ({"text": "hi", "temperature": -1}, "temperature"),
        ({"text": "hi", "messages": []}, "messages cannot be given to a chat"),
        ({"text": "hi", "session": ""}, "a `session` is a name"),
        ({"text": "hi", "tools": {"name": "x"}}, "put a single one in brackets"),
        ({"text": "hi", "tools": [{"nme": "x"}]}, "name: Field required"),
        ({"text": "hi", "tool_results": {"a": "b"}}, "by themselves"),
        ({"tool_results": {"a": "b"}}, "no tool call waits"),
    ],
)
async def test_a_bad_question_is_refused_before_anything_is_sent(asked: dict[str, object], fault: str) -> None:
    adapter = mock()
    async with ChatClient(adapter) as client:
        with pytest.raises(InvalidRequest, match=fault):
            await client.chat(**asked)  # type: ignore[arg-type]

        assert not adapter.submitted
        assert (await client.chat("Hello")).text == "one two three"


@pytest.mark.spec("ORCH-3070-010")
async def test_what_goes_wrong_is_raised_as_what_it_is() -> None:
    adapter = mock()
    async with ChatClient(adapter) as client:
        adapter.fail_next("overloaded", retry_after_s=2.5)
        with pytest.raises(Overloaded, match="injected") as overloaded:
            await client.chat("Hello")
        adapter.fail_next("deadline_exceeded")
        with pytest.raises(DeadlineExceeded) as late:
            await client.chat("Hello")
        answer = await client.chat("Hello")

    assert (overloaded.value.retryable, overloaded.value.retry_after_s) == (True, 2.5)
    assert late.value.stage == "first_token"
    assert answer.text == "one two three"


@pytest.mark.spec("ORCH-3070-010")
async def test_an_answer_that_fails_in_the_middle_raises_after_its_pieces() -> None:
    async with ChatClient(mock(fail="engine_failed", fail_after=2)) as client:
        stream = client.chat("Hello")
        pieces = [await anext(stream), await anext(stream)]
        with pytest.raises(EngineFailed):
            await anext(stream)
        with pytest.raises(EngineFailed):
            await stream

    assert pieces == ["one", " two"]
    assert stream.answer is None


@pytest.mark.spec("ORCH-3070-010")
async def test_a_server_that_is_not_there_is_said_before_anything_is_sent_and_the_client_goes_on(
    unused_tcp_port: int,
) -> None:
    plugin = load_plugins().adapter("triton")
    adapter = plugin.create({"url": f"grpc://127.0.0.1:{unused_tcp_port}", "max_retries": 0})
    async with ChatClient(adapter, model="llava") as client:
        for _ in range(2):
            with pytest.raises(AdapterError) as refused:
                await client.chat("Hello")
            assert isinstance(refused.value, ConnectFailed), refused.value
        health = await client.check_health()

    assert not health
    assert health.detail
    assert client.history() == ()


async def test_a_model_is_found_where_there_is_one_and_asked_for_where_there_are_several() -> None:
    async with ChatClient(mock(models=("a", "b"))) as client:
        with pytest.raises(InvalidRequest, match=r"which model\? The engine has a, b: set `model`"):
            await client.chat("Hello")
        with pytest.raises(ModelNotFound, match="no model 'c'"):
            await client.chat("Hello", model="c")
        assert (await client.chat("Hello", model="b")).model == "b"


async def test_an_adapter_that_was_open_stays_open_and_one_that_was_not_is_closed() -> None:
    async with mock() as open_before:
        async with ChatClient(open_before) as client:
            await client.chat("Hello")
        assert (await open_before.health()).live
    ours = mock()
    async with ChatClient(ours):
        pass
    assert not (await ours.health()).live
    with pytest.raises(AdapterClosed):
        await ChatClient(ours).chat("Hello")


async def test_health_says_whether_the_model_takes_questions() -> None:
    async with ChatClient(mock(), model="mock") as well, ChatClient(mock(state="starting")) as starting:
        assert await well.check_health()
        unwell = await starting.check_health()

    assert (bool(unwell), unwell.detail) == (False, "the engine is starting")


class Counting(MockAdapter):
    most = 0

    async def _submit(self, task):  # type: ignore[no-untyped-def]
        async for event in super()._submit(task):
            self.most = max(self.most, len(self.running))
            yield event


@pytest.mark.spec("ORCH-3070-007")
async def test_a_batch_is_answered_in_order_with_an_error_per_question_and_so_many_at_once() -> None:
    adapter = Counting(mock().settings.model_copy(update={"delay_s": 0.001, "echo": "echo", "models": ()}))
    questions = [f"question {number}" for number in range(50)]
    mixed: list[str | ChatQuestion] = [*questions[:10], "", ChatQuestion("last", system="Be odd."), *questions[10:]]
    async with ChatClient(adapter, max_concurrency=4, system="Be even.") as client:
        found = await client.chat_batch(mixed, max_tokens=100)

        assert client.history() == ()
    answers = [each.text if isinstance(each, ChatAnswer) else each for each in found]
    assert all(f'"question {n}"' in str(answers[n if n < 10 else n + 2]) for n in range(50))
    assert isinstance(answers[10], InvalidRequest)
    assert "Be odd." in str(answers[11])
    assert "Be even." in str(answers[12])
    assert adapter.most == 4


@pytest.mark.spec("ORCH-3070-007")
async def test_a_batch_of_nothing_is_nothing_and_a_text_is_no_batch() -> None:
    async with ChatClient(mock()) as client:
        assert await client.chat_batch([]) == []
        for wrong in ("Hello", b"Hello", None, 7, {"Hello": 1}):
            with pytest.raises(InvalidRequest, match="in brackets"):
                await client.chat_batch(wrong)  # type: ignore[arg-type]


async def test_what_a_callers_own_iterator_raises_comes_as_it_was_raised() -> None:
    def questions() -> Iterator[str]:
        yield "Hello"
        raise LookupError("mine")

    async with ChatClient(mock()) as client:
        with pytest.raises(LookupError, match="mine"):
            await client.chat_batch(questions())
        assert (await client.chat("Hello")).text == "one two three"


@pytest.mark.spec("ORCH-3070-009")
@pytest.mark.parametrize(
    "options, fault",
    [
        ({"model": ""}, "a `model` is named by a text"),
        ({"model": 5}, "a `model` is named by a text"),
        ({"max_tokens": 3, "max_new_tokens": 4}, "give one of them"),
        ({"temperature": float("nan")}, "temperature"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"session": ""}, "`session` is a name"),
        ({"nonsense": 1}, "nonsense: unknown field"),
        ({"messages": []}, "which makes it itself"),
        ({"tools": [1]}, "tools"),
        ({"images": 5}, "in brackets"),
    ],
)
async def test_a_wrong_option_is_named_before_anything_is_sent(options: dict[str, Any], fault: str) -> None:
    adapter = mock()
    async with ChatClient(adapter) as client:
        with pytest.raises(InvalidRequest, match=fault):
            await client.chat("Hello", **options)

        assert not adapter.submitted
        assert client.history() == ()
        assert (await client.chat("Hello", images=None, max_new_tokens=0)).text == "one two three"
    assert adapter.submitted[0].max_tokens is None


def test_a_question_that_is_none_can_still_be_shown() -> None:
    assert repr(ChatQuestion(5)) == "ChatQuestion(<? characters, 0 images>)"  # type: ignore[arg-type]


async def test_a_conversation_becomes_one_prompt_for_a_model_that_takes_only_text() -> None:
    from adapter_api import Capability
    from tests.adapter_clients.chat.engines import Seeing

    class TextOnly(Seeing):
        async def _props(self):  # type: ignore[no-untyped-def]
            import msgspec

            props = await super()._props()
            texts = tuple(
                msgspec.structs.replace(model, capabilities=model.capabilities - {Capability.MESSAGES})
                for model in props.models
            )
            return msgspec.structs.replace(props, models=texts)

    adapter = TextOnly()
    async with ChatClient(adapter) as client:
        await client.chat("Hello")
        await client.chat("And?")

    assert adapter.submitted[1].prompt == "user: Hello\n\nassistant: a cat\n\nuser: And?\n\nassistant:"
    assert said(client)[-1] == ("assistant", "a cat")

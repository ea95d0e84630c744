"""Engines, and proxies before them, that misbehave: one typed error each, and the adapter is of use afterwards."""

from __future__ import annotations

import asyncio
import json

import anyio
import pytest

from adapter_api import End, TaskRequest, Token
from openai_adapter import OpenAIAdapter
from openai_adapter.testing import FakeOpenAI
from openai_adapter.testing.http import Asked, Connection
from tests.openai_adapter.running import end_of, error_of, events_of, run, says, settings_for, text_of, thought_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def frame(text: str | None = None, finish: str | None = None, **top: object) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "text": text, "finish_reason": finish}
    del choice["text" if text is None else "delta"]
    return data({"choices": [choice], **top})


def data(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    "pieces, code",
    [
        pytest.param([frame("a")], "stream_incomplete", id="an end without a finish reason"),
        pytest.param([], "stream_incomplete", id="nothing at all"),
        pytest.param([frame("a"), b"data: {\"choices\": [{\"in"], "stream_incomplete", id="cut inside a chunk"),
        pytest.param([frame("a"), b"data: nonsense\n\n"], "protocol_violation", id="no JSON"),
        pytest.param([frame("a"), b'data: {"choices": [{"logprobs": NaN}]}\n\n'], "protocol_violation", id="NaN"),
        pytest.param([frame("a"), b"data: [1, 2]\n\n"], "protocol_violation", id="a list"),
        pytest.param([frame("a"), b"data: " + b"[" * 100_000 + b"\n\n"], "protocol_violation", id="nested without end"),
        pytest.param([b"<html>Bad gateway</html>\n\n" * 3], "protocol_violation", id="a page as a stream"),
        pytest.param([frame("a"), data({"error": {"message": "boom"}})], "engine_failed", id="an object with error"),
        pytest.param([frame("a"), data({"error": "boom"})], "engine_failed", id="a text as error"),
        pytest.param([frame("a"), data({"message": "boom", "code": 500})], "engine_failed", id="message and code"),
        pytest.param([frame("a"), b"event: error\ndata: boom\n\n"], "engine_failed", id="an event named error"),
        pytest.param([frame("a"), frame(None, "abort")], "engine_failed", id="the engine gave up"),
        pytest.param([data({"error": {"message": "slow down", "code": 429}})], "overloaded", id="busy, in the stream"),
    ],
)  # fmt: skip
@pytest.mark.spec("ORCH-3067-002", "ORCH-3067-016")
async def test_a_bad_stream_is_one_typed_error_and_the_next_task_works(
    engine: FakeOpenAI, pieces: list[bytes], code: str
) -> None:
    engine.stream_next(*pieces)
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        events = await events_of(adapter)
        again = await events_of(adapter)

    assert error_of(events).code == code
    assert text_of(events) == ("a" if len(pieces) > 1 and pieces[0] == frame("a") else text_of(events))
    assert isinstance(again[-1], End)


PAGE = b"Content-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
BAD_ANSWERS = {
    "a page": (b"HTTP/1.1 200 OK\r\n" + PAGE, "protocol_violation"),
    "a gateway's page": (b"HTTP/1.1 502 Bad\r\n" + PAGE, "not_ready"),
    "a gateway that waited": (b"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n", "deadline_exceeded"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "protocol_violation"),
    "redirected elsewhere": (
        b"HTTP/1.1 302 Found\r\nLocation: http://other.invalid/\r\nContent-Length: 0\r\n\r\n", "protocol_violation",
    ),
    "nothing in it": (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n", "protocol_violation",
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n", "protocol_violation"),
    "headers that never end": (b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 20_000, "protocol_violation"),
    "gzip that lies": (STREAM + b"Content-Encoding: gzip\r\n\r\nno gzip", "protocol_violation"),
    "a length that lies": (STREAM + b"Content-Length: 9999\r\n\r\n" + frame("a"), "stream_incomplete"),
}  # fmt: skip


@pytest.mark.parametrize("answer, code", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
@pytest.mark.spec("ORCH-3067-016")
async def test_a_bad_answer_is_one_typed_error_and_the_next_task_works(
    engine: FakeOpenAI, answer: bytes, code: str
) -> None:
    engine.send_next(answer)
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        error = error_of(await events_of(adapter))
        again = await events_of(adapter)

    assert error.code == code
    assert isinstance(again[-1], End)


@pytest.mark.spec("ORCH-3067-016")
async def test_an_event_without_end_is_given_up_when_it_is_too_large(engine: FakeOpenAI) -> None:
    engine.stream_next(b"data: ", *[b"x" * 65536] * 40)

    error = error_of(await run(engine, {"max_message_bytes": 1 << 20}))

    assert error.code == "protocol_violation"
    assert "larger than 1048576 bytes" in error.message


@pytest.mark.spec("ORCH-3067-001")
async def test_a_stream_cut_at_every_byte_is_read_as_it_was_meant(engine: FakeOpenAI) -> None:
    whole = (
        frame("naïve 🙂 ") + frame("boats", "stop") + data({"choices": [], "usage": {"completion_tokens": 2}}) + DONE
    )
    engine.stream_next(*(whole[at : at + 1] for at in range(len(whole))))

    events = await run(engine)

    assert text_of(events) == "naïve 🙂 boats"
    assert end_of(events).usage.tokens_out == 2


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.spec("ORCH-3067-002")
async def test_a_stream_ends_by_its_mark_or_by_a_reason_and_a_clean_end(engine: FakeOpenAI, done: bool) -> None:
    engine.stream_next(frame("a", "stop"), *([DONE] if done else []))

    assert end_of(await run(engine)).finish_reason == "stop"


@pytest.mark.spec("ORCH-3067-002")
async def test_an_end_that_gives_no_reason_is_told_as_unknown(engine: FakeOpenAI) -> None:
    engine.stream_next(frame("a"), DONE)

    assert end_of(await run(engine)).finish_reason == "unknown"


@pytest.mark.spec("ORCH-3067-002")
async def test_a_connection_that_breaks_after_the_reason_takes_nothing_away(engine: FakeOpenAI) -> None:
    engine.stream_next(frame("a", "stop"), end=False)

    assert end_of(await run(engine)).finish_reason == "stop"


@pytest.mark.spec("ORCH-3067-004")
async def test_usage_adds_up_over_chunks_of_its_own_and_replaces_what_was_counted_on_the_way(
    engine: FakeOpenAI,
) -> None:
    engine.stream_next(
        frame("a", usage={"prompt_tokens": 3, "completion_tokens": 1}),
        data({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        frame("b", "stop"),
        data({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 5}}),
        DONE,
    )

    usage = end_of(await run(engine)).usage

    assert (usage.tokens_in, usage.tokens_out) == (3, 7)


@pytest.mark.spec("ORCH-3067-001")
async def test_what_is_null_or_missing_or_not_the_first_choice_says_nothing(engine: FakeOpenAI) -> None:
    engine.stream_next(
        b": a comment\n\n",
        data({"choices": [{"delta": {"role": "assistant", "content": None}}]}),
        data({"choices": [{"index": 1, "delta": {"content": "another"}, "finish_reason": "length"}]}),
        data({"choices": [{"delta": None}], "usage": None}),
        data({"choices": []}),
        frame("", None),
        frame("a", "stop"),
    )

    events = await run(engine, messages=says("hi"))

    assert text_of(events) == "a"
    assert end_of(events).finish_reason == "stop"


@pytest.mark.spec("ORCH-3067-006")
async def test_thinking_that_comes_under_both_names_comes_once_and_in_parts_as_well(engine: FakeOpenAI) -> None:
    both = {"reasoning": "hm", "reasoning_content": "hm", "content": None}
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "ah"}]}, {"type": "text", "text": "yes"}]
    engine.stream_next(
        data({"choices": [{"delta": both}]}),
        data({"choices": [{"delta": {"content": parts}, "finish_reason": "stop"}]}),
    )

    events = await run(engine, messages=says("hi"))

    assert (thought_of(events), text_of(events)) == ("hmah", "yes")


@pytest.mark.spec("ORCH-3067-001")
async def test_an_engine_that_does_not_stream_is_read_as_well(engine: FakeOpenAI) -> None:
    message = {"role": "assistant", "content": "whole", "reasoning_content": "hm"}
    body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
    engine.fail_next(200, json.dumps(body).encode())

    events = await run(engine, messages=says("hi"))

    assert (thought_of(events), text_of(events)) == ("hm", "whole")
    assert end_of(events).usage.tokens_out == 1


@pytest.mark.spec("ORCH-3067-008")
async def test_tokens_that_an_engine_joins_come_apart_where_they_make_its_text(engine: FakeOpenAI) -> None:
    bytes_of = "🙂".encode()
    entries = [
        {"token": "ab", "logprob": -1.0, "bytes": None, "top_logprobs": [{"token": "ab", "logprob": -1.0}]},
        {"token": "?", "logprob": -2.0, "bytes": list(bytes_of[:2]), "top_logprobs": []},
        {"token": "?", "logprob": -3.0, "bytes": list(bytes_of[2:]), "top_logprobs": []},
    ]
    foreign = [{"token": "x", "logprob": -1.0}, {"token": "y", "logprob": -2.0}]
    engine.stream_next(
        data({"choices": [{"delta": {"content": "ab🙂"}, "logprobs": {"content": entries}}]}),
        data({"choices": [{"delta": {"content": "zz"}, "logprobs": {"content": foreign}, "finish_reason": "stop"}]}),
    )

    events = await run(engine, messages=says("hi"), logprobs=1)
    tokens = [(event.text, event.logprob, len(event.alternatives)) for event in events if isinstance(event, Token)]

    assert tokens == [("ab", -1.0, 1), ("", -2.0, 0), ("🙂", -3.0, 0), ("zz", -3.0, 0)]


@pytest.mark.spec("ORCH-3067-017")
async def test_a_refusal_tells_how_long_to_wait(engine: FakeOpenAI) -> None:
    engine.fail_next(429, b"", headers={"Retry-After": "3"})
    busy = error_of(await run(engine))
    engine.fail_next(503, b"Loading model", headers={"retry-after-ms": "1500"})
    loading = error_of(await run(engine))

    assert (busy.code, busy.retry_after_s) == ("overloaded", 3.0)
    assert (loading.code, loading.retry_after_s) == ("not_ready", 1.5)


@pytest.mark.spec("ORCH-3067-018")
async def test_a_field_that_an_engine_refuses_and_the_answer_can_do_without_is_left_out_from_then_on(
    engine: FakeOpenAI,
) -> None:
    engine.fail_next(400, b'{"detail": "stream_options is not supported"}')
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        end_of(await events_of(adapter))
        end_of(await events_of(adapter))

    assert ["stream_options" in json.loads(asked.body) for asked in engine.requests] == [True, False, False]


@pytest.mark.spec("ORCH-3067-016")
async def test_an_engine_is_held_back_while_nobody_reads(engine: FakeOpenAI) -> None:
    written: list[int] = []

    async def flood(asked: Asked, connection: Connection) -> None:
        await connection.begin_stream()
        while True:
            await connection.chunk(frame("x" * 65536))
            written.append(65536)

    engine.then(flood)
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        async with adapter.submit(TaskRequest(model="tiny", prompt="go on", max_tokens=4000)) as stream:
            async for event in stream:
                if isinstance(event, Token):
                    break
            before = -1
            while before != len(written):  # it fills what there is, and stops
                before = len(written)
                await anyio.sleep(0.1)

    assert sum(written) < 16 * 1024 * 1024


@pytest.mark.spec("ORCH-3067-019")
async def test_silence_is_noticed_also_through_comments_that_keep_the_connection_open(engine: FakeOpenAI) -> None:
    async def ping(asked: Asked, connection: Connection) -> None:
        await connection.begin_stream()
        while True:
            await connection.chunk(b": ping\n\n")
            await asyncio.sleep(0.02)

    engine.then(ping)

    error = error_of(await run(engine, {"first_token_timeout_s": 0.2, "inter_token_timeout_s": 0.2}))

    assert (error.code, error.stage) == ("deadline_exceeded", "first_token")

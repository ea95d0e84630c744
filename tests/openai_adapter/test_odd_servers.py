"""Servers that nobody named, each with a habit of its own: what they mean is read, and nothing of it is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai_adapter.testing import VLLM, FakeOpenAI
from openai_adapter.wire.chunks import Function, ToolCallPiece
from openai_adapter.wire.tool_calls import ToolCalls
from tests.openai_adapter.running import calls_of, end_of, error_of, run, says, text_of, thought_of
from tests.openai_adapter.test_bad_streams import DONE, data, frame

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def delta(**fields: Any) -> bytes:
    """Return the frame of a delta that tells the role each time."""
    return data({"id": "changes", "choices": [{"index": 0, "delta": {"role": "assistant", **fields}}]})


def ended(reason: Any = "eos", **top: Any) -> bytes:
    return data({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **top})


def piece(arguments: Any = None, name: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calls(*pieces: dict[str, Any]) -> bytes:
    return delta(content=None, tool_calls=list(pieces))


HELLO = delta(content="Hel"), delta(content="lo")
STREAMS = {
    "comments between": [HELLO[0], b": keep-alive\n\n", HELLO[1], ended(), DONE],
    "more after the mark": [*HELLO, ended(), DONE, delta(content=" again")],
    "a mark with blanks": [*HELLO, ended(), b"data:  [DONE]\n\n"],
    "reason in upper case": [*HELLO, ended("STOP"), DONE],
    "reason as an object": [*HELLO, ended({"type": "eos"}), DONE],
    "reason null as a word": [data({"choices": [{"delta": {"content": "Hello"}, "finish_reason": "null"}]}), ended()],
    "content in parts": [delta(content=[{"type": "text", "text": "Hel"}]), delta(content=["lo"]), ended(), DONE],
    "content as one part": [delta(content={"type": "text", "text": "Hello"}), ended(), DONE],
    "no blank line between": [b"".join(each[:-1] for each in (*HELLO, ended(), DONE)) + b"\n"],
    "no blank line at all": [each[:-1] for each in (*HELLO, ended(), DONE)],
    "no blank line at the end": [*HELLO, ended()[:-1]],
    "no line end at the end": [*HELLO, ended()[:-2]],
    "no error, it says": [
        data({"choices": [{"delta": {"content": "Hello"}}], "error": False}), ended(error={}), DONE,
    ],
    "counts in a list": [data({"choices": [{"delta": {"content": "Hello"}}], "usage": []}), ended(), DONE],
    "figures of odd types": [
        data({"choices": [{"delta": {"content": "Hello", "refusal": {}}, "logprobs": [1]}], "code": 0.5, "type": []}),
        ended(system_fingerprint=12), DONE,
    ],
    "choices from one": [
        data({"choices": [{"index": 1, "delta": {"content": "Hello"}}]}),
        data({"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}),
    ],
    "places as texts": [data({"choices": [{"index": "0", "delta": {"content": "Hello"}}]}), ended(), DONE],
    "events of other names": [b"event: ping\ndata: ping\n\n", *HELLO, b"event: ping\ndata: {}\n\n", ended(), DONE],
}  # fmt: skip


@pytest.mark.parametrize("pieces", STREAMS.values(), ids=STREAMS)
@pytest.mark.spec("ORCH-3067-001", "ORCH-3067-023")
async def test_a_stream_is_read_whatever_its_habits(engine: FakeOpenAI, pieces: list[bytes]) -> None:
    engine.stream_next(*pieces)

    events = await run(engine, messages=says("hi"))

    assert text_of(events) == "Hello"
    assert end_of(events).finish_reason == "stop"


@pytest.mark.spec("ORCH-3067-004", "ORCH-3067-023")
async def test_counts_that_are_texts_are_read(engine: FakeOpenAI) -> None:
    engine.stream_next(*HELLO, ended(usage={"prompt_tokens": "3", "completion_tokens": 2.0}), DONE)

    usage = end_of(await run(engine, messages=says("hi"))).usage

    assert (usage.tokens_in, usage.tokens_out) == (3, 2)


@pytest.mark.spec("ORCH-3067-006")
async def test_thinking_is_read_where_one_of_its_names_is_empty(engine: FakeOpenAI) -> None:
    both = delta(reasoning="hm", reasoning_content="hm"), delta(reasoning="!", reasoning_content="")
    engine.stream_next(*both, *HELLO, ended(), DONE)

    events = await run(engine, messages=says("hi"))

    assert (thought_of(events), text_of(events)) == ("hm!", "Hello")


F, G = ("f", '{"a": 1}'), ("g", '{"b": "}"}')
CALLS = {
    "arguments as an object": [calls(piece({"a": 1}, "f", index=0)), calls(piece({"b": "}"}, "g", index=1))],
    "an id that changes": [
        calls(piece('{"a"', "f", index=0, id="c1")), calls(piece(": 1}", index=0, id="c2")),
        calls(piece(G[1], "g", index=1, id="c3")),
    ],
    "ids that are numbers": [calls(piece(F[1], "f", index=0, id=7)), calls(piece(G[1], "g", index=0, id=8))],
    "neither place nor id": [calls(piece(F[1], "f")), calls(piece(G[1], "g"))],
    "neither, in one chunk": [calls(piece(F[1], "f"), piece(G[1], "g"))],
    "neither, in many pieces": [calls(piece("", "f")), calls(piece(F[1])), calls(piece("", "g", id="x"), piece(G[1]))],
    "one place for all": [calls(piece(F[1], "f", index=0, id="")), calls(piece(G[1], "g", index=0, id=""))],
    "interleaved": [
        calls(piece('{"a"', "f", index=0, id="c1")), calls(piece('{"b": "', "g", index=1, id="c2")),
        calls(piece(": ", index=0)), calls(piece('}"', index=1)), calls(piece("1}", index=0), piece("}", index=1)),
    ],
    "more of nothing": [
        calls(piece(F[1], "f", index=0)), calls(piece(G[1], "g", index=1)), calls(piece("", index=0, name="f")),
    ],
}  # fmt: skip


@pytest.mark.parametrize("pieces", CALLS.values(), ids=CALLS)
@pytest.mark.spec("ORCH-3067-007", "ORCH-3067-024")
async def test_two_calls_are_told_apart_and_whole(engine: FakeOpenAI, pieces: list[bytes]) -> None:
    engine.stream_next(*pieces, ended("tool_calls"), DONE)

    events = await run(engine, messages=says("hi"), tools=[{"name": "f"}, {"name": "g"}])

    assert calls_of(events) == [F, G]
    assert end_of(events).finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([piece(F[1], "f", index=0), piece(G[1], "g", index=1), piece("more", index=0)], id="goes back"),
        pytest.param([piece(F[1], index=0)], id="no name"),
    ],
)
@pytest.mark.spec("ORCH-3067-024")
async def test_calls_that_cannot_be_told_are_an_error_and_no_loss(
    engine: FakeOpenAI, pieces: list[dict[str, Any]]
) -> None:
    engine.stream_next(*(calls(each) for each in pieces), ended("tool_calls"), DONE)

    error = error_of(await run(engine, messages=says("hi"), tools=[{"name": "f"}]))

    assert error.code == "protocol_violation"


@pytest.mark.spec("ORCH-3067-024")
def test_arguments_cut_anywhere_and_interleaved_come_out_in_order() -> None:
    made = ('{"a": "\\\\\\"}{", "b": [1, {}]}', "[]{")
    for cut in range(1, len(made[0])):
        taken = ToolCalls()
        events = taken.take(
            ToolCallPiece(index=place, function=Function(name, arguments))
            for place, name, arguments in (
                (0, "f", made[0][:cut]), (1, "g", made[1]), (0, None, made[0][cut:]), (1, None, "?"),
            )
        )  # fmt: skip
        events += taken.finish()

        assert [event.call for event in events] == sorted(event.call for event in events)
        told = ["".join(event.arguments for event in events if event.call == number) for number in (0, 1)]
        assert told == [made[0], made[1] + "?"]


WHOLE = json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "eos"}]}).encode()


@pytest.mark.parametrize("kind", ["text/plain", "", "text/event-stream", "application/octet-stream"])
@pytest.mark.spec("ORCH-3067-001", "ORCH-3067-025")
async def test_a_whole_answer_is_one_whatever_it_is_called(engine: FakeOpenAI, kind: str) -> None:
    engine.fail_next(200, b" \r\n" + WHOLE, kind=kind)

    assert text_of(await run(engine, messages=says("hi"))) == "Hello"


@pytest.mark.parametrize("kind", ["application/json", "text/html", ""])
@pytest.mark.spec("ORCH-3067-001", "ORCH-3067-025")
async def test_a_stream_is_one_whatever_it_is_called(engine: FakeOpenAI, kind: str) -> None:
    engine.fail_next(200, b"".join((*HELLO, ended(), DONE)), kind=kind)

    assert text_of(await run(engine, messages=says("hi"))) == "Hello"


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json", ""])
@pytest.mark.parametrize(
    "body, code",
    [
        (b"<!doctype html><title>Sign in</title>", "protocol_violation"),
        (b'{"error": {"message": "no credit", "code": "insufficient_quota"}}', "permission_denied"),
        (b'{"success": false, "msg": "no credit", "code": 402}', "permission_denied"),
        (b'{"detail": "too many requests", "code": 429}', "overloaded"),
    ],
)
@pytest.mark.spec("ORCH-3067-016", "ORCH-3067-025")
async def test_an_error_with_status_200_is_one_whatever_it_is_called(
    engine: FakeOpenAI, kind: str, body: bytes, code: str
) -> None:
    engine.fail_next(200, body, kind=kind)

    assert error_of(await run(engine, messages=says("hi"))).code == code


@pytest.mark.spec("ORCH-3067-005")
async def test_nothing_is_called_after_a_stop_string(engine: FakeOpenAI) -> None:
    engine.stream_next(*HELLO, calls(piece(F[1], "f", index=0)), ended("tool_calls"), DONE)

    events = await run(engine, messages=says("hi"), stop=["ell"], tools=[{"name": "f"}])

    assert (text_of(events), calls_of(events), end_of(events).finish_reason) == ("H", [], "stop")


@pytest.mark.spec("ORCH-3067-010", "ORCH-3067-017")
async def test_a_full_server_that_calls_itself_broken_is_known_by_its_words(engine: FakeOpenAI) -> None:
    engine.fail_next(500, b'{"detail": "Exceeds maximum queue size"}', headers={"Retry-After": "3"})

    error = error_of(await run(engine))

    assert (error.code, error.retry_after_s) == ("overloaded", 3.0)


@pytest.mark.parametrize("engine", [VLLM], indirect=True)
@pytest.mark.spec("ORCH-3077-006")
async def test_a_stop_string_stays_where_it_is_asked_for_and_ends_nothing_before_its_time(engine: FakeOpenAI) -> None:
    engine.stream_next(frame("do "), frame("it ###", "stop"), DONE)
    wanted = await run(engine, stop=["###"], parameters={"openai.include_stop_str_in_output": True})
    engine.stream_next(frame("a ### "), frame("b c", "stop"), DONE)
    early = await run(engine, stop=["###"], min_tokens=5)
    engine.stream_next(frame("a ### "), frame("b c", "stop"), DONE)
    plain = await run(engine, stop=["###"])

    assert [text_of(wanted), text_of(early), text_of(plain)] == ["do it ###", "a ### b c", "a "]


@pytest.mark.parametrize("engine", [VLLM], indirect=True)
@pytest.mark.spec("ORCH-3077-009")
@pytest.mark.parametrize("told, heard", [("###", "###"), (7, 7), (None, None), (True, None), ([1], None)])
async def test_what_ended_an_answer_is_told_where_the_engine_says_it(
    engine: FakeOpenAI, told: object, heard: object
) -> None:
    last = {"choices": [{"index": 0, "text": "a", "finish_reason": "stop", "stop_reason": told}]}
    engine.stream_next(data(last), DONE)

    assert end_of(await run(engine)).stop_reason == heard


@pytest.mark.parametrize("engine", [VLLM], indirect=True)
@pytest.mark.spec("ORCH-3073-012")
async def test_the_field_that_an_engine_finds_at_fault_is_in_the_message(engine: FakeOpenAI) -> None:
    body = {"error": {"message": "Input should be less", "param": "body.top_p", "code": 400}}
    engine.fail_next(400, json.dumps(body).encode())

    assert error_of(await run(engine)).message.endswith("Input should be less (parameter=top_p)")

"""Thinking and tool calls in a stream: what the guard lets through, what it adds, and what it refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_api import (
    End,
    Error,
    Message,
    Metrics,
    ProtocolViolation,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    TokenStream,
    Tool,
    ToolCallDelta,
    UnknownEvent,
    decode_event,
    encode_event,
    event_type,
    gather_tool_calls,
)
from adapter_api.grammar import StreamGrammar
from adapter_api.testing import (
    MockAdapter,
    MockSettings,
    MockToolCall,
    collect,
    find_violation,
    reasoning_of,
    text_of,
)

pytestmark = pytest.mark.anyio

STARTED = Started(job_id="j", engine="e", model="m")
END = End(finish_reason="tool_calls")


def stream_of(*items: Any) -> TokenStream:
    async def source() -> AsyncIterator[Any]:
        for item in items:
            yield item

    return TokenStream(source(), job_id="j")


async def test_reasoning_tokens_and_tool_calls_pass_in_any_order() -> None:
    said = [
        Reasoning(0, "hm", token_id=7, logprob=-0.5),
        Token(0, "I ask."),
        ToolCallDelta(0, "a", "time", '{"zo'),
        Reasoning(1, "so"),
        ToolCallDelta(0, arguments='ne": 1}'),
        Token(1, " And"),
        Metrics(tokens_out=3),
        ToolCallDelta(1, "b", "date"),
    ]

    stream = stream_of(STARTED, *said, END)
    events = await collect(stream)

    assert events[:-1] == [STARTED, *said]
    assert (stream.repairs, stream.tokens, stream.outputs) == (0, 2, 7)


@pytest.mark.spec("ORCH-3059-055", "ORCH-3059-056", "ORCH-3059-057")
@pytest.mark.parametrize(
    "said, reason",
    [
        ([Reasoning(1, "a")], "reasoning index 1 where 0 was due"),
        ([Token(0, "a"), Reasoning(1, "b")], "reasoning index 1 where 0 was due"),
        ([ToolCallDelta(1, "a", "f")], "a piece of tool call 1 where 0 was due"),
        (
            [ToolCallDelta(0, "a", "f"), ToolCallDelta(1, "b", "g"), ToolCallDelta(0, arguments="x")],
            "a piece of tool call 0 where 1 or 2 was due",
        ),
        ([ToolCallDelta(0, "a")], "tool call 0 begins without its name"),
        ([ToolCallDelta(0, "a", "")], "tool call 0 begins without its name"),
        ([ToolCallDelta(0, "a", "f"), ToolCallDelta(0, name="g")], "a later piece of tool call 0 has another name"),
        ([ToolCallDelta(0, "a", "f"), ToolCallDelta(0, "b")], "a later piece of tool call 0 has another id"),
        ([ToolCallDelta(0, None, "f"), ToolCallDelta(0, "b")], "a later piece of tool call 0 has another id"),
        ([ToolCallDelta(0, "a", "f" * 513)], "a tool_call whose name has 513 characters, of 512"),
        ([ToolCallDelta(0, ["a"], "f")], "a tool_call whose id is list and not a string"),  # type: ignore[arg-type]
        ([ToolCallDelta(0, "a", "f", None)], "a tool_call whose arguments are missing and not a string"),  # type: ignore[arg-type]
        ([ToolCallDelta(0, "a", "f", "\ud83d")], "a tool_call whose text is no Unicode"),
        ([ToolCallDelta(False, "a", "f")], "a tool_call whose call is False and not a count"),
        ([Reasoning(0, 5)], "a reasoning whose text is int and not a string"),  # type: ignore[arg-type]
        ([Reasoning(0, "a", logprob=float("nan"))], "a reasoning whose logprob is not finite (nan) and not a finite"),
    ],
)
async def test_what_the_grammar_or_the_schema_forbids_ends_the_stream(said: list[TokenEvent], reason: str) -> None:
    stream = stream_of(STARTED, *said, END)

    events = await collect(stream)

    error = events[-1]
    assert isinstance(error, Error)
    assert error.code == "protocol_violation"
    assert reason in error.message
    assert events[:-1] == [STARTED, *said[:-1]] or stream.outputs == len(events) - 2
    assert stream.repairs == 1


@pytest.mark.parametrize("said", [Reasoning(0, "a"), ToolCallDelta(0, "a", "f")])
async def test_output_before_started_is_refused(said: TokenEvent) -> None:
    events = await collect(stream_of(said, STARTED, END))

    assert [event_type(event) for event in events] == ["error"]
    assert isinstance(events[0], Error)
    assert events[0].message == f"{event_type(said)} before started"


@pytest.mark.spec("ORCH-3059-058")
@pytest.mark.parametrize("given", [[None, None, None], ["", "", ""], ["same", "same", "same"], ["a", None, "b"]])
async def test_every_tool_call_gets_an_id_of_its_own(given: list[str | None]) -> None:
    stream = stream_of(STARTED, *(ToolCallDelta(at, id, "f", "{}") for at, id in enumerate(given)), END)

    calls = gather_tool_calls(await collect(stream))

    assert len({call.id for call in calls}) == 3
    assert all(call.id for call in calls)
    kept = [call.id for call, id in zip(calls, given, strict=True) if id and given.count(id) == 1]
    assert kept == [id for id in given if id and given.count(id) == 1]
    assert stream.repairs == 0


@pytest.mark.spec("ORCH-3059-059")
@pytest.mark.parametrize("again", [ToolCallDelta(0, "a", "f", "{}"), ToolCallDelta(0, "", "", "{}")])
async def test_a_name_and_an_id_that_an_engine_repeats_are_told_once(again: ToolCallDelta) -> None:
    stream = stream_of(STARTED, ToolCallDelta(0, "a", "f"), again, END)

    events = await collect(stream)

    assert events[1:3] == [ToolCallDelta(0, "a", "f"), ToolCallDelta(0, arguments="{}")]
    assert stream.repairs == 0


async def test_an_answer_makes_a_bounded_number_of_tool_calls() -> None:
    grammar = StreamGrammar()
    grammar.admit(STARTED)
    for at in range(4096):
        grammar.admit(ToolCallDelta(at, str(at), "f"))

    with pytest.raises(ProtocolViolation, match="more than 4096 tool calls"):
        grammar.admit(ToolCallDelta(4096, "x", "f"))


@pytest.mark.spec("ORCH-3059-063")
@pytest.mark.parametrize("first", [Token(0, "a"), Reasoning(0, "a"), ToolCallDelta(0, "a", "f")])
async def test_the_time_to_the_first_token_is_that_of_the_first_output_of_any_kind(first: TokenEvent) -> None:
    end = (await collect(stream_of(STARTED, first, END)))[-1]

    assert isinstance(end, End)
    assert end.timings is not None
    assert end.timings.time_to_first_token_ms is not None
    assert end.timings.decode_time_ms is not None


async def test_after_an_acknowledged_cancel_no_output_of_any_kind_is_read() -> None:
    hanging = anyio.Event()

    async def source() -> AsyncIterator[Any]:
        yield [STARTED, Reasoning(0, "a"), ToolCallDelta(0, "a", "f"), Token(0, "b")]
        hanging.set()
        await anyio.sleep_forever()

    stream = TokenStream(source(), job_id="j")
    first = await anext(stream)
    await stream.stop(End(finish_reason="cancelled"))

    assert stream.quiet
    rest = [event async for event in stream]
    assert first == STARTED
    assert [event_type(event) for event in rest] == ["end"]


@st.composite
def outputs(draw: st.DrawFn) -> list[TokenEvent]:
    """A lawful interleaving of the three kinds of output, with metrics in between."""
    counts: Counter[str] = Counter()
    events: list[TokenEvent] = []
    for kind in draw(st.lists(st.sampled_from(["token", "reasoning", "call", "more", "metrics"]), max_size=30)):
        text = draw(st.text(st.characters(codec="utf-8"), max_size=5))
        if kind == "token":
            events.append(Token(counts[kind], text))
        elif kind == "reasoning":
            events.append(Reasoning(counts[kind], text, draw(st.integers(0, 3))))
        elif kind == "call":
            events.append(ToolCallDelta(counts[kind], f"id{counts[kind]}", "f", text))
        elif kind == "more" and counts["call"]:
            events.append(ToolCallDelta(counts["call"] - 1, arguments=text))
        elif kind == "metrics":
            events.append(Metrics(tokens_out=len(events)))
        counts[kind] += 1
    return events


@st.composite
def cut(draw: st.DrawFn, events: list[TokenEvent]) -> list[TokenEvent | list[TokenEvent]]:
    """The events one by one and in lists, as an adapter may yield them."""
    items: list[TokenEvent | list[TokenEvent]] = []
    rest = events
    while rest:
        size = draw(st.integers(0, 4))
        items.append(rest[0] if size == 0 else rest[:size])
        rest = rest[max(1, size) :]
    return items


@pytest.mark.spec("ORCH-3059-036")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_lawful_interleaving_passes_whole_however_it_is_cut(data: st.DataObject) -> None:
    said = [STARTED, *data.draw(outputs())]
    items = data.draw(cut([*said, END]))

    async def read() -> None:
        stream, batched = stream_of(*items), stream_of(*items)
        events = await collect(stream)
        in_batches = [event async for batch in batched.batches() for event in batch]
        assert events[:-1] == in_batches[:-1] == said
        assert find_violation(events) is None
        assert (stream.repairs, stream.outputs) == (0, sum(event_type(e) not in ("started", "metrics") for e in said))
        assert [decode_event(encode_event(event)) for event in events] == events
        pieces = [event for event in said if isinstance(event, ToolCallDelta)]
        arguments = [
            "".join(piece.arguments for piece in pieces if piece.call == call)
            for call in range(sum(piece.name is not None for piece in pieces))
        ]
        assert [call.arguments for call in gather_tool_calls(events)] == arguments

    anyio.run(read, backend=data.draw(st.sampled_from(["asyncio", "trio"])))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_interleaving_with_one_event_taken_out_or_doubled_is_lawful_or_ends_at_that_event(
    data: st.DataObject,
) -> None:
    said = [STARTED, *data.draw(outputs())]
    at = data.draw(st.integers(0, len(said) - 1))
    broken = said[:at] + said[at + 1 :] if data.draw(st.booleans()) else said[: at + 1] + said[at:]
    items = data.draw(cut([*broken, END]))

    async def read() -> None:
        stream = stream_of(*items)
        events = await collect(stream)
        assert find_violation(events) is None
        lawful = find_violation([*broken, END]) is None
        assert (stream.repairs == 0) == lawful
        assert isinstance(events[-1], End if lawful else Error)

    anyio.run(read)


@pytest.mark.spec("ORCH-3059-064")
def test_an_event_of_a_later_version_is_told_apart_from_what_is_no_event() -> None:
    with pytest.raises(UnknownEvent, match="type is 'picture'"):
        decode_event(b'{"type":"picture","data":"x"}')
    for line in (b'{"type":"token"}', b'{"type":7}', b"[]", b"{", b"\xff", '{"type":"token","index":0,"text":1}'):
        with pytest.raises(ValueError, match="not a TokenEvent") as caught:
            decode_event(line)
        assert not isinstance(caught.value, UnknownEvent)


@pytest.mark.spec("ORCH-3059-064")
def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    assert decode_event(b'{"type":"token","index":0,"text":"a","colour":"red"}') == Token(0, "a")


def test_the_gathered_calls_are_a_message_of_the_next_turn() -> None:
    events: list[TokenEvent] = [
        ToolCallDelta(0, "a", "f", '{"x":'),
        Token(0, "text"),
        ToolCallDelta(0, arguments="1}"),
        ToolCallDelta(1, "b", "g"),
    ]

    message = Message(role="assistant", content=None, tool_calls=gather_tool_calls(events))

    assert [call.model_dump() for call in message.tool_calls] == [
        {"id": "a", "name": "f", "arguments": '{"x":1}'},
        {"id": "b", "name": "g", "arguments": ""},
    ]


CALLS = (MockToolCall(name="time", arguments='{"zone": "UTC"}', id="t1"), MockToolCall(name="date"))
TOOLS = (Tool(name="time"), Tool(name="date"))


@pytest.mark.parametrize("size", [None, 1, 8])
async def test_the_mock_thinks_and_calls_tools_as_it_is_told(size: int | None) -> None:
    mock = MockSettings(reasoning="let me see", tool_calls=CALLS, arguments_cut=size, default_max_tokens=99)
    async with MockAdapter(mock) as adapter:
        events = await collect(adapter.submit(TaskRequest(model="mock", prompt="what time", tools=TOOLS)))

    assert find_violation(events) is None
    assert reasoning_of(events) == "let me see"
    assert text_of(events) == ""
    calls = gather_tool_calls(events)
    assert [(call.name, call.arguments) for call in calls] == [("time", '{"zone": "UTC"}'), ("date", "{}")]
    assert calls[0].id == "t1"
    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "tool_calls"


async def test_the_mock_answers_a_tools_result_in_words() -> None:
    async with MockAdapter(MockSettings(reply="noon", tool_calls=CALLS)) as adapter:
        ask = Message(role="user", content="time?")
        first = await collect(adapter.submit(TaskRequest(model="mock", messages=(ask,), tools=TOOLS)))
        calls = gather_tool_calls(first)
        messages = (
            ask,
            Message(role="assistant", content=None, tool_calls=calls),
            *(Message(role="tool", content="12:00", tool_call_id=call.id) for call in calls),
        )
        second = await collect(adapter.submit(TaskRequest(model="mock", messages=messages, tools=TOOLS)))

    assert text_of(second) == "noon"
    assert gather_tool_calls(second) == ()


async def test_a_mock_that_is_cut_off_in_the_middle_of_a_call_says_so() -> None:
    mock = MockSettings(reasoning="let me see", tool_calls=CALLS)
    async with MockAdapter(mock) as adapter:
        task = TaskRequest(model="mock", prompt="what time", tools=TOOLS, max_tokens=5)
        events = await collect(adapter.submit(task))
        thinking = await collect(adapter.submit(TaskRequest(model="mock", prompt="p", max_tokens=2)))

    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "length"
    assert [call.arguments for call in gather_tool_calls(events)] == ['{"zone":']
    assert (reasoning_of(thinking), text_of(thinking)) == ("let me", "")


@pytest.mark.parametrize("after", [1, 3, 5])
async def test_the_mocks_faults_come_after_so_many_outputs_of_any_kind(after: int) -> None:
    mock = MockSettings(reasoning="let me see", tool_calls=CALLS, fail="engine_failed", fail_after=after)
    async with MockAdapter(mock) as adapter:
        stream = adapter.submit(TaskRequest(model="mock", prompt="what time", tools=TOOLS))
        events = await collect(stream)

    assert isinstance(events[-1], Error)
    assert stream.outputs == after == len(events) - 2


async def test_a_mock_declares_tools_and_reasoning_when_it_has_them() -> None:
    task = TaskRequest(model="mock", prompt="p", tools=TOOLS)
    async with MockAdapter() as plain, MockAdapter(MockSettings(reasoning="a", tool_calls=CALLS)) as able:
        events = await collect(plain.submit(task))
        assert isinstance(events[-1], Error)
        assert events[-1].code == "unsupported"
        assert {"tools", "reasoning"} & (await plain.props()).capabilities == set()
        assert {"tools", "reasoning"} <= (await able.props()).capabilities


@pytest.mark.parametrize(
    "events",
    [
        [ToolCallDelta(0, arguments="}")],
        [ToolCallDelta(1, "b", "date")],
        [ToolCallDelta(0, "a", "time"), ToolCallDelta(1, arguments="{}")],
    ],
)
def test_calls_of_which_the_beginning_is_missing_are_refused(events: list[TokenEvent]) -> None:
    with pytest.raises(ValueError, match="gather all events of the answer"):
        gather_tool_calls(events)

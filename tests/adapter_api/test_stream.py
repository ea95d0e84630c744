"""The stream guard: whatever an adapter does, its reader sees a lawful stream."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from adapter_api import (
    DeadlineExceeded,
    End,
    Error,
    Metrics,
    NotReady,
    Started,
    Token,
    TokenEvent,
    TokenStream,
    Unsupported,
    Usage,
)
from adapter_api import stream as stream_module
from adapter_api.testing import collect, find_violation, text_of

pytestmark = pytest.mark.anyio

STARTED = Started(job_id="j", engine="e", model="m")
END = End(finish_reason="stop", usage=Usage(tokens_in=1, tokens_out=2))


def stream_of(*items: Any, **options: Any) -> TokenStream:
    """A stream whose adapter yields `items`, and raises those that are exceptions."""

    async def source() -> AsyncIterator[Any]:
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item

    return TokenStream(source(), job_id="j", **options)


class Hanging:
    """An adapter that says `items` and then hangs; knows whether its `finally` ran."""

    def __init__(self, *items: TokenEvent) -> None:
        self.items = items
        self.released = anyio.Event()
        self.hanging = anyio.Event()

    async def source(self) -> AsyncIterator[TokenEvent]:
        try:
            for item in self.items:
                yield item
            self.hanging.set()
            await anyio.sleep_forever()
        finally:
            self.released.set()


async def test_a_lawful_stream_passes_untouched() -> None:
    metrics = Metrics(tokens_out=1)
    stream = stream_of(STARTED, Token(0, "a"), metrics, Token(1, "b"), END)

    events = await collect(stream)

    assert events[:4] == [STARTED, Token(0, "a"), metrics, Token(1, "b")]
    assert isinstance(events[4], End)
    assert (events[4].finish_reason, events[4].usage) == ("stop", END.usage)
    assert stream.repairs == 0


async def test_lists_of_events_are_flattened_for_iteration() -> None:
    stream = stream_of([STARTED, Token(0, "a"), Token(1, "b")], [Token(2, "c"), END])

    events = await collect(stream)

    assert text_of(events) == "abc"
    assert find_violation(events) is None
    assert stream.repairs == 0


@pytest.mark.spec("ORCH-3059-036")
async def test_batches_hand_out_together_what_was_ready_together() -> None:
    stream = stream_of(STARTED, [Token(0, "a"), Token(1, "b")], Token(2, "c"), END)

    batches = [batch async for batch in stream.batches()]

    assert [len(batch) for batch in batches] == [1, 2, 1, 1]


async def test_a_batch_stays_as_it_is_though_its_adapter_uses_the_list_again() -> None:
    async def reusing() -> AsyncIterator[TokenEvent | list[TokenEvent]]:
        said: list[TokenEvent] = [STARTED, Token(0, "a")]
        yield said
        for number in (1, 2):
            said[:] = [Token(number, str(number))]
            yield said
        said[:] = [END]
        yield said

    batches = [batch async for batch in TokenStream(reusing(), job_id="j").batches()]

    assert text_of([event for batch in batches for event in batch]) == "a12"


@pytest.mark.spec("ORCH-3059-031")
@pytest.mark.parametrize("late", [Token(2, "c"), [Token(2, "c")], [Token(1, "b"), Token(1, "b")], [None]])
async def test_batches_are_looked_at_as_single_events_are(late: Any) -> None:
    stream = stream_of(STARTED, Token(0, "a"), late)

    events = [event async for batch in stream.batches() for event in batch]

    assert isinstance(events[-1], Error)
    assert events[-1].code == "protocol_violation"
    assert stream.repairs == 1


async def test_leaving_the_batches_leaves_the_stream_as_it_is() -> None:
    stream = stream_of(STARTED, Token(0, "a"), Token(1, "b"), END)
    first: list[list[TokenEvent]] = []

    async with aclosing(cast(Any, stream.batches())) as batches:
        async for batch in batches:
            first.append(batch)
            if len(first) == 2:
                break
    rest = [event async for batch in stream.batches() for event in batch]

    assert first == [[STARTED], [Token(0, "a")]]
    assert text_of(rest) == "b"
    assert isinstance(rest[-1], End)


async def test_of_what_another_guard_let_through_only_the_order_is_looked_at() -> None:
    odd = Metrics(tokens_in=-1)

    looked_at = await collect(stream_of(STARTED, odd, END))
    let_through = await collect(stream_of(STARTED, odd, END, sound=True))
    disordered = await collect(stream_of(STARTED, Token(1, "b"), END, sound=True))

    assert [type(event) for event in looked_at] == [Started, Error]
    assert let_through[:2] == [STARTED, odd]
    assert isinstance(let_through[-1], End)
    assert [type(event) for event in disordered] == [Started, Error]


@pytest.mark.spec("ORCH-3059-038")
async def test_the_end_gets_timings_when_the_adapter_leaves_them_out() -> None:
    events = await collect(stream_of(STARTED, Token(0, "a"), END))

    end = events[-1]
    assert isinstance(end, End)
    assert end.timings is not None
    assert end.timings.time_to_first_token_ms is not None
    assert 0 < end.timings.time_to_first_token_ms <= end.timings.total_ms


async def test_a_task_without_tokens_has_no_time_to_first_token() -> None:
    events = await collect(stream_of(STARTED, END))

    end = events[-1]
    assert isinstance(end, End)
    assert end.timings is not None
    assert end.timings.time_to_first_token_ms is None
    assert end.timings.decode_time_ms is None


@pytest.mark.spec("ORCH-3059-031", "ORCH-3059-034")
@pytest.mark.parametrize(
    "items, rule",
    [
        ([Token(0, "a")], "token before started"),
        ([Metrics()], "metrics before started"),
        ([END], "end before started"),
        ([STARTED, STARTED], "a second started"),
        ([STARTED, Token(1, "a")], "token index 1 where 0 was due"),
        ([STARTED, Token(0, "a"), Token(0, "b")], "token index 0 where 1 was due"),
        ([STARTED, Token(0, "a"), Token(2, "b")], "token index 2 where 1 was due"),
        ([STARTED, "text"], "str is not a TokenEvent"),
        ([STARTED, None], "NoneType is not a TokenEvent"),
    ],
)
async def test_an_unlawful_event_becomes_one_protocol_violation(items: list[Any], rule: str) -> None:
    stream = stream_of(*items, Token(5, "never"), END)

    events = await collect(stream)

    assert find_violation(events) is None
    assert isinstance(events[-1], Error)
    assert events[-1].code == "protocol_violation"
    assert rule in events[-1].message
    assert stream.repairs == 1


@pytest.mark.spec("ORCH-3059-030")
async def test_a_stream_without_a_terminal_becomes_incomplete() -> None:
    stream = stream_of(STARTED, Token(0, "a"))

    events = await collect(stream)

    assert isinstance(events[-1], Error)
    assert (events[-1].code, events[-1].retryable) == ("stream_incomplete", True)
    assert stream.repairs == 1


@pytest.mark.spec("ORCH-3059-033")
@pytest.mark.parametrize("extra", [END, Token(0, "late"), STARTED, Error(code="x", message="", retryable=False)])
async def test_nothing_follows_the_terminal(extra: TokenEvent) -> None:
    one_by_one = stream_of(STARTED, END, extra)
    together = stream_of([STARTED, END, extra])

    for stream in (one_by_one, together):
        events = await collect(stream)
        assert find_violation(events) is None
        assert isinstance(events[-1], End)
        assert stream.repairs == 1


@pytest.mark.spec("ORCH-3059-032", "ORCH-3058-018")
async def test_a_raised_contract_error_becomes_one_error_event() -> None:
    stream = stream_of(STARTED, NotReady("loading", retry_after_s=2.5))

    events = await collect(stream)

    assert events[-1] == Error(code="not_ready", message="loading", retryable=True, retry_after_s=2.5)
    assert stream.repairs == 0


async def test_an_error_needs_no_started_before_it() -> None:
    events = await collect(stream_of(Unsupported("no such thing")))

    assert [type(event) for event in events] == [Error]
    assert find_violation(events) is None


@pytest.mark.spec("ORCH-3058-019")
async def test_the_stage_of_a_deadline_reaches_the_event() -> None:
    events = await collect(stream_of(STARTED, DeadlineExceeded("slow", stage="first_token")))

    assert isinstance(events[-1], Error)
    assert (events[-1].code, events[-1].stage, events[-1].retryable) == ("deadline_exceeded", "first_token", True)


@pytest.mark.spec("ORCH-3058-017")
async def test_a_foreign_exception_becomes_an_adapter_failure_without_its_text() -> None:
    stream = stream_of(STARTED, KeyError("the prompt was: secret"))

    events = await collect(stream)

    assert isinstance(events[-1], Error)
    assert events[-1].code == "adapter_failed"
    assert "KeyError" in events[-1].message
    assert "secret" not in events[-1].message
    assert stream.repairs == 1


async def test_the_total_deadline_ends_a_stream_that_hangs() -> None:
    adapter = Hanging(STARTED, Token(0, "a"))
    stream = TokenStream(adapter.source(), job_id="j", timeout_s=0.3)

    events = await collect(stream)

    assert isinstance(events[-1], Error)
    assert (events[-1].code, events[-1].stage, events[-1].retryable) == ("deadline_exceeded", "total", False)
    assert adapter.released.is_set()


async def test_the_total_deadline_ends_a_stream_that_never_waits() -> None:
    async def endless() -> AsyncIterator[TokenEvent]:
        yield STARTED
        index = 0
        while True:
            yield Token(index, "x")
            index += 1

    events = await collect(TokenStream(endless(), job_id="j", timeout_s=0.05))

    assert isinstance(events[-1], Error)
    assert events[-1].stage == "total"
    assert find_violation(events) is None


async def test_stop_ends_a_read_that_waits() -> None:
    adapter = Hanging(STARTED, Token(0, "a"))
    stream = TokenStream(adapter.source(), job_id="j")
    events: list[TokenEvent] = []

    async def read() -> None:
        events.extend(await collect(stream))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await adapter.hanging.wait()
        stopped = await stream.stop(End(finish_reason="cancelled"))

    assert stopped
    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "cancelled"
    assert adapter.released.is_set()


async def test_stop_between_reads_drops_the_tokens_nobody_has_read() -> None:
    stream = stream_of([STARTED, Token(0, "a"), Token(1, "b"), Token(2, "c")], END)
    first = [await anext(stream), await anext(stream)]

    await stream.stop(End(finish_reason="cancelled"))
    rest = await collect(stream)

    assert first == [STARTED, Token(0, "a")]
    assert [type(event) for event in rest] == [End]


async def test_stop_before_the_first_read_gives_a_lawful_stream() -> None:
    stream = stream_of(STARTED, Token(0, "a"), END)

    await stream.stop(End(finish_reason="cancelled"))
    events = await collect(stream)

    assert [type(event) for event in events] == [End]
    assert find_violation(events) is None


async def test_stop_after_the_end_changes_nothing() -> None:
    stream = stream_of(STARTED, END)
    events = await collect(stream)

    assert await stream.stop(End(finish_reason="cancelled")) is False
    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "stop"


async def test_the_first_stop_decides() -> None:
    stream = stream_of(STARTED, END)

    await stream.stop(End(finish_reason="cancelled"))
    await stream.stop(NotReady("draining"))

    assert isinstance((await collect(stream))[-1], End)


async def test_many_stops_at_once_agree() -> None:
    adapter = Hanging(STARTED)
    stream = TokenStream(adapter.source(), job_id="j")
    outcomes: list[bool] = []

    async def stop() -> None:
        outcomes.append(await stream.stop(End(finish_reason="cancelled")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, stream)
        await adapter.hanging.wait()
        for _ in range(5):
            tasks.start_soon(stop)

    assert outcomes == [True] * 5


@pytest.mark.spec("ORCH-3056-017")
async def test_closing_releases_the_adapter_and_ends_iteration() -> None:
    adapter = Hanging(STARTED, Token(0, "a"))
    stream = TokenStream(adapter.source(), job_id="j")

    async with stream:
        await anext(stream)
    await stream.aclose()

    assert adapter.released.is_set()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_cancelling_the_reader_releases_the_adapter() -> None:
    adapter = Hanging(STARTED)
    stream = TokenStream(adapter.source(), job_id="j")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, stream)
        await adapter.hanging.wait()
        tasks.cancel_scope.cancel()

    assert adapter.released.is_set()
    assert stream.finished


async def test_a_cancelled_reader_stays_cancelled_when_stopped_at_the_same_moment() -> None:
    adapter = Hanging(STARTED)
    stream = TokenStream(adapter.source(), job_id="j")
    went_on = False

    async def read() -> None:
        nonlocal went_on
        await collect(stream)
        await anyio.lowlevel.checkpoint()
        went_on = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await adapter.hanging.wait()
        tasks.cancel_scope.cancel()
        stream._source.interrupt()

    assert not went_on
    assert adapter.released.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio closes a dropped generator too, but warns: its own rule
async def test_a_dropped_stream_releases_the_adapter() -> None:
    adapter = Hanging(STARTED, Token(0, "a"))

    async def drop() -> None:
        async for _ in TokenStream(adapter.source(), job_id="j"):
            break

    await drop()
    gc.collect()

    with anyio.fail_after(5):
        await adapter.released.wait()


async def test_a_second_reader_is_refused() -> None:
    adapter = Hanging(STARTED)
    stream = TokenStream(adapter.source(), job_id="j")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, stream)
        await adapter.hanging.wait()
        with pytest.raises(RuntimeError, match="already being read"):
            await anext(stream)
        tasks.cancel_scope.cancel()


async def test_an_adapter_that_swallows_cancellation_still_ends() -> None:
    hanging = anyio.Event()

    async def stubborn() -> AsyncIterator[TokenEvent]:
        yield STARTED
        try:
            hanging.set()
            await anyio.sleep_forever()
        except BaseException:  # what a careless author writes
            pass
        yield Token(0, "late")
        yield END

    stream = TokenStream(stubborn(), job_id="j")
    events: list[TokenEvent] = []

    async def read() -> None:
        events.extend(await collect(stream))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await hanging.wait()
        await stream.stop(End(finish_reason="cancelled"))

    assert text_of(events) == ""
    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "cancelled"


async def test_a_failing_finally_does_not_hide_the_end() -> None:
    async def messy() -> AsyncIterator[TokenEvent]:
        try:
            yield STARTED
            yield END
        finally:
            raise ValueError("in finally")

    stream = TokenStream(messy(), job_id="j")
    events = await collect(stream)

    assert isinstance(events[-1], End)
    assert stream.repairs == 1


async def test_the_host_hears_once_that_a_stream_is_over(subtests: pytest.Subtests) -> None:
    endings: dict[str, Callable[[TokenStream], Any]] = {
        "read to the end": collect,
        "closed": lambda stream: stream.aclose(),
        "stopped": lambda stream: stream.stop(END),
    }
    for name, end in endings.items():
        with subtests.test(name):
            heard: list[TokenStream] = []
            stream = stream_of(STARTED, END, on_finished=heard.append)
            await end(stream)
            await stream.aclose()
            assert heard == [stream]


@pytest.mark.spec("ORCH-3059-035")
async def test_the_terminal_comes_after_the_adapter_let_go() -> None:
    released = False

    async def source() -> AsyncIterator[TokenEvent]:
        nonlocal released
        try:
            yield STARTED
            yield END
        finally:
            released = True

    async for event in TokenStream(source(), job_id="j"):
        if isinstance(event, End):
            assert released


@pytest.mark.spec("ORCH-3060-018")
async def test_an_adapter_whose_generator_does_not_close_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "CLOSE_GRACE_S", 0.05)

    async def clinging() -> AsyncIterator[TokenEvent]:
        try:
            yield STARTED
            yield Token(0, "a")
        finally:
            await anyio.sleep_forever()

    stream = TokenStream(clinging(), job_id="j")
    await anext(stream)
    with anyio.fail_after(5):
        await stream.stop(End(finish_reason="cancelled"))
        events = await collect(stream)

    assert [type(event) for event in events] == [End]


async def test_an_adapter_may_use_a_cancel_scope_after_its_end() -> None:
    async def source() -> AsyncIterator[Any]:
        yield STARTED
        yield END
        with anyio.move_on_after(5, shield=True):
            await anyio.lowlevel.checkpoint()

    stream = TokenStream(source(), job_id="j")

    assert [type(event) for event in await collect(stream)] == [Started, End]
    assert stream.repairs == 0


@pytest.mark.parametrize("read", ["one by one", "in batches"])
async def test_what_an_adapter_raised_is_in_no_circle(read: str) -> None:
    class Connection:
        """What an adapter has open."""

    async def source() -> AsyncIterator[TokenEvent]:
        connection = Connection()
        opened.append(weakref.ref(connection))
        yield STARTED
        yield Token(0, "a")
        raise NotReady("it is gone")

    opened: list[weakref.ref[Connection]] = []
    gc.collect()
    gc.disable()
    try:
        stream = TokenStream(source(), job_id="j")
        if read == "one by one":
            last = (await collect(stream))[-1]
        else:
            last = [batch async for batch in stream.batches()][-1][-1]
        del stream
        assert isinstance(last, Error)
        assert opened[0]() is None, "it would be open until the collector of cycles comes by"
    finally:
        gc.enable()

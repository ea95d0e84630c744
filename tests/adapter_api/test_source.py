"""What an interrupted read leaves behind in the task that reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from adapter_api import End, Started, Token, TokenEvent, TokenStream

no_spec = "it is about the task that reads, of which no requirement speaks"

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


async def flowing(then: asyncio.Event) -> AsyncIterator[TokenEvent]:
    """Bring a token and wait; both after the first token, when a stream reads in its short way."""
    yield Started(job_id="j", engine="test", model="m")
    yield Token(0, "a")
    then.set()
    await asyncio.Event().wait()


async def read_until(stream: TokenStream, kind: type[TokenEvent]) -> TokenEvent:
    async for event in stream:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__}")


async def test_a_stop_leaves_no_cancel_in_the_reading_task() -> None:
    waiting = asyncio.Event()
    stream = TokenStream(flowing(waiting), job_id="j")

    async def read() -> tuple[TokenEvent, int]:
        event = await read_until(stream, End)
        await asyncio.sleep(0)  # a cancel that was left over would hit this
        task = asyncio.current_task()
        assert task is not None
        return event, task.cancelling()

    async with asyncio.timeout(5):
        reading = asyncio.create_task(read())
        await waiting.wait()
        stopped = await stream.stop(End(finish_reason="cancelled"))
        event, cancels = await reading

    assert stopped
    assert event.finish_reason == "cancelled"  # type: ignore[union-attr]
    assert cancels == 0


@pytest.mark.parametrize("first", ["stop", "cancel"])
async def test_a_cancel_of_the_reader_at_the_same_time_as_a_stop_is_not_swallowed(first: str) -> None:
    waiting = asyncio.Event()
    stream = TokenStream(flowing(waiting), job_id="j")

    async with asyncio.timeout(5):
        reading = asyncio.create_task(read_until(stream, End))
        await waiting.wait()
        await asyncio.sleep(0)
        if first == "cancel":
            reading.cancel()
        stopping = asyncio.create_task(stream.stop(End(finish_reason="cancelled")))
        if first == "stop":
            # The stop's first step runs before the reader's next one.
            asyncio.get_running_loop().call_soon(reading.cancel)
        await asyncio.wait([reading, stopping])

    assert reading.cancelled()
    assert stream.finished


async def test_a_source_that_swallows_the_interruption_leaves_no_cancel_either() -> None:
    waiting = asyncio.Event()

    async def stubborn() -> AsyncIterator[TokenEvent]:
        yield Started(job_id="j", engine="test", model="m")
        yield Token(0, "a")
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        yield Token(1, "b")

    stream = TokenStream(stubborn(), job_id="j")

    async def read() -> tuple[list[TokenEvent], int]:
        events = [event async for event in stream]
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return events, task.cancelling()

    async with asyncio.timeout(5):
        reading = asyncio.create_task(read())
        await waiting.wait()
        await stream.stop(End(finish_reason="cancelled"))
        events, cancels = await reading

    assert [type(event) for event in events] == [Started, Token, End]
    assert cancels == 0


async def test_a_source_that_interrupts_itself_does_not_cancel_its_reader() -> None:
    async def own_end() -> AsyncIterator[TokenEvent]:
        yield Started(job_id="j", engine="test", model="m")
        yield Token(0, "a")
        stream._source.interrupt()
        yield Token(1, "b")

    stream = TokenStream(own_end(), job_id="j", timeout_s=60)

    async with asyncio.timeout(5):
        events = [event async for event in stream]
        await asyncio.sleep(0)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert [type(event).__name__ for event in events] == ["Started", "Token", "Token", "Error"]


async def test_an_interruption_between_two_reads_does_not_touch_the_reader() -> None:
    async def two_tokens() -> AsyncIterator[TokenEvent]:
        yield Started(job_id="j", engine="test", model="m")
        yield Token(0, "a")
        await asyncio.sleep(0)
        yield Token(1, "b")
        await asyncio.Event().wait()

    stream = TokenStream(two_tokens(), job_id="j", timeout_s=60)

    async with asyncio.timeout(5):
        for _ in range(3):  # the last one in the short way
            await anext(stream)
        asyncio.get_running_loop().call_soon(stream._source.interrupt)  # as the deadline's timer does
        for _ in range(3):
            await asyncio.sleep(0)
        rest = [event async for event in stream]

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert [type(event).__name__ for event in rest] == ["Error"]

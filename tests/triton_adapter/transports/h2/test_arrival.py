"""Readers that go on in the very step that reads the socket: what each does is its own affair."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from adapter_api import AdapterClosed
from adapter_kit.arrival import Arrival
from tests.triton_adapter.transports.h2.peer import Wire, data, head, message, playing, transport_to
from triton_adapter.transports.h2.transport import H2Stream, H2Transport
from triton_adapter.wire.request import WireRequest

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-011")]


async def waiting(arrival: Arrival, seen: list[object], *, times: int = 1) -> None:
    for _ in range(times):
        try:
            await arrival
        except asyncio.CancelledError as exc:
            seen.append(exc.args)
        else:
            seen.append("went on")


@asynccontextmanager
async def waiter(*, times: int = 1) -> AsyncIterator[tuple[Arrival, list[object], asyncio.Task[None]]]:
    """Give a task that waits, what it waits on, and what it sees."""
    arrival, seen = Arrival(asyncio.get_running_loop()), list[object]()
    task = asyncio.create_task(waiting(arrival, seen, times=times))
    await anyio.wait_all_tasks_blocked()
    yield arrival, seen, task
    await asyncio.wait_for(task, 10)


def in_a_callback(do: Callable[[], object]) -> Awaitable[object]:
    """Return what is done once the event loop has called a function, which no task does then."""
    called = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: called.set_result(do()))
    return called


async def test_who_waits_goes_on_within_the_call() -> None:
    async with waiter() as (arrival, seen, _):

        def now() -> object:
            arrival.go_on()
            return seen[:]

        assert await in_a_callback(now) == ["went on"]


async def test_who_waits_goes_on_in_the_next_round_where_a_task_asks() -> None:
    async with waiter() as (arrival, seen, task):
        arrival.go_on_soon()
        assert seen == []
        await task
        assert seen == ["went on"]


async def test_nobody_waits_and_nothing_happens() -> None:
    arrival = Arrival(asyncio.get_running_loop())
    arrival.go_on()
    arrival.go_on_soon()
    assert arrival.done()
    assert not arrival.cancel()


async def test_a_cancel_arrives_with_its_message_once_and_the_next_wait_is_a_wait() -> None:
    async with waiter(times=3) as (arrival, seen, task):
        task.cancel("enough")
        task.cancel("a second one in the same round")
        await in_a_callback(arrival.go_on)
        await anyio.wait_all_tasks_blocked()
        assert seen[0] == ("enough",)
        assert not arrival.done()
        await in_a_callback(arrival.go_on)
        await in_a_callback(arrival.go_on)


async def test_what_came_before_a_cancel_is_not_taken_for_the_cancel_of_the_next_wait() -> None:
    async with waiter(times=2) as (arrival, seen, task):
        arrival.go_on_soon()
        task.cancel()
        await anyio.wait_all_tasks_blocked()
        assert seen == [()]
        await in_a_callback(arrival.go_on)
    assert seen == [(), "went on"]


@pytest.mark.parametrize("scope", [asyncio.timeout, anyio.move_on_after])
async def test_time_limits_of_asyncio_and_of_anyio_end_a_wait(scope: Callable[[float], object]) -> None:
    arrival, ended = Arrival(asyncio.get_running_loop()), False
    try:
        limit = scope(0.01)
        if isinstance(limit, anyio.CancelScope):
            with limit:
                await arrival
        else:
            async with limit:  # type: ignore[attr-defined]
                await arrival
    except TimeoutError:
        ended = True
    assert ended or (isinstance(limit, anyio.CancelScope) and limit.cancelled_caught)
    assert arrival.done()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


REQUEST = WireRequest("m", ())


@asynccontextmanager
async def two_streams() -> AsyncIterator[tuple[H2Transport, list[H2Stream], asyncio.Event]]:
    """Give two streams that wait, and what has the peer send a message to both in one piece."""
    both_asked, send = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.greet()
        streams = [await wire.call(), await wire.call()]
        both_asked.set()
        await send.wait()
        wire.send(b"".join(head(stream) + data(stream, message(b"")) for stream in streams))
        await wire.ending()

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        calls = [await transport.stream(REQUEST, timeout_s=10) for _ in range(2)]
        await both_asked.wait()
        yield transport, calls, send


async def read_and(call: H2Stream, then: Callable[[], object], order: list[str], name: str) -> list[object]:
    found: list[object] = list(await call.read())
    order.append(name)
    then()
    return found


async def test_a_reader_that_cancels_another_takes_nothing_from_a_third() -> None:
    async with two_streams() as (_, (first, second), send):
        order: list[str] = []
        readers = [
            asyncio.create_task(read_and(first, second.cancel, order, "first")),
            asyncio.create_task(read_and(second, first.cancel, order, "second")),
        ]
        await anyio.wait_all_tasks_blocked()
        send.set()
        ended = await asyncio.gather(*readers, return_exceptions=True)

    assert order == ["first"], "both messages came at once, and the first reader gave up the second call"
    assert len(ended[0]) == 1  # type: ignore[arg-type]
    assert isinstance(ended[1], asyncio.CancelledError)


async def test_a_reader_that_has_everything_closed_leaves_nobody_waiting() -> None:
    async with two_streams() as (transport, (first, second), send):
        closing: list[asyncio.Task[None]] = []

        def close() -> None:
            closing.append(asyncio.create_task(transport.aclose()))

        order: list[str] = []
        one = asyncio.create_task(read_and(first, close, order, "first"))
        two = asyncio.create_task(read_and(second, lambda: None, order, "second"))
        await anyio.wait_all_tasks_blocked()
        send.set()
        await asyncio.gather(one, two)
        await asyncio.gather(*closing)
        with pytest.raises(AdapterClosed):
            await second.read()
    assert order == ["first", "second"]


async def test_bytes_that_a_task_hands_in_let_the_readers_go_on_after_it() -> None:
    async with two_streams() as (transport, (first, _), _):
        reader = asyncio.create_task(first.read())
        await anyio.wait_all_tasks_blocked()
        assert transport._channel is not None
        current = transport._channel._current
        assert current is not None
        current.data_received(head(1) + data(1, message(b"")))
        assert not reader.done()
        assert len(await reader) == 1


def test_a_reader_that_ends_the_program_leaves_the_others_awake() -> None:
    order: list[str] = []

    def end() -> None:
        raise KeyboardInterrupt

    async def run() -> None:
        async with two_streams() as (_, (first, second), send):
            readers = [
                asyncio.create_task(read_and(first, end, order, "first")),
                asyncio.create_task(read_and(second, lambda: None, order, "second")),
            ]
            await anyio.wait_all_tasks_blocked()
            send.set()
            _, asleep = await asyncio.wait(readers, timeout=5)
            assert not asleep, "until its deadline"
            assert isinstance(readers[0].exception(), KeyboardInterrupt)
            assert readers[1].exception() is None

    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(run())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.wait_for(task, 20))
    finally:
        loop.close()
    assert order == ["first", "second"]

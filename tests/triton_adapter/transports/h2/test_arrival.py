"""Readers that go on in the very step that reads the socket: what each does is its own affair."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import pytest

from adapter_api import AdapterClosed
from adapter_kit.arrival import Arrival
from tests.triton_adapter.transports.h2.peer import (
    Wire,
    data,
    head,
    message,
    playing,
    settings,
    trailers,
    transport_to,
)
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


class Held:
    """What a task holds on to."""


HOLDING: ContextVar[Held | None] = ContextVar("HOLDING", default=None)


async def test_a_wait_that_was_cancelled_keeps_nothing_of_its_task_alive() -> None:
    arrival, refs = Arrival(asyncio.get_running_loop()), list[weakref.ref[Held]]()

    async def wait() -> None:
        held = Held()
        refs.append(weakref.ref(held))
        await arrival

    task = asyncio.create_task(wait())
    await anyio.wait_all_tasks_blocked()
    gc.collect()
    gc.disable()  # an exception that holds its own traceback would be freed by the collector alone
    try:
        task.cancel()
        await asyncio.wait({task})
        del task
        await asyncio.sleep(0)
        assert refs[0]() is None
    finally:
        gc.enable()


async def test_once_a_wait_is_over_the_context_of_its_task_is_let_go() -> None:
    arrival, refs = Arrival(asyncio.get_running_loop()), list[weakref.ref[Held]]()

    async def wait() -> None:
        HOLDING.set(held := Held())
        refs.append(weakref.ref(held))
        del held
        await arrival

    task = asyncio.create_task(wait())
    await anyio.wait_all_tasks_blocked()
    await in_a_callback(arrival.go_on)
    await task
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert refs[0]() is None


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


async def test_a_failure_of_our_own_half_way_leaves_nobody_waiting_for_what_was_over() -> None:
    asked, send = asyncio.Event(), asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.greet()
        stream = await wire.call()
        asked.set()
        await send.wait()
        wire.send(head(stream), data(stream, message(b"")), trailers(stream), settings())
        await wire.ending()

    def fail() -> None:
        raise RuntimeError("on purpose")

    async with asyncio.timeout(20), playing(script) as peer, transport_to(peer) as transport:
        call = await transport.stream(REQUEST, timeout_s=10)
        await asked.wait()
        reader = asyncio.create_task(call.read())
        await anyio.wait_all_tasks_blocked()
        assert transport._channel is not None
        current = transport._channel._current
        assert current is not None
        said: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
        current._on_change = fail
        send.set()
        assert len(await asyncio.wait_for(reader, 5)) == 1
        assert await call.read() == []
        assert [str(exc) for exc in said[:1]] == ["on purpose"]
        await asyncio.wait({current.closed}, timeout=5)
        asyncio.get_running_loop().set_exception_handler(None)


def loop_of_uvloop() -> asyncio.AbstractEventLoop:
    new: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip(
        "uvloop", reason="needs uvloop: pip install -e '.[server]'"
    ).new_event_loop
    return new()


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, loop_of_uvloop])
def test_a_reader_that_ends_the_program_ends_it_and_leaves_the_others_awake(
    ending: type[BaseException], new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    order: list[str] = []

    def end() -> None:
        raise ending

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
            assert isinstance(readers[0].exception(), ending)
            assert readers[1].exception() is None

    loop = new_loop()
    try:
        task = loop.create_task(run())
        with pytest.raises(ending):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.wait_for(task, 20))
    finally:
        loop.close()
    assert order == ["first", "second"]

"""The real server at the end of a bad line: what comes is the same, and what does not come is told in time."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from adapter_api import (
    AdapterError,
    End,
    Error,
    HealthState,
    InferRequest,
    TaskRequest,
    Tensor,
    Token,
    TokenStream,
    Unsupported,
)
from adapter_api.testing import collect, text_of
from tests.rough_line import HELD_BYTES, RoughLine, Side, Weather
from tests.triton_adapter.engine_side import wait_for_state
from tests.triton_adapter.test_chaos import ENDED_BY_A_CUT, WORDS, Crowd, words
from tests.triton_adapter.transports.h2.peer import (
    DATA,
    PING,
    WINDOW_UPDATE,
    Frame,
    Wire,
    block,
    frame,
    head,
    playing,
    settings,
    trailers,
)
from tests.triton_adapter.transports.test_both_ways import REQUESTS, TASKS, shown, without_place
from tests.triton_adapter.ways import live_over_grpc, url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.address import Way
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton
from triton_adapter.transports.h2.transport import H2Transport
from triton_adapter.wire.request import WireRequest

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-001")]


def seeds(few: int, many: int) -> pytest.MarkDecorator:
    """Run a test with a few seeds, and at length with many."""
    long = (pytest.param(seed, marks=pytest.mark.long) for seed in range(few, many))
    return pytest.mark.parametrize("seed", [*range(few), *long])


def line_to(server: EmbeddedTriton | FakeTriton, way: Way, **how: Any) -> RoughLine:
    return RoughLine(url_of(server, way), **how)


def by_line(line: RoughLine, way: Way, **options: Any) -> TritonSettings:
    """Return the settings of an adapter that goes by a line."""
    scheme = "grpc" if way == "grpc" else "http+v2"
    return TritonSettings(url=f"{scheme}://{line.address}", **options)


async def comes_to(adapter: TritonAdapter, work: dict[str, Any] | InferRequest) -> object:
    """Return what a task or an inference comes to, but for names that are made, times, and where the server is."""
    try:
        if isinstance(work, dict):
            return [shown(event) for event in await collect(adapter.submit(TaskRequest.model_validate(work)))]
        response = await adapter.infer(work)
    except AdapterError as error:
        return error.code, without_place(error.message), error.retryable
    outputs = {tensor.name: (tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in response.outputs}
    return response.model_version, outputs, dict(response.parameters), response.final


def large(chance: random.Random, size: int) -> InferRequest:
    values = np.frombuffer(chance.randbytes(size), np.uint8).reshape(1, -1)
    return InferRequest(model="tensors", inputs=(Tensor.from_numpy("UINT8_IN", values),), timeout_s=60)


def size_for(*weathers: Weather) -> int:
    """Return the bytes of a tensor that such a line carries within seconds."""
    return min(min(each.piece or 10_000 for each in weathers) * 1500, 300_000)


# Over gRPC only: Triton 2.51's HTTP server answers 404 to a path that comes in two pieces, as a line may deliver it
# (findings/triton-path-in-two-segments.sh).
@pytest.mark.live
@live_over_grpc
@seeds(3, 60)
async def test_the_same_comes_by_any_line(triton: EmbeddedTriton, live_way: Way, seed: int) -> None:
    chance = random.Random(seed)
    up, down = Weather.drawn(chance), Weather.drawn(chance)
    asked: list[dict[str, Any] | InferRequest] = [
        *({"timeout_s": 60, **TASKS[name]} for name in chance.sample(sorted(TASKS), 5)),
        *(REQUESTS[name] for name in chance.sample(sorted(REQUESTS), 3)),
        large(chance, size_for(up, down)),
    ]
    async with TritonAdapter(TritonSettings(url=url_of(triton, live_way))) as adapter:
        wanted = [await comes_to(adapter, each) for each in asked]

    async with line_to(triton, live_way, seed=seed, up=up, down=down) as line:
        async with asyncio.timeout(120), TritonAdapter(by_line(line, live_way)) as adapter:
            found = await asyncio.gather(*(comes_to(adapter, each) for each in asked))

        assert found == wanted
        assert line.most_held <= HELD_BYTES
        assert line.accepted == 1


@pytest.mark.live
@live_over_grpc
@seeds(2, 20)
async def test_a_cancel_gets_through_any_line_and_costs_no_other(
    triton: EmbeddedTriton, live_way: Way, seed: int
) -> None:
    chance = random.Random(seed)
    async with (
        asyncio.timeout(60),
        line_to(triton, live_way, seed=seed, up=Weather.drawn(chance), down=Weather.drawn(chance)) as line,
        TritonAdapter(TritonSettings(url=url_of(triton, live_way))) as direct,
        TritonAdapter(by_line(line, live_way)) as adapter,
    ):
        tasks = [endless(f"rough-{live_way}-{seed}-{number}") for number in range(3)]
        streams = [adapter.submit(each) for each in tasks]
        for stream in streams:
            await until_token(stream)
        receipt = await adapter.cancel(tasks[0].job_id)
        await wait_for_state(direct, tasks[0].job_id, "cancelled", timeout_s=20)
        for stream in streams[1:]:
            await until_token(stream)
            await stream.aclose()
        for task in tasks[1:]:
            await wait_for_state(direct, task.job_id, "cancelled", timeout_s=20)
        rest = [event async for event in streams[0]]

    assert receipt.found
    assert isinstance(rest[-1], End)
    assert rest[-1].finish_reason == "cancelled"


def endless(job_id: str) -> TaskRequest:
    """Return a task that always has more to come."""
    return words(0, delay_ms=20).model_copy(update={"job_id": job_id, "max_tokens": 100_000})


async def until_token(stream: TokenStream) -> None:
    async for event in stream:
        if isinstance(event, Token):
            return
        assert not isinstance(event, End | Error), event


DEADLINES: dict[str, dict[str, Any]] = {
    "total": {"timeout_s": 0.8},
    "first_token": {"first_token_timeout_s": 0.8},
    "inter_token": {"inter_token_timeout_s": 0.8},
}


@pytest.mark.live
@pytest.mark.parametrize(
    "stage, sides",
    [
        (stage, sides)
        for stage in DEADLINES
        for sides in (("down",), ("up",), ("up", "down"))
        # Of a stream that runs all that is needed for its tokens is at the server already.
        if (stage, sides) != ("inter_token", ("up",))
    ],
)
async def test_a_line_that_falls_silent_is_told_by_the_stage_and_used_again_when_it_speaks(
    triton: EmbeddedTriton, live_way: Way, stage: str, sides: tuple[Side, ...]
) -> None:
    async with line_to(triton, live_way) as line:
        async with asyncio.timeout(60), TritonAdapter(by_line(line, live_way, **DEADLINES[stage])) as adapter:
            assert isinstance((await collect(adapter.submit(words(1, delay_ms=0))))[-1], End)
            stream = adapter.submit(endless("silent"))
            if stage == "inter_token":
                await until_token(stream)
            line.stall(*sides)
            events = [event async for event in stream]
            last = events[-1]
            assert isinstance(last, Error), last
            assert (last.code, last.stage) == ("deadline_exceeded", stage)

            line.resume()
            again = await collect(adapter.submit(words(3, delay_ms=0).model_copy(update={"timeout_s": 20.0})))
            assert text_of(again).strip() == WORDS
        assert adapter.live_jobs == ()


# Not over grpcio, whose windows grow with what comes: to megabytes here.
@pytest.mark.parametrize("live_way", ["grpc", pytest.param("http", marks=pytest.mark.long)], indirect=True)
@pytest.mark.live
@seeds(1, 10)
async def test_a_reader_that_stops_costs_its_window_and_holds_up_nobody(
    triton: EmbeddedTriton, live_way: Way, seed: int
) -> None:
    size = 4_000_000
    prompt = "".join(random.Random(seed).choices("abcdefgh🙂ü", k=1000)) * (size // 1300)
    task = TaskRequest(
        model="splitter", prompt=prompt, timeout_s=60.0, parameters={"triton.piece_bytes": 16_000 + seed}
    )
    async with line_to(triton, live_way, seed=seed) as line:
        async with asyncio.timeout(60), TritonAdapter(by_line(line, live_way)) as adapter:
            stream = adapter.submit(task)
            await until_token(stream)
            for _ in range(10):
                assert (await adapter.health()).ready
            assert line.carried["down"] < 1_500_000, "more than the window, and what the kernel holds, has come"
            rest = [event async for event in stream]
            assert isinstance(rest[-1], End), rest[-1]
            said = sum(len(event.text.encode()) for event in rest if isinstance(event, Token))
            assert len(prompt.encode()) - said <= 16_000 + seed
        assert line.most_held <= HELD_BYTES


@seeds(1, 40)
async def test_a_line_that_breaks_at_any_time_ends_every_task_once(way: Way, seed: int) -> None:
    # Not the real server: Triton 2.51 itself can crash when a connection with streams on it breaks.
    chance = random.Random(seed)
    with FakeTriton() as fake:
        fake.model("slow").signature("text").respond_with_text(WORDS, delay_s=chance.choice((0, 0.005)))
        weathers = {"up": Weather.drawn(chance), "down": Weather.drawn(chance)}
        async with line_to(fake, way, seed=seed, **weathers) as line, TritonAdapter(
            by_line(line, way, inter_token_timeout_s=10, first_token_timeout_s=10, max_retries=1)
        ) as adapter:  # fmt: skip
            crowd = Crowd(adapter)

            async def break_it() -> None:
                for _ in range(4):
                    limit = line.carried["down"] + chance.randint(1, 3000)
                    try:
                        await line.until(lambda limit=limit: line.carried["down"] >= limit, within_s=1.0)  # type: ignore[misc]
                    except TimeoutError:
                        return  # all tasks have ended: no more bytes come
                    line.reset()

            await crowd.run(20, break_it)
            ends = crowd.check(ENDED_BY_A_CUT)
            assert sum(ends.values()) == 20

            line.weather = {"up": Weather(), "down": Weather()}
            after = Crowd(adapter, lambda number: words(1000 + number))
            await after.run(5, anyio.lowlevel.checkpoint)
            assert after.check(set()) == {"end": 5}


# -- what the server asks while the line is busy ----------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16_000_000.0, pytest.param(2_000_000.0, marks=pytest.mark.long)])
async def test_a_ping_is_answered_amid_a_large_request_on_a_narrow_line(rate: float) -> None:
    size = 24_000_000  # several times what the kernel takes at once
    seen: list[Frame] = []

    async def asks(wire: Wire) -> None:
        await wire.greet(settings(s4=2**26))
        wire.send(frame(WINDOW_UPDATE, (2**26).to_bytes(4, "big")))
        await wire.until(DATA)
        wire.send(frame(PING, b"are you?"))
        stream = await wire.call()
        seen.extend(wire.seen)
        wire.send(head(stream), trailers(stream, block(("grpc-status", "12"))))
        await wire.ending()

    async with playing(asks) as peer, RoughLine(f"127.0.0.1:{peer.port}", up=Weather(bytes_per_s=rate)) as line:
        transport = H2Transport(TritonSettings(url=f"grpc://{line.address}"))
        async with asyncio.timeout(60):
            with pytest.raises(Unsupported):
                await transport.infer(WireRequest("m", (), parameters={"long": "x" * size}), timeout_s=50)
            await transport.aclose()
    answered = next(number for number, each in enumerate(seen) if each.kind == PING)
    before = sum(len(each.payload) for each in seen[:answered] if each.kind == DATA)
    assert before < size / 2, "it waited for most of the request"


@pytest.mark.live
@pytest.mark.long
@live_over_grpc
async def test_a_server_that_asks_all_the_time_whether_we_live_is_answered_by_a_slow_line(live_way: Way) -> None:
    arguments = [
        "--grpc-keepalive-time=200", "--grpc-keepalive-timeout=2000", "--grpc-keepalive-permit-without-calls=true",
    ]  # fmt: skip
    with EmbeddedTriton(model_control_mode="explicit", load_models=["slow"], extra_args=arguments) as server:
        weather = Weather(delay_s=0.1, jitter_s=0.1, piece=3)
        async with line_to(server, live_way, up=weather, down=weather) as line:
            async with asyncio.timeout(60), TritonAdapter(by_line(line, live_way)) as adapter:
                async with aclosing(adapter.submit(words(1, delay_ms=1000))) as stream:
                    events = [event async for event in stream]
                assert text_of(events).strip() == WORDS
                assert line.accepted == 1


# -- a connection of which a router knows nothing any more ------------------------------------------------------------


@pytest.mark.live
@pytest.mark.spec("ORCH-3072-010")
async def test_a_connection_that_fell_silent_for_good_costs_the_calls_on_it_and_no_further_one(
    triton: EmbeddedTriton,
) -> None:
    async with (
        asyncio.timeout(60),
        line_to(triton, "grpc") as line,
        TritonAdapter(by_line(line, "grpc", inter_token_timeout_s=0.4, control_timeout_s=1.2)) as adapter,
    ):
        stream = adapter.submit(endless("stranded"))
        await until_token(stream)
        line.strand()
        report = await adapter.health()
        last = [event async for event in stream][-1]
        assert isinstance(last, Error)
        assert (last.code, last.stage) == ("deadline_exceeded", "inter_token")
        assert report.state is HealthState.UNREACHABLE

        assert (await adapter.health()).ready
        again = await collect(adapter.submit(words(1, delay_ms=0)))
        assert text_of(again).strip() == WORDS
        assert line.accepted == 2

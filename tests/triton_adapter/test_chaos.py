"""Many tasks at once while the server, its models or the way to it break; `test_deaths.py` looks at each death closely.

What holds whatever breaks: every stream ends, with one terminal event, in lawful order, and nothing is left behind.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import anyio
import anyio.to_thread
import pytest

from adapter_api import End, Error, HealthState, InferRequest, TaskRequest, Tensor, Token, TokenEvent, Unsupported
from adapter_api.testing import find_violation, text_of
from tests.triton_adapter.engine_side import probe
from tests.triton_adapter.lab import loaded, tensor
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.engine.metadata import explain_absence
from triton_adapter.server.health import models_of
from triton_adapter.testing import FakeTriton, FaultProxy
from triton_adapter.wire import v2_pb2 as v2

pytestmark = pytest.mark.anyio

WORDS = "one two three four five six seven eight"
ENDED_BY_A_CUT = {"connection_lost", "connect_failed", "deadline_exceeded"}


@pytest.fixture(scope="module")
def own_triton() -> Iterator[EmbeddedTriton]:
    """A server to be paused and killed."""
    with EmbeddedTriton(model_control_mode="explicit", load_models=["slow"]) as server:
        yield server


def words(number: int, **parameters: float) -> TaskRequest:
    given = {f"triton.{name}": value for name, value in {"delay_ms": 5, **parameters}.items()}
    return TaskRequest(job_id=f"chaos-{number}", model="slow", prompt=WORDS, max_tokens=8, parameters=given)


class Crowd:
    """Tasks that run side by side, and what each of them said."""

    def __init__(self, adapter: TritonAdapter, make: Callable[[int], TaskRequest] = words) -> None:
        self._adapter = adapter
        self._make = make
        self.events: list[list[TokenEvent]] = []
        self.showing = 0
        self._changed = anyio.Condition()

    async def run(self, number: int, meanwhile: Callable[[], Awaitable[object]], *, timeout_s: float = 60) -> None:
        """Run the tasks until all have ended, `meanwhile` doing its worst."""
        with anyio.fail_after(timeout_s):
            async with anyio.create_task_group() as group:
                for index in range(number):
                    group.start_soon(self._one, self._make(index))
                await meanwhile()

    async def until_showing(self, number: int) -> None:
        """Return when so many tasks have shown a token."""
        async with self._changed:
            while self.showing < number:
                await self._changed.wait()

    async def _one(self, task: TaskRequest) -> None:
        seen: list[TokenEvent] = []
        self.events.append(seen)
        stream = self._adapter.submit(task)
        async for event in stream:
            if isinstance(event, Token) and event.index == 0:
                async with self._changed:
                    self.showing += 1
                    self._changed.notify_all()
            seen.append(event)
        assert stream.repairs == 0

    def check(self, allowed: set[str]) -> Counter[str]:
        """Check what must hold of every stream, and return how they ended."""
        ends: Counter[str] = Counter()
        for events in self.events:
            assert find_violation(events) is None, events
            last = events[-1]
            if isinstance(last, Error):
                assert last.code in allowed, last
                assert last.retryable
                assert WORDS.startswith(text_of(events).strip())
            else:
                assert isinstance(last, End)
                assert text_of(events).strip() == WORDS, "a stream that claims to be whole is whole"
            ends[last.code if isinstance(last, Error) else "end"] += 1
        assert self._adapter.live_jobs == ()
        return ends


def reached(proxy: FaultProxy, limit: int) -> bool:
    return proxy.bytes_to_client >= limit


@pytest.mark.parametrize("seed", range(4))
async def test_a_way_that_breaks_anywhere_ends_every_task_once(seed: int) -> None:
    # Not the real server: Triton 2.51 itself can crash when a connection with streams on it breaks.
    rng = random.Random(seed)
    with FakeTriton() as fake:
        fake.model("slow").signature("text").respond_with_text(WORDS, delay_s=rng.choice((0, 0.005, 0.02)))
        proxy = fake.proxy
        settings = TritonSettings(
            url=f"grpc://{proxy.address}", inter_token_timeout_s=5, first_token_timeout_s=5, connect_timeout_s=2
        )
        async with TritonAdapter(settings) as adapter:
            crowd = Crowd(adapter)

            async def break_it() -> None:
                for _ in range(6):
                    size = rng.randint(1, 3000)
                    limit = proxy.bytes_to_client + size
                    proxy.cut_after(size, reset=rng.random() < 0.5)
                    try:
                        await anyio.to_thread.run_sync(proxy.wait_until, partial(reached, proxy, limit), 1.0)
                    except TimeoutError:
                        return  # all tasks have ended: no more bytes come

            await crowd.run(40, break_it)
            proxy.heal()

            assert proxy.accepted > 1
            ends = crowd.check(ENDED_BY_A_CUT)
            assert sum(ends.values()) == 40
            after = Crowd(adapter, lambda number: words(1000 + number))
            await after.run(5, anyio.lowlevel.checkpoint)
            assert after.check(set()) == {"end": 5}
            assert (await adapter.health()).capacity.in_flight == 0


def leaving(when: str, number: int) -> TaskRequest:
    return TaskRequest(job_id=f"{when}-{number}", model="leaving", prompt="x")


@pytest.mark.live
async def test_a_model_that_is_unloaded_under_its_traffic_finishes_what_runs_and_refuses_the_rest(
    adapter: TritonAdapter,
) -> None:
    code = """
    def execute(self, requests):
        import threading
        for request in requests:
            threading.Thread(target=self.generate, args=(request.get_response_sender(),)).start()

    def generate(self, sender):
        import time
        for word in "one two three four five six seven eight".split():
            sender.send(answer(text_output=text(word + " ")))
            time.sleep(0.05)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    """
    async with loaded(
        adapter,
        "leaving",
        inputs=[tensor("text_input", "TYPE_STRING", 1)],
        outputs=[tensor("text_output", "TYPE_STRING", -1)],
        code=code,
        model_transaction_policy={"decoupled": True},
    ):
        running, late = Crowd(adapter, partial(leaving, "running")), Crowd(adapter, partial(leaving, "late"))

        async def unload() -> None:
            await running.until_showing(30)
            await adapter.models.unload("leaving")
            await late.run(10, anyio.lowlevel.checkpoint)

        await running.run(30, unload)

    assert running.check(set()) == {"end": 30}
    codes = Counter(events[-1].code for events in late.events if isinstance(events[-1], Error))
    # A model with files of its own leaves the repository with its unloading: then it is not found.
    assert set(codes) <= {"not_ready", "model_not_found"}
    assert sum(codes.values()) == 10


@pytest.mark.live
async def test_a_server_that_freezes_is_told_by_the_stage_it_froze_in(own_triton: EmbeddedTriton) -> None:
    settings = TritonSettings(
        url=own_triton.grpc_url, first_token_timeout_s=0.5, inter_token_timeout_s=0.5, control_timeout_s=0.5
    )
    async with TritonAdapter(settings) as adapter:
        await probe(adapter)
        shown = Crowd(adapter, lambda number: words(number, delay_ms=100))
        silent = Crowd(adapter, lambda number: words(100 + number, delay_ms=2000))

        async def freeze() -> None:
            async def more() -> None:
                await shown.until_showing(5)
                while (await probe(adapter))["running"] < 10:  # noqa: ASYNC110 - the server tells of no event
                    await anyio.sleep(0.01)
                await anyio.to_thread.run_sync(own_triton.pause)

            await silent.run(5, more)

        try:
            await shown.run(5, freeze)
            frozen = await adapter.health()
        finally:
            own_triton.resume()

        stages = {crowd: {e[-1].stage for e in crowd.events if isinstance(e[-1], Error)} for crowd in (shown, silent)}
        assert shown.check({"deadline_exceeded"}) == {"deadline_exceeded": 5}
        assert silent.check({"deadline_exceeded"}) == {"deadline_exceeded": 5}
        assert stages == {shown: {"inter_token"}, silent: {"first_token"}}
        assert frozen.state is HealthState.UNREACHABLE
        assert frozen.latency_s < 2

        with anyio.fail_after(10):
            while (await probe(adapter))["running"]:
                pass  # the cancels reach the engine as soon as it listens again
        again = Crowd(adapter, lambda number: words(200 + number))
        await again.run(5, anyio.lowlevel.checkpoint)
        assert again.check(set()) == {"end": 5}
        assert (await adapter.health()).state is HealthState.READY


@pytest.mark.live
async def test_two_hundred_streams_survive_the_death_of_their_server_and_its_return(own_triton: EmbeddedTriton) -> None:
    port = int(own_triton.grpc_url.rpartition(":")[2])
    async with TritonAdapter(TritonSettings(url=own_triton.grpc_url, max_retries=1)) as adapter:
        crowd = Crowd(adapter, lambda number: words(number, delay_ms=20_000 if number % 4 == 0 else 500))

        async def kill() -> None:
            await crowd.until_showing(150)
            await anyio.to_thread.run_sync(own_triton.kill)

        await crowd.run(200, kill)

        ends = crowd.check({"connection_lost", "connect_failed"})
        assert sum(ends.values()) == 200
        assert ends["connection_lost"] >= 100
        assert ends["connect_failed"] >= 1, "those that had shown nothing were tried again"
        report = await adapter.health()
        assert (report.state, report.capacity.in_flight) == (HealthState.UNREACHABLE, 0)

        async with EmbeddedTriton(model_control_mode="explicit", load_models=["slow"], grpc_port=port):
            with anyio.fail_after(20):
                while (await adapter.health()).state is not HealthState.READY:  # noqa: ASYNC110 - the server tells of no event
                    await anyio.sleep(0.01)
            back = Crowd(adapter, lambda number: words(1000 + number))
            await back.run(20, anyio.lowlevel.checkpoint)
            assert back.check(set()) == {"end": 20}


async def test_a_stream_whose_process_died_is_given_up_and_its_model_not_trusted_until_it_is_loaded_again() -> None:
    with FakeTriton() as fake:
        model = fake.model("slow").signature("text").respond_with_text(WORDS).hold(after=3)
        settings = TritonSettings(url=fake.grpc_url, inter_token_timeout_s=0.3)
        async with TritonAdapter(settings) as adapter:
            crowd = Crowd(adapter)

            async def kill() -> None:
                await crowd.until_showing(20)
                model.kill_stub()

            await crowd.run(20, kill)
            dead = await adapter.health()
            await adapter.models.unload("slow")
            model.release()
            await adapter.models.load("slow")
            again = Crowd(adapter, lambda number: words(100 + number))
            await again.run(3, anyio.lowlevel.checkpoint)
            well = await adapter.health()

    assert crowd.check({"deadline_exceeded"}) == {"deadline_exceeded": 20}
    assert dead.state is HealthState.DEGRADED
    assert again.check(set()) == {"end": 3}
    assert well.state is HealthState.READY


async def test_a_server_that_refuses_streams_for_a_moment_is_asked_again() -> None:
    with FakeTriton() as fake:
        fake.model("slow").signature("text").respond_with_text(WORDS)
        async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter:
            await adapter.health()
            fake.proxy.refuse_streams(5)
            crowd = Crowd(adapter)
            await crowd.run(10, anyio.lowlevel.checkpoint)

    assert crowd.check(set()) == {"end": 10}


# -- a v2 server that is no Triton


@pytest.fixture
def plain_v2() -> Iterator[FakeTriton]:
    """A server that has the open inference protocol's calls and none of Triton's own."""
    with FakeTriton() as fake:
        fake.model("echo").signature("text", decoupled=False).respond_with_text("said hello")
        for call in (
            "ModelConfig",
            "RepositoryIndex",
            "ModelStatistics",
            "RepositoryModelLoad",
            "TraceSetting",
            "LogSettings",
            "SystemSharedMemoryStatus",
        ):
            fake.fail_next(call, "UNIMPLEMENTED", "Method not found!", times=1000)
        yield fake


async def test_a_v2_server_without_tritons_own_calls_serves_tasks_and_tensors(plain_v2: FakeTriton) -> None:
    settings = TritonSettings(url=plain_v2.grpc_url, model="echo", shared_memory=True)
    async with TritonAdapter(settings) as adapter:
        crowd = Crowd(adapter, lambda number: TaskRequest(job_id=str(number), model="echo", prompt="hi"))
        await crowd.run(3, anyio.lowlevel.checkpoint)
        inputs = (Tensor.from_bytes_elements("text_input", [b"hi"]),)
        response = await adapter.infer(InferRequest(model="echo", inputs=inputs))
        streamed = [each async for each in adapter.infer_stream(InferRequest(model="echo", inputs=inputs))]
        report, props = await adapter.health(), await adapter.props()
        with pytest.raises(Unsupported, match="echo"):
            await adapter.models.config("echo")

    assert [text_of(events) for events in crowd.events] == ["said hello"] * 3
    assert response["text_output"].elements() == [b"said hello"]
    assert [each.final for each in streamed] == [True]
    assert (report.state, report.ready) == (HealthState.READY, True)
    assert [(model.name, model.ready) for model in report.models] == [("echo", True)]
    assert [model.name for model in props.models] == ["echo"]


async def test_a_v2_server_that_tells_nothing_of_its_engine_is_promised_no_hard_cancel(plain_v2: FakeTriton) -> None:
    async with TritonAdapter(TritonSettings(url=plain_v2.grpc_url, model="echo")) as adapter:
        (model,) = (await adapter.props()).models

    assert "cancel_hard" not in model.capabilities


async def test_states_and_refusals_in_mlservers_words_are_understood(plain_v2: FakeTriton) -> None:
    index = v2.RepositoryIndexResponse()
    index.models.add(name="echo", state="State.READY")
    plain_v2.fail_next(
        "ModelReady", "UNKNOWN", "Unexpected <class 'mlserver.errors.ModelNotFound'>: Model nope not found"
    )

    (model,) = models_of(index)
    async with TritonAdapter(TritonSettings(url=plain_v2.grpc_url)) as adapter:
        ready = await adapter.models.ready("nope")

    assert (model.ready, model.state) == (True, "READY")
    assert explain_absence(index.models, "echo", "", where="here") is None
    assert not ready

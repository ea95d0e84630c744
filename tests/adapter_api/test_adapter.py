"""What the base class promises for every adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import numpy as np
import pytest

from adapter_api import (
    AdapterClosed,
    AdapterFailed,
    CancelReceipt,
    ConnectFailed,
    DeadlineExceeded,
    End,
    EngineProps,
    Error,
    HealthReport,
    HealthState,
    InferRequest,
    Started,
    TaskRequest,
    Tensor,
    Token,
    TokenEvent,
    Unsupported,
    WorkerAdapter,
)
from adapter_api.testing import MockAdapter, MockSettings, collect, find_violation, text_of

pytestmark = pytest.mark.anyio


def task(**fields: object) -> TaskRequest:
    return TaskRequest.parse({"model": "mock", "prompt": "hello", **fields})


class Minimal(WorkerAdapter):
    """Only what an author must write, and switches to misbehave."""

    engine = "minimal"
    control_timeout_s = 0.05

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.open_fails: Exception | None = None
        self.health_does: Exception | str | None = None
        self.cancel_does: Exception | str | None = None

    async def _open(self) -> None:
        self.opened += 1
        if self.open_fails:
            raise self.open_fails

    async def _close(self) -> None:
        self.closed += 1

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine=self.engine, model=task.model)
        yield Token(0, "a")
        await anyio.sleep_forever()

    async def _cancel(self, job_id: str) -> CancelReceipt:
        await self._misbehave(self.cancel_does)
        return await super()._cancel(job_id)

    async def _health(self, *, canary: bool) -> HealthReport:
        await self._misbehave(self.health_does)
        return HealthReport(state=HealthState.READY, live=True, ready=True, canary=canary)

    async def _props(self) -> EngineProps:
        await self._misbehave(self.health_does)
        return EngineProps(engine=self.engine, engine_version="7")

    async def _misbehave(self, how: Exception | str | None) -> None:
        if isinstance(how, Exception):
            raise how
        if how == "hang":
            await anyio.sleep_forever()


@pytest.mark.spec("ORCH-3056-015")
async def test_final_methods_cannot_be_overridden() -> None:
    with pytest.raises(TypeError, match="submit"):
        type("Wrong", (Minimal,), {"submit": lambda self, task: None})


async def test_an_author_need_not_call_our_init() -> None:
    async with Minimal() as adapter:
        assert (await adapter.engine_version()) == "7"


@pytest.mark.spec("ORCH-3056-003")
async def test_closing_twice_closes_once() -> None:
    async with Minimal() as adapter:
        pass
    await adapter.aclose()

    assert (adapter.opened, adapter.closed) == (1, 1)


@pytest.mark.spec("ORCH-3056-014")
async def test_an_adapter_that_fails_to_open_is_closed_again() -> None:
    adapter = Minimal()
    adapter.open_fails = ConnectFailed("no")

    with pytest.raises(ConnectFailed):
        await adapter.__aenter__()

    assert adapter.closed == 1


@pytest.mark.spec("ORCH-3056-002")
async def test_an_adapter_opens_only_once() -> None:
    async with Minimal() as adapter:
        with pytest.raises(AdapterClosed):
            await adapter.__aenter__()
    with pytest.raises(AdapterClosed):
        await adapter.__aenter__()


@pytest.mark.spec("ORCH-3056-005", "ORCH-3056-006")
@pytest.mark.parametrize("closed", [False, True], ids=["not yet open", "closed"])
async def test_a_task_for_an_adapter_that_is_not_open_ends_in_closed(closed: bool) -> None:
    adapter = Minimal()
    if closed:
        async with adapter:
            pass

    events = await collect(adapter.submit(task()))

    assert [event.code for event in events if isinstance(event, Error)] == ["closed"]
    assert len(events) == 1


@pytest.mark.spec("ORCH-3055-002")
async def test_submit_refuses_what_is_no_task() -> None:
    async with Minimal() as adapter:
        with pytest.raises(TypeError, match="TaskRequest"):
            adapter.submit({"model": "m"})  # type: ignore[arg-type]


@pytest.mark.spec("ORCH-3055-003")
async def test_a_job_id_that_is_running_is_a_conflict_and_leaves_the_first_alone() -> None:
    async with MockAdapter(MockSettings(reply="one two")) as adapter:
        first = adapter.submit(task(job_id="same"))
        await anext(first)
        second = await collect(adapter.submit(task(job_id="same")))
        rest = await collect(first)

    assert [event.code for event in second if isinstance(event, Error)] == ["job_conflict"]
    assert text_of(rest) == "one two"


@pytest.mark.spec("ORCH-3056-009")
async def test_a_job_id_may_be_used_again_after_its_end() -> None:
    async with MockAdapter(MockSettings(reply="one")) as adapter:
        for _ in range(2):
            assert text_of(await collect(adapter.submit(task(job_id="same")))) == "one"


@pytest.mark.spec("ORCH-3056-004", "ORCH-3056-016")
async def test_closing_ends_live_streams_with_one_error() -> None:
    adapter = Minimal()
    events: list[list[TokenEvent]] = []

    async def read(number: int) -> None:
        events.append(await collect(adapter.submit(task(job_id=f"j{number}"))))

    async with anyio.create_task_group() as tasks:
        async with adapter:
            for number in range(3):
                tasks.start_soon(read, number)
            await anyio.wait_all_tasks_blocked()
            assert sorted(adapter.live_jobs) == ["j0", "j1", "j2"]

    assert [find_violation(one) for one in events] == [None] * 3
    assert [one[-1].code for one in events if isinstance(one[-1], Error)] == ["closed"] * 3
    assert adapter.live_jobs == ()


@pytest.mark.spec("ORCH-3060-001", "ORCH-3060-012")
async def test_cancel_ends_the_stream_and_says_what_it_could_do() -> None:
    async with Minimal() as adapter:
        stream = adapter.submit(task(job_id="j"))
        assert [await anext(stream), await anext(stream)][1] == Token(0, "a")

        receipt = await adapter.cancel("j")
        rest = await collect(stream)

    assert (receipt.found, receipt.sent, receipt.acknowledged, receipt.mode) == (True, False, True, "client_only")
    assert [event.finish_reason for event in rest if isinstance(event, End)] == ["cancelled"]
    assert len(rest) == 1


@pytest.mark.spec("ORCH-3060-003", "ORCH-3060-004")
async def test_cancelling_an_unknown_or_finished_job_finds_nothing() -> None:
    async with MockAdapter(MockSettings(reply="one")) as adapter:
        await collect(adapter.submit(task(job_id="done")))

        assert not (await adapter.cancel("done")).found
        assert not (await adapter.cancel("never")).found


@pytest.mark.spec("ORCH-3060-019")
@pytest.mark.parametrize("how", ["hang", ConnectFailed("gone"), ValueError("bug")], ids=str)
async def test_cancel_ends_the_stream_even_if_the_engine_cannot_be_told(how: Exception | str) -> None:
    async with Minimal() as adapter:
        adapter.cancel_does = how
        stream = adapter.submit(task(job_id="j"))
        await anext(stream)

        receipt = await adapter.cancel("j")

    assert (receipt.sent, receipt.acknowledged) == (False, True)


@pytest.mark.spec("ORCH-3057-016", "ORCH-3057-002")
@pytest.mark.parametrize(
    "how, said",
    [
        ("hang", "no answer within"),
        (ConnectFailed("nothing listens"), "nothing listens"),
        (ValueError("x"), "ValueError"),
    ],
    ids=str,
)
async def test_health_reports_and_never_raises(how: Exception | str, said: str) -> None:
    async with Minimal() as adapter:
        adapter.health_does = how
        report = await adapter.health()

    assert (report.state, report.live, report.ready) == (HealthState.UNREACHABLE, False, False)
    assert said in report.detail
    assert report.status == "unhealthy"


@pytest.mark.spec("ORCH-3057-015", "ORCH-3057-011")
async def test_health_says_when_and_how_long() -> None:
    async with Minimal() as adapter:
        report = await adapter.health(canary=True)
    closed = await adapter.health()

    assert report.canary
    assert report.checked_at > 0
    assert 0 <= report.latency_s < 1
    assert closed.state is HealthState.STOPPED


@pytest.mark.spec("ORCH-3057-021", "ORCH-3058-016")
async def test_props_have_a_deadline_and_only_contract_errors() -> None:
    async with Minimal() as adapter:
        adapter.health_does = "hang"
        with pytest.raises(DeadlineExceeded) as caught:
            await adapter.props()
        adapter.health_does = ValueError("bug")
        with pytest.raises(AdapterFailed) as broken:
            await adapter.props()

    assert caught.value.stage == "control"
    assert isinstance(broken.value.__cause__, ValueError)


@pytest.mark.spec("ORCH-3061-013")
async def test_tensors_are_unsupported_unless_the_author_has_them() -> None:
    request = InferRequest(model="m", inputs=())
    async with Minimal() as adapter:
        with pytest.raises(Unsupported):
            await adapter.infer(request)
        with pytest.raises(Unsupported):
            await anext(adapter.infer_stream(request))


async def test_tensors_need_an_open_adapter() -> None:
    with pytest.raises(AdapterClosed):
        await Minimal().infer(InferRequest(model="m", inputs=()))


async def test_the_mock_returns_tensors_as_they_came() -> None:
    tensor = Tensor.from_numpy("x", np.arange(6, dtype=np.float32).reshape(2, 3))
    async with MockAdapter() as adapter:
        response = await adapter.infer(InferRequest(model="mock", inputs=(tensor,)))
        streamed = [one async for one in adapter.infer_stream(InferRequest(model="mock", inputs=(tensor,)))]

    assert np.array_equal(response["x"].to_numpy(), tensor.to_numpy())
    assert len(streamed) == 1

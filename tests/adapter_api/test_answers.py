"""The final methods keep their promises, whatever an author's methods return and raise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from adapter_api import (
    AdapterClosed,
    AdapterError,
    Alternative,
    CancelReceipt,
    Capacity,
    End,
    EngineFailed,
    EngineProps,
    Error,
    HealthReport,
    HealthState,
    InferRequest,
    Metrics,
    Started,
    TaskRequest,
    Timings,
    Token,
    TokenEvent,
    TokenStream,
    Usage,
    WorkerAdapter,
    decode_event,
    encode_event,
)
from adapter_api.testing import collect, find_violation

pytestmark = pytest.mark.anyio

READY = HealthReport(state=HealthState.READY, live=True, ready=True)
REQUEST = InferRequest(model="m", inputs=())
FAULTS = {"protocol_violation", "adapter_failed"}


class OwnKind(BaseException):
    """Neither an `Exception` nor a cancellation."""


class Malformed(AdapterError):
    code = "engine_failed"

    def __init__(self) -> None:
        """As an author does it who does not call ours."""


class Author(WorkerAdapter):
    """Whose methods are what a test makes of them."""

    engine = "author"
    control_timeout_s = 2.0

    def __init__(self, **methods: Callable[..., Any]) -> None:
        for name, method in methods.items():
            setattr(self, name, method)

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine=self.engine, model=task.model)
        yield Token(0, "a")
        await anyio.sleep_forever()

    async def _health(self, *, canary: bool) -> HealthReport:
        return READY

    async def _props(self) -> EngineProps:
        return EngineProps(engine=self.engine)


def returning(value: Any) -> Callable[..., Any]:
    async def method(*args: Any, **kwargs: Any) -> Any:
        return value

    return method


def at_once(value: Any) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return method


def raising(exc: BaseException) -> Callable[..., Any]:
    async def method(*args: Any, **kwargs: Any) -> Any:
        raise exc

    return method


def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
    yield 1


async def async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    yield 1


def wrong_methods() -> dict[str, Callable[..., Any]]:
    """Fresh ones each time: an exception keeps the traceback of its last raise."""
    raised = [ValueError("secret"), OwnKind("secret"), StopIteration(1), StopAsyncIteration(), GeneratorExit(),
              asyncio.CancelledError(), Malformed(), BaseExceptionGroup("g", [OwnKind()])]  # fmt: skip
    return {
        "returns None": returning(None),
        "returns a list": returning([]),
        "returns a string": returning("ready"),
        "is not a coroutine": at_once(READY),
        "returns None at once": at_once(None),
        "is a generator": generator,
        "is an asynchronous generator": async_generator,
        **{f"raises {type(exc).__name__}": raising(exc) for exc in raised},
        **{f"raises {type(exc).__name__} at once": at_once(exc) for exc in raised},
    }


WRONG = sorted(wrong_methods())


@pytest.mark.spec("ORCH-3056-025", "ORCH-3057-016")
@pytest.mark.parametrize("how", [*WRONG, "has wrong fields", "has no number", "has negative counts"])
async def test_health_reports_whatever_the_probe_is(how: str) -> None:
    wrong = wrong_methods() | {
        "has wrong fields": returning(HealthReport(state="fine", live=None, ready=1)),  # type: ignore[arg-type]
        "has no number": returning(
            HealthReport(state=HealthState.READY, live=True, ready=True, latency_s=float("nan"))
        ),
        "has negative counts": returning(
            HealthReport(state=HealthState.READY, live=True, ready=True, capacity=Capacity(slots_free=-1))
        ),
    }
    async with Author(_health=wrong[how]) as adapter:
        report = await adapter.health(canary=True)

    assert (report.state, report.live, report.ready) == (HealthState.UNREACHABLE, False, False)
    assert report.detail
    assert "secret" not in report.detail


@pytest.mark.spec("ORCH-3056-025")
@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize(
    "method, call",
    [
        ("_props", lambda adapter: adapter.props()),
        ("_props", lambda adapter: adapter.engine_version()),
        ("_infer", lambda adapter: adapter.infer(REQUEST)),
    ],
    ids=["props", "engine_version", "infer"],
)
async def test_what_may_raise_raises_one_error_of_the_contract(
    method: str, call: Callable[[WorkerAdapter], Any], how: str
) -> None:
    async with Author(**{method: wrong_methods()[how]}) as adapter:
        with pytest.raises(AdapterError) as caught:
            await call(adapter)

    assert caught.value.code in FAULTS
    assert "secret" not in caught.value.message


@pytest.mark.spec("ORCH-3056-025", "ORCH-3060-019")
@pytest.mark.parametrize("how", WRONG)
async def test_cancel_never_raises(how: str) -> None:
    async with Author(_cancel=wrong_methods()[how]) as adapter:
        stream = adapter.submit(TaskRequest(job_id="j", model="m", prompt="p"))
        await anext(stream)
        receipt = await adapter.cancel("j")
        rest = await collect(stream)

    assert (receipt.found, receipt.sent, receipt.acknowledged) == (True, False, True)
    assert [type(event) for event in rest] == [End]


@pytest.mark.spec("ORCH-3056-025", "ORCH-3056-023")
@pytest.mark.parametrize("how", [how for how in WRONG if how.startswith("raises")])
async def test_closing_never_raises_and_opening_raises_one_error_of_the_contract(how: str) -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    opening = Author(_open=wrong_methods()[how], _close=close)
    with pytest.raises(AdapterError):
        await opening.__aenter__()
    async with Author(_close=wrong_methods()[how]) as closing:
        pass

    assert closed == [True]
    assert (await closing.health()).state is HealthState.STOPPED


@pytest.mark.spec("ORCH-3056-025", "ORCH-3055-002")
@pytest.mark.parametrize("how", [how for how in WRONG if how != "is an asynchronous generator"])
async def test_submit_never_raises_for_a_task(how: str) -> None:
    async with Author(_submit=wrong_methods()[how]) as adapter:
        stream = adapter.submit(TaskRequest(job_id="j", model="m", prompt="p"))
        events = await collect(stream)

        assert adapter.live_jobs == ()

    assert [type(event) for event in events] == [Error]
    assert events[0].code in FAULTS  # type: ignore[union-attr]
    assert stream.repairs == 1


@pytest.mark.spec("ORCH-3056-025")
async def test_the_error_names_the_method_and_what_was_wrong() -> None:
    class Returns(Author):
        async def _submit(self, task: TaskRequest) -> Any:  # type: ignore[override]
            return [Started(job_id="j", engine="e", model="m")]

        async def _props(self) -> Any:
            return {}

    async with Returns() as adapter:
        events = await collect(adapter.submit(TaskRequest(job_id="j", model="m", prompt="p")))
        with pytest.raises(AdapterError) as caught:
            await adapter.props()

    assert "_submit returned a coroutine and has to be an asynchronous generator" in events[0].message  # type: ignore[union-attr]
    assert caught.value.message.endswith("Returns._props returned a dict and has to return an EngineProps")


@pytest.mark.spec("ORCH-3056-025")
@pytest.mark.parametrize("how", WRONG)
async def test_a_tensor_stream_raises_only_errors_of_the_contract(how: str) -> None:
    async with Author(_infer_stream=wrong_methods()[how]) as adapter:
        stream = adapter.infer_stream(REQUEST)
        with pytest.raises(AdapterError) as caught:
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()

    assert caught.value.code in FAULTS


@pytest.mark.spec("ORCH-3059-031", "ORCH-3059-032")
@pytest.mark.parametrize("tokens_before", [0, 1, 3])
@pytest.mark.parametrize(
    "raised",
    [OwnKind, StopIteration, StopAsyncIteration, GeneratorExit, asyncio.CancelledError, ZeroDivisionError, Malformed],
)
async def test_whatever_an_author_raises_becomes_one_error(raised: type[BaseException], tokens_before: int) -> None:
    async def source() -> AsyncIterator[TokenEvent]:
        yield Started(job_id="j", engine="e", model="m")
        for index in range(tokens_before):
            await anyio.lowlevel.checkpoint()
            yield Token(index, "x")
        raise raised

    stream = TokenStream(source(), job_id="j")
    events = await collect(stream)

    assert find_violation(events) is None
    assert [event.code for event in events if isinstance(event, Error)] == ["adapter_failed"]
    assert stream.repairs == 1


WRONG_EVENTS: dict[str, Any] = {
    "token without text": Token(3, None),  # type: ignore[arg-type]
    "token of bytes": Token(3, b"x"),  # type: ignore[arg-type]
    "token with a string for an index": Token("3", "x"),  # type: ignore[arg-type]
    "token without a probability": Token(3, "x", logprob=float("nan")),
    "token of an impossible probability": Token(3, "x", logprob=float("inf")),
    "token with a string for a probability": Token(3, "x", logprob="-1"),  # type: ignore[arg-type]
    "token with a string for an id": Token(3, "x", token_id="7", logprob=-1.0),  # type: ignore[arg-type]
    "token with foreign alternatives": Token(3, "x", logprob=-1.0, alternatives=("y",)),  # type: ignore[arg-type]
    "token with no alternatives at all": Token(3, "x", logprob=-1.0, alternatives=7),  # type: ignore[arg-type]
    "alternative without a probability": Token(3, "x", logprob=-1.0, alternatives=(Alternative("y", float("-inf")),)),
    "end of an unknown reason": End(finish_reason="done"),  # type: ignore[arg-type]
    "end in an error's word": End(finish_reason="error"),  # type: ignore[arg-type]
    "end without a reason": End(finish_reason=None),  # type: ignore[arg-type]
    "negative usage": End(finish_reason="stop", usage=Usage(tokens_out=-1)),
    "usage in words": End(finish_reason="stop", usage=Usage(tokens_out="3")),  # type: ignore[arg-type]
    "usage that is none": End(finish_reason="stop", usage=None),  # type: ignore[arg-type]
    "timings that are no numbers": End(finish_reason="stop", timings=Timings(total_ms=float("nan"))),
    "metrics of a list": Metrics(engine=["x"]),  # type: ignore[arg-type]
    "metrics that are no numbers": Metrics(engine={"x": float("inf")}),
    "error without a message": Error(code="engine_failed", message=None, retryable=False),  # type: ignore[arg-type]
    "nothing": None,
    "a tuple": (Token(3, "x"),),
    "an exception": EngineFailed("as an event"),
    "a class": Token,
}


@pytest.mark.spec("ORCH-3059-050", "ORCH-3059-034")
@pytest.mark.parametrize("name", WRONG_EVENTS)
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in a list"])
async def test_an_event_that_says_something_impossible_is_a_protocol_violation(name: str, together: bool) -> None:
    lawful = [Started(job_id="j", engine="e", model="m"), *(Token(index, "x") for index in range(3))]

    async def source() -> AsyncIterator[Any]:
        for event in lawful:
            await anyio.lowlevel.checkpoint()
            yield event
        await anyio.lowlevel.checkpoint()
        yield [WRONG_EVENTS[name]] if together else WRONG_EVENTS[name]
        yield End(finish_reason="stop")

    stream = TokenStream(source(), job_id="j")
    events = await collect(stream)

    assert find_violation(events) is None
    assert events[:4] == lawful
    assert [event.code for event in events[4:] if isinstance(event, Error)] == ["protocol_violation"]
    assert [decode_event(encode_event(event)) for event in events] == events
    assert stream.repairs == 1


@pytest.mark.spec("ORCH-3059-050")
async def test_what_the_contract_allows_passes() -> None:
    said = [
        Started(job_id="j", engine="e", model="m", seed=3, predicted_start_ms=0.5),
        Token(0, "x", logprob=-0.5, token_id=7, alternatives=(Alternative("x", -0.5, 7), Alternative("y", -2, 8))),
        Token(1, "", logprob=0),
        Metrics(tokens_in=3, engine={"kv_warmth": False, "load": 0.5, "name": "x", "n": 1}),
    ]

    async def source() -> AsyncIterator[Any]:
        for event in said:
            yield event
        yield End(finish_reason="stop", usage=Usage(tokens_in=0, tokens_out=2))

    stream = TokenStream(source(), job_id="j")

    assert (await collect(stream))[:-1] == said
    assert stream.repairs == 0


@pytest.mark.spec("ORCH-3056-003")
@pytest.mark.parametrize("reading", [False, True], ids=["unread", "while it is read"])
async def test_closing_a_tensor_stream_twice_at_once_ends_its_reader_quietly(reading: bool) -> None:
    released, waiting = [], anyio.Event()

    async def infer_stream(request: InferRequest) -> AsyncIterator[Any]:
        try:
            waiting.set()
            await anyio.sleep_forever()
            yield
        finally:
            released.append(True)

    async with Author(_infer_stream=infer_stream) as adapter:
        stream = adapter.infer_stream(REQUEST)
        responses: list[Any] = []

        async def read() -> None:
            responses.extend([response async for response in stream])
            await anyio.lowlevel.checkpoint()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                if reading:
                    group.start_soon(read)
                    await waiting.wait()
                group.start_soon(stream.aclose)
                group.start_soon(stream.aclose)
            await read()

    assert responses == []
    assert released == [True] * reading


@pytest.mark.spec("ORCH-3056-003")
async def test_whoever_closes_an_adapter_second_waits_for_the_first() -> None:
    order: list[str] = []
    go_on = anyio.Event()

    async def close() -> None:
        await go_on.wait()
        order.append("released")

    adapter = Author(_close=close)
    await adapter.__aenter__()

    async def second() -> None:
        await adapter.aclose()
        order.append("second is done")

    async with anyio.create_task_group() as group:
        group.start_soon(adapter.aclose)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        go_on.set()

    assert order == ["released", "second is done"]
    with pytest.raises(AdapterClosed):
        await adapter.__aenter__()


@pytest.mark.spec("ORCH-3060-002")
async def test_a_receipt_does_not_acknowledge_what_was_said_already() -> None:
    async def submit(task: TaskRequest) -> AsyncIterator[Any]:
        yield [Started(job_id=task.job_id, engine="e", model="m"), Token(0, "a")]
        yield [Token(1, "b"), Token(2, "c"), End(finish_reason="stop")]

    ended = anyio.Event()

    async def cancel(job_id: str) -> CancelReceipt:
        await anext(stream)  # the task ends by itself meanwhile, and its last words wait to be read
        ended.set()
        return CancelReceipt(found=True, sent=True, mode="hard")

    async with Author(_submit=submit, _cancel=cancel) as adapter:
        stream = adapter.submit(TaskRequest(job_id="j", model="m", prompt="p"))
        assert [type(await anext(stream)) for _ in range(2)] == [Started, Token]
        receipt = await adapter.cancel("j")
        rest = await collect(stream)

    assert ended.is_set()
    assert [type(event) for event in rest] == [Token, End]
    assert not receipt.acknowledged

"""Two endings of a task at once, through the real adapter and a Triton on the wire."""

from __future__ import annotations

import itertools

import anyio
import anyio.lowlevel
import pytest

from adapter_api import End, TaskRequest, TokenEvent, TokenStream
from adapter_api.testing import find_violation
from tests.orchestrator.pools.test_monitor import eventually
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio

ENDINGS = ("stop", "cancel", "close", "deadline", "adapter closes")
REST = (("flowing", 2), ("flowing", 0), ("hanging", 2))


@pytest.mark.spec("ORCH-3059-049", "ORCH-3060-022")
@pytest.mark.parametrize(
    "life, tokens_first",
    [("hanging", 0), *(pytest.param(*rest, marks=pytest.mark.long) for rest in REST)],
)
async def test_two_endings_at_once_leave_one_terminal_and_no_call(life: str, tokens_first: int) -> None:
    with FakeTriton() as fake:
        model = fake.model("m").respond_with_text(" ".join("x" * 2000))
        if life == "hanging":
            model.hang(after=tokens_first)
        for first, second in itertools.product(ENDINGS, ENDINGS):
            async with TritonAdapter(TritonSettings(url=fake.grpc_url)) as adapter:
                stream = adapter.submit(TaskRequest(job_id="j", model="m", prompt="p", max_tokens=2000, timeout_s=60))
                events = await _ended_twice(adapter, stream, first, second, tokens_first)
                assert adapter.live_jobs == ()

            assert find_violation(events) is None, (first, second)
            assert stream.terminal == events[-1]
            assert stream.repairs == 0
        await eventually(lambda: model.running == 0)


async def _ended_twice(
    adapter: TritonAdapter, stream: TokenStream, first: str, second: str, tokens_first: int
) -> list[TokenEvent]:
    """Return what a reader sees while the task is ended in two ways in one round of the loop."""
    events: list[TokenEvent] = []
    enough = anyio.Event()

    async def read() -> None:
        async for event in stream:
            events.append(event)
            if len(events) > tokens_first:
                enough.set()

    async def end(how: str) -> None:
        if how == "stop":
            await stream.stop(End(finish_reason="cancelled"))
        elif how == "cancel":
            await adapter.cancel("j")
        elif how == "close":
            await stream.aclose()
        elif how == "deadline":
            stream._source.interrupt()  # as its timer does
        else:
            await adapter.aclose()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            if tokens_first:
                await enough.wait()
            else:
                await anyio.lowlevel.checkpoint()
            group.start_soon(end, first)
            group.start_soon(end, second)
    return events

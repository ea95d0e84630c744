"""Two endings of one task at once, over a real socket: the body ends as it should, with one terminal event."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from adapter_api import decode_event
from adapter_api.testing import find_violation
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.sse_reading import Frame, frames
from tests.orchestrator.http.test_tasks import TASK, mock
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio

FLOWING = {"delay_s": 0.0}
WAITING = {"hang_after": 2}


@pytest.mark.spec("ORCH-3064-032", "ORCH-3060-022")
@pytest.mark.parametrize("keep", [False, True], ids=["", "kept"])
@pytest.mark.parametrize("beside", ["a second DELETE", "a DELETE whose client leaves", "the deadline", "a drain"])
@pytest.mark.parametrize("options", [FLOWING, WAITING], ids=["flowing", "waiting"])
async def test_a_delete_beside_another_ending_ends_the_body_with_one_terminal(
    serve: Serve, options: dict[str, Any], beside: str, keep: bool
) -> None:
    found: list[Frame] = []
    fields = {**TASK, "max_tokens": 2_000, "job_id": "j", "timeout_s": 30}
    if keep:
        fields["on_disconnect"] = "keep"
    async with serve(options) as host:

        async def read() -> None:
            async with host.client.stream("POST", "/v2/tasks", json=fields) as response:
                async for frame in frames(response):
                    found.append(frame)
                    if sum(frame.event == "token" for frame in found) == 2:
                        flows.set()

        async def delete() -> None:
            receipts.append((await host.client.delete("/v2/tasks/j")).json())

        async def delete_and_leave() -> None:
            with anyio.CancelScope() as leaving:
                async with anyio.create_task_group() as both:
                    both.start_soon(delete)
                    await anyio.lowlevel.checkpoint()
                    leaving.cancel()

        async def deadline() -> None:
            for ticket in host.orchestrator._jobs:
                if ticket.stream is not None:
                    ticket.stream._source.interrupt()  # as its timer does

        async def drain() -> None:
            await host.client.post("/v2/pools/default/drain", json={})

        flows = anyio.Event()
        receipts: list[dict[str, Any]] = []
        others = {
            "a second DELETE": delete, "a DELETE whose client leaves": delete_and_leave,
            "the deadline": deadline, "a drain": drain,
        }  # fmt: skip
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await flows.wait()
                group.start_soon(delete)
                group.start_soon(others[beside])
        await eventually(lambda: not host.orchestrator.live_tasks)
        status = host.orchestrator.task("j")

        assert not mock(host).running

    events = [decode_event(json.dumps(frame.data)) for frame in found if frame.event != "comment"]
    assert find_violation(events) is None
    assert status is not None
    assert status.terminal == events[-1]
    assert all(receipt["acknowledged"] for receipt in receipts if receipt["found"])

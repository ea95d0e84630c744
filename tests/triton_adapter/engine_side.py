"""What the engine itself says about its generations: the `slow` demo model counts them."""

from __future__ import annotations

import json
from typing import Any

import anyio

from adapter_api import End, TaskRequest
from adapter_api.testing import collect, text_of
from triton_adapter import TritonAdapter


async def probe(adapter: TritonAdapter, request_id: str | None = None, *, model: str = "slow") -> dict[str, Any]:
    """Return the model's own counts, and the `state` of one request."""
    parameters: dict[str, bool | int | float | str] = {"triton.probe": True}
    if request_id is not None:
        parameters["triton.probe_id"] = request_id
    # As a text, which comes by every way.
    events = await collect(adapter.submit(TaskRequest(model=model, prompt="probe", parameters=parameters)))
    assert isinstance(events[-1], End), events[-1]
    found: dict[str, Any] = json.loads(text_of(events))
    return found


async def wait_for_state(
    adapter: TritonAdapter, request_id: str, state: str, *, timeout_s: float = 5.0, model: str = "slow"
) -> None:
    """Return when the engine says that the request is in `state`; fail when it does not get there."""
    with anyio.fail_after(timeout_s):
        while (found := (await probe(adapter, request_id, model=model))["state"]) != state:
            assert found in ("unknown", "running"), f"request is {found}, not {state}"

"""Deadlines by stage."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapter_kit.watchdog import Watchdog

pytestmark = pytest.mark.anyio
no_spec = "the kit's own part of ORCH-3056's deadlines, which are tested with an engine"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def expired(**changes: Any) -> tuple[Watchdog, asyncio.Event]:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    patience = {"first_token_s": 600.0, "inter_token_s": 600.0, "total_s": 600.0} | changes
    watch = Watchdog(over.set, ends=loop.time() + patience["total_s"], **patience)
    watch.start()
    return watch, over


@pytest.mark.parametrize("changes, seen, stage", [
    ({"first_token_s": 0.01}, False, "first_token"),
    ({"inter_token_s": 0.01}, True, "inter_token"),
    ({"total_s": 0.01}, False, "total"),
])  # fmt: skip
async def test_whichever_deadline_runs_out_is_named(changes: dict[str, float], seen: bool, stage: str) -> None:
    watch, over = await expired(**changes)
    watch.first_seen, watch.waiting_since = seen, asyncio.get_running_loop().time()

    await asyncio.wait_for(over.wait(), 30)

    assert watch.stage == stage
    assert watch.error("model 'm'").stage == stage


async def test_silence_while_nobody_waits_for_the_engine_is_not_the_engines() -> None:
    watch, over = await expired(first_token_s=0.001, inter_token_s=0.001, total_s=0.1)

    await asyncio.wait_for(over.wait(), 30)

    assert watch.stage == "total", "nobody waited, so that only the whole task could run out"


async def test_one_that_was_stopped_says_nothing_more() -> None:
    watch, over = await expired(total_s=0.001)
    watch.stop()
    later, after = await expired(total_s=0.02)

    await asyncio.wait_for(after.wait(), 30)

    assert later.stage == "total"
    assert not over.is_set()
    assert watch.stage is None

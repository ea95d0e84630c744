"""Kept tasks outlive a host that is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.orchestrator.http.sse_reading import Frame, frames, read_all
from tests.orchestrator.test_serve import CONFIG, process

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3064-025")]

TASK: dict[str, Any] = {"model": "mock", "prompt": "p", "on_disconnect": "keep"}


async def submit(client: httpx.AsyncClient, job_id: str, tokens: int, *, leave_after: int | None = None) -> list[Frame]:
    found: list[Frame] = []
    fields = {**TASK, "job_id": job_id, "max_tokens": tokens}
    async with client.stream("POST", "/v2/tasks", json=fields) as response:
        async for frame in frames(response):
            found.append(frame)
            if len(found) == leave_after:
                break
    return found


async def test_kept_tasks_can_be_read_after_the_host_was_killed(tmp_path: Path) -> None:
    settings = CONFIG + f'\n[retention]\nfile = "{tmp_path / "journal.db"}"\n'
    with process(tmp_path, settings) as host:
        async with httpx.AsyncClient(base_url=host.ready["url"], trust_env=False, timeout=30) as client:
            finished = await submit(client, "finished", 5)
            cut = await submit(client, "cut", 10_000, leave_after=7)
        host.popen.kill()
        await host.ended()

    with process(tmp_path, settings) as host:
        async with httpx.AsyncClient(base_url=host.ready["url"], trust_env=False, timeout=30) as client:
            again = await read_all(await client.get("/v2/tasks/finished/events"))
            rest = await read_all(await client.get("/v2/tasks/cut/events", headers={"Last-Event-ID": cut[-1].id or ""}))
            whole = await read_all(await client.get("/v2/tasks/cut/events"))
            statuses = {name: (await client.get(f"/v2/tasks/{name}")).json() for name in ("finished", "cut")}
            deleted = await client.delete("/v2/tasks/finished")
            taken = await client.post("/v2/tasks", json={**TASK, "job_id": "finished"})
        log = host.log.read_text()

    assert again == finished
    assert whole[: len(cut)] == cut, "what was shown is what is read again"
    assert whole[len(cut) :] == rest
    assert [frame.event for frame in rest if frame.event in ("end", "error")] == ["error"]
    assert (rest[-1].data["code"], rest[-1].data["retryable"]) == ("stream_incomplete", True)
    assert statuses["finished"]["terminal"]["type"] == "end"
    assert statuses["cut"]["terminal"] == rest[-1].data
    assert {status["state"] for status in statuses.values()} == {"ended"}
    assert (deleted.status_code, deleted.json()["found"]) == (200, False)
    assert taken.status_code == 409
    assert "1 that ended can be read again, 1 that ran" in log

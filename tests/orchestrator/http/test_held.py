"""What a request makes the host hold is counted for as long as that is held: prompts, and copies for shadows."""

from __future__ import annotations

import pytest

from adapter_kit.chat_template import read_chat_template
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio

SIZE = 20_000
CHAT = {"model": "mock", "messages": [{"role": "user", "content": "x" * SIZE}], "max_tokens": 2}


@pytest.mark.spec("ORCH-3064-053")
async def test_a_prompt_that_is_made_of_messages_counts_beside_them(serve: Serve) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    async with serve({"delay_s": 30.0}, pool={"chat_template": template}) as host:
        pending = host.serving.service.pending
        async with host.client.stream("POST", "/v2/tasks", json=CHAT):
            held = pending.bytes
        await eventually(lambda: not pending.bytes)

    assert read_chat_template(template) is not None
    assert held > 2 * SIZE


@pytest.mark.spec("ORCH-3064-053")
async def test_a_prompt_for_which_there_is_no_room_is_refused(serve: Serve) -> None:
    template = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"
    limits = {"max_pending_bytes": 2 * SIZE}
    async with serve(pool={"chat_template": template}, server={"limits": limits}) as host:
        refused = await host.client.post("/v2/tasks", json=CHAT)
        small = await host.client.post("/v2/tasks", json={**CHAT, "messages": [{"role": "user", "content": "x"}]})

        assert host.serving.service.pending.bytes == 0
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    assert "retry-after" in refused.headers
    assert small.status_code == 200


@pytest.mark.spec("ORCH-3064-053")
async def test_a_copy_for_a_shadow_counts_until_it_ends_though_its_task_has_ended(serve: Serve) -> None:
    def pool(id: str, **more: object) -> dict[str, object]:
        return {"id": id, "adapter": "mock", "replicas": [{"id": "r0", **more}]}

    shadow = {**pool("copy", options={"delay_s": 30.0}), "shadow_of": "now"}
    async with serve(pools=[pool("now"), shadow]) as host:
        pending = host.serving.service.pending
        await host.client.post("/v2/tasks", json={"model": "mock", "prompt": "x" * SIZE, "max_tokens": 1})
        copy = adapter_of(host.orchestrator, "r0", "copy")
        await eventually(lambda: bool(getattr(copy, "running", None)))
        held = pending.bytes
        for job in tuple(getattr(copy, "running", ())):
            await host.orchestrator.cancel(job)
        await eventually(lambda: not pending.bytes)

    assert held > SIZE

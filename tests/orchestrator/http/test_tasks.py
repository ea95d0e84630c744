"""The task API, over a real socket."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from adapter_api import decode_event
from adapter_api.testing import MockAdapter, find_violation, text_of
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.sse_reading import Frame, frames, read_all
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio

TASK: dict[str, Any] = {"model": "mock", "prompt": "Hello", "max_tokens": 3}


async def submit(host: Host, fields: dict[str, Any] | None = None, **more: Any) -> tuple[Any, list[Frame]]:
    async with host.client.stream("POST", "/v2/tasks", json={**TASK, **(fields or {}), **more}) as response:
        return response, await read_all(response)


def mock(host: Host, replica_id: str = "r0") -> MockAdapter:
    adapter = adapter_of(host.orchestrator, replica_id)
    assert isinstance(adapter, MockAdapter)
    return adapter


@pytest.mark.spec("ORCH-3064-001")
async def test_a_task_streams_its_events_with_names_and_ids(serve: Serve) -> None:
    async with serve({"reply": "one two three"}) as host:
        response, found = await submit(host, job_id="j1")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-job-id"] == "j1"
    assert [frame.event for frame in found] == ["started", "token", "token", "token", "metrics", "end"]
    assert [frame.id for frame in found] == [str(number) for number in range(6)]
    events = [decode_event(json.dumps(frame.data)) for frame in found]
    assert find_violation(events) is None
    assert text_of(events) == "one two three"


@pytest.mark.spec("ORCH-3064-002")
async def test_the_head_tells_the_place_in_the_queue_at_once(serve: Serve) -> None:
    async with serve({"slots": 1, "delay_s": 0.01}) as host:
        await submit(host)
        running = host.orchestrator.submit(_task(max_tokens=1000))
        async with host.client.stream("POST", "/v2/tasks", json=TASK) as response:
            assert response.headers["x-queue-position"] == "0"
            assert int(response.headers["x-predicted-start-ms"]) > 0
            await running.aclose()
            assert (await read_all(response))[-1].event == "end"


def _task(**fields: Any) -> Any:
    from tests.orchestrator.pooling import task

    return task(**fields)


@pytest.mark.spec("ORCH-3064-003")
@pytest.mark.parametrize(
    "fields, status, code, said",
    [
        ({"model": "nope"}, 404, "model_not_found", "there are mock"),
        ({"max_tokens": 0}, 400, "invalid_request", "max_tokens"),
        ({"wrong": 1}, 400, "invalid_request", "wrong: unknown field"),
        ({"messages": [{"role": "user", "content": "x"}]}, 400, "invalid_request", "not both"),
        ({"on_disconnect": "maybe"}, 400, "invalid_request", "on_disconnect: must be one of cancel, keep"),
        ({"history": "yes"}, 400, "invalid_request", "history: must be true or false"),
        ({"history": True}, 400, "invalid_request", "session_id"),
    ],
)
async def test_what_is_refused_on_arrival_has_a_status_and_a_code(
    serve: Serve, fields: dict[str, Any], status: int, code: str, said: str
) -> None:
    async with serve() as host:
        response = await host.client.post("/v2/tasks", json={**TASK, **fields})

    assert response.status_code == status
    error = response.json()["error"]
    assert error["code"] == code
    assert said in error["message"]
    assert "Hello" not in response.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"text"'])
async def test_a_body_that_is_no_object_is_refused(serve: Serve, body: bytes) -> None:
    async with serve() as host:
        response = await host.client.post("/v2/tasks", content=body)

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


async def test_a_full_queue_says_when_to_come_back(serve: Serve) -> None:
    async with serve({"slots": 1, "delay_s": 0.01}, pool={"queue": {"limit": 0}}) as host:
        await submit(host)
        running = host.orchestrator.submit(_task(max_tokens=1000))
        response = await host.client.post("/v2/tasks", json=TASK)
        await running.aclose()

    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1


async def test_an_error_after_the_head_is_an_event(serve: Serve) -> None:
    async with serve({"fail": "engine_failed", "fail_after": 1}) as host:
        response, found = await submit(host)

    assert response.status_code == 200
    assert [frame.event for frame in found] == ["started", "token", "error"]
    assert found[-1].data["code"] == "engine_failed"


@pytest.mark.spec("ORCH-3064-004")
async def test_a_client_that_goes_away_cancels_its_task_in_the_engine(serve: Serve) -> None:
    async with serve({"delay_s": 0.01}) as host:
        async with host.client.stream("POST", "/v2/tasks", json={**TASK, "max_tokens": 1000}) as response:
            async for frame in frames(response):
                if frame.event == "token":
                    assert mock(host).running
                    break
        await eventually(lambda: not mock(host).running)
        await eventually(lambda: not host.orchestrator.live_tasks)

        assert host.orchestrator.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3064-004")
async def test_a_client_that_goes_away_while_its_task_waits_leaves_the_queue(serve: Serve) -> None:
    async with serve({"slots": 1, "hang_after": 0}) as host:
        running = host.orchestrator.submit(_task())
        async with host.client.stream("POST", "/v2/tasks", json=TASK):
            await eventually(lambda: host.orchestrator.pools[0].queue_depth == 1)
        await eventually(lambda: host.orchestrator.pools[0].queue_depth == 0)
        await running.aclose()


@pytest.mark.spec("ORCH-3064-004")
@pytest.mark.parametrize("later", [False, True])
async def test_a_client_that_has_sent_the_next_request_already_goes_away_like_any_other(
    serve: Serve, later: bool
) -> None:
    async with serve({"hang_after": 1}) as host:
        address, _, port = host.url.removeprefix("http://").partition(":")
        body = json.dumps(TASK).encode()
        asked = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        async with await anyio.connect_tcp(address, int(port)) as stream:
            await stream.send(asked if later else asked + asked)
            await eventually(lambda: bool(mock(host).running))
            if later:
                with anyio.fail_after(5):
                    while b"event: token" not in await stream.receive():
                        pass
                await stream.send(asked)
        await eventually(lambda: not host.orchestrator.live_tasks)

        assert host.orchestrator.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3064-005")
async def test_silence_is_filled_with_heartbeats(serve: Serve) -> None:
    async with serve({"hang_after": 1}, server={"heartbeat_s": 0.02}) as host:
        async with host.client.stream("POST", "/v2/tasks", json={**TASK, "max_tokens": 5}) as response:
            seen = []
            async for frame in frames(response):
                seen.append(frame.event)
                if seen.count("comment") == 3:
                    break

    assert "token" in seen


async def test_a_task_can_be_looked_at_and_cancelled(serve: Serve) -> None:
    async with serve({"delay_s": 0.01}) as host:
        fields = {**TASK, "max_tokens": 1000, "job_id": "mine"}
        async with host.client.stream("POST", "/v2/tasks", json=fields) as response:
            reading = frames(response)
            async for frame in reading:
                if frame.event == "token":
                    break
            status = (await host.client.get("/v2/tasks/mine")).json()
            listed = (await host.client.get("/v2/tasks")).json()
            receipt = (await host.client.delete("/v2/tasks/mine")).json()
            rest = [frame async for frame in reading]
        after = (await host.client.get("/v2/tasks/mine")).json()
        again = (await host.client.delete("/v2/tasks/mine")).json()

    assert (status["state"], status["replica_id"]) == ("running", "r0")
    assert [task["job_id"] for task in listed["tasks"]] == ["mine"]
    assert (receipt["found"], receipt["acknowledged"], receipt["mode"]) == (True, True, "hard")
    assert rest[-1].data["finish_reason"] == "cancelled"
    assert (after["state"], after["terminal"]["finish_reason"]) == ("ended", "cancelled")
    assert not again["found"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_task_nobody_knows_is_not_found(serve: Serve, method: str) -> None:
    async with serve() as host:
        response = await host.client.request(method, "/v2/tasks/nope")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.spec("ORCH-3064-006")
async def test_a_kept_task_goes_on_and_is_resumed_without_a_gap(serve: Serve) -> None:
    async with serve({"delay_s": 0.002}) as host:
        fields = {**TASK, "max_tokens": 30, "job_id": "kept", "on_disconnect": "keep", "seed": 1}
        first: list[Frame] = []
        async with host.client.stream("POST", "/v2/tasks", json=fields) as response:
            async for frame in frames(response):
                first.append(frame)
                if len(first) == 5:
                    break
        last = first[-1].id
        assert last is not None
        async with host.client.stream("GET", "/v2/tasks/kept/events", headers={"Last-Event-ID": last}) as response:
            rest = await read_all(response)
        async with host.client.stream("GET", "/v2/tasks/kept/events") as response:
            whole = await read_all(response)

    assert [*first, *rest] == whole
    assert whole[-1].event == "end"
    assert [frame.id for frame in whole] == [str(number) for number in range(len(whole))]


@pytest.mark.spec("ORCH-3064-006")
async def test_what_is_no_longer_kept_is_gone_and_says_so(serve: Serve) -> None:
    async with serve({}, server={"limits": {"keep_events": 2}}) as host:
        await submit(host, job_id="kept", on_disconnect="keep")
        await submit(host, job_id="not-kept")
        early = await host.client.get("/v2/tasks/kept/events")
        late = await host.client.get("/v2/tasks/kept/events", headers={"Last-Event-ID": "3"})
        never = await host.client.get("/v2/tasks/not-kept/events")
        unknown = await host.client.get("/v2/tasks/nope/events")
        wrong = await host.client.get("/v2/tasks/kept/events", headers={"Last-Event-ID": "x"})

    assert [r.status_code for r in (early, never, unknown, wrong)] == [410, 410, 404, 400]
    assert late.text.count("event: ") == 2


@pytest.mark.spec("ORCH-3064-006")
async def test_who_has_read_a_kept_task_to_its_end_is_told_not_to_come_back(serve: Serve) -> None:
    async with serve({}) as host:
        _, read = await submit(host, job_id="kept", on_disconnect="keep")
        last = {"Last-Event-ID": str(read[-1].id)}
        # https://html.spec.whatwg.org/multipage/server-sent-events.html: what makes an EventSource stop.
        again = await host.client.get("/v2/tasks/kept/events", headers=last)

    assert (again.status_code, again.content) == (204, b"")


@pytest.mark.spec("ORCH-3064-006")
async def test_two_readers_of_one_kept_task_get_all_of_it_each(serve: Serve) -> None:
    async with serve({"delay_s": 0.002}) as host:
        fields = {**TASK, "max_tokens": 40, "job_id": "kept", "on_disconnect": "keep"}
        seen: list[list[Frame]] = []

        async def resume(start: str) -> None:
            headers = {"Last-Event-ID": start}
            async with host.client.stream("GET", "/v2/tasks/kept/events", headers=headers) as response:
                seen.append(await read_all(response))

        async with host.client.stream("POST", "/v2/tasks", json=fields) as response:
            async for frame in frames(response):
                if frame.id == "3":
                    break
            async with anyio.create_task_group() as group:
                for start in ("0", "0", "3"):
                    group.start_soon(resume, start)

    by_length = sorted(seen, key=len)
    assert by_length[1] == by_length[2]
    assert by_length[0] == by_length[1][3:]
    assert [frame.id for frame in by_length[1]] == [str(number + 1) for number in range(len(by_length[1]))]


async def test_kept_tasks_are_bounded(serve: Serve) -> None:
    async with serve({"hang_after": 0}, server={"limits": {"keep_tasks": 1}}) as host:
        async with host.client.stream("POST", "/v2/tasks", json={**TASK, "on_disconnect": "keep"}):
            refused = await host.client.post("/v2/tasks", json={**TASK, "on_disconnect": "keep"})

    assert refused.status_code == 429


async def test_kept_tasks_are_bounded_also_where_several_are_rendered_at_a_time(serve: Serve) -> None:
    template = "{% for a in messages %}{% for b in messages %}{{ b.content }}{% endfor %}{% endfor %}"
    chat = {"model": "mock", "messages": [{"role": "user", "content": "hi"}] * 300, "on_disconnect": "keep"}
    plugins = plugin_host(text="tests.orchestrator.pools.test_fit:TextOnly")
    pool = {"adapter": "text", "chat_template": template}
    statuses: list[int] = []

    async def send() -> None:
        async with host.client.stream("POST", "/v2/tasks", json=chat) as response:
            statuses.append(response.status_code)
            await eventually(lambda: len(statuses) == 3)

    limits = {"keep_tasks": 1}
    async with serve({"hang_after": 0}, pool=pool, plugins=plugins, server={"limits": limits}) as host:
        async with anyio.create_task_group() as senders:
            for _ in range(3):
                senders.start_soon(send)
        in_flight = host.orchestrator.pools[0].in_flight

    assert sorted(statuses) == [200, 429, 429]
    assert in_flight == 1


async def test_a_session_with_history_gets_its_conversation(serve: Serve) -> None:
    async with serve({"reply": "the answer"}) as host:
        chat = {"model": "mock", "max_tokens": 5, "session_id": "s", "history": True}
        for said in ("first", "second"):
            await host.client.post("/v2/tasks", json={**chat, "messages": [{"role": "user", "content": said}]})
        asked = mock(host).submitted[-1].messages
        known = (await host.client.get("/v2/sessions/s")).json()
        cleared = (await host.client.delete("/v2/sessions/s")).json()
        after = (await host.client.get("/v2/sessions/s")).json()

    assert asked is not None
    assert [(message.role, message.text) for message in asked] == [
        ("user", "first"), ("assistant", "the answer"), ("user", "second"),
    ]  # fmt: skip
    assert (known["turns"], cleared["turns"], after["turns"]) == (2, 2, 0)


@pytest.mark.spec("ORCH-3064-007")
async def test_bodies_are_bounded_in_size_and_time(serve: Serve) -> None:
    limits = {"max_body_bytes": 2048, "body_timeout_s": 0.05}
    async with serve(server={"limits": limits}) as host:
        large = await host.client.post("/v2/tasks", json={**TASK, "prompt": "x" * 3000})

        async def endless() -> Any:
            for _ in range(10):
                yield b"x" * 500

        async def slow() -> Any:
            yield b"{"
            await anyio.sleep(1)
            yield b"}"

        chunked = await host.client.post("/v2/tasks", content=endless())
        late = await host.client.post("/v2/tasks", content=slow())

    assert [r.status_code for r in (large, chunked, late)] == [413, 413, 408]
    assert large.json()["error"]["code"] == "body_too_large"


@pytest.mark.spec("ORCH-3064-007")
async def test_headers_that_never_end_close_the_connection(serve: Serve) -> None:
    async with serve(server={"limits": {"header_timeout_s": 0.05}}) as host:
        address = host.url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(address[0], int(address[1])) as stream:
            await stream.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
            with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
                await stream.receive()


@pytest.mark.spec("ORCH-3064-008")
async def test_a_reader_that_takes_nothing_is_cut_off_and_slows_nobody(serve: Serve) -> None:
    word = "x" * 200_000
    async with serve(
        {"reply": " ".join([word] * 200)},
        server={"heartbeat_s": 0.1, "limits": {"write_timeout_s": 0.3}},
    ) as host:
        address = host.url.removeprefix("http://").split(":")
        body = b'{"model": "mock", "prompt": "p", "max_tokens": 200}'
        async with await anyio.connect_tcp(address[0], int(address[1])) as stalled:
            head = b"POST /v2/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            await stalled.send(head + body)
            await eventually(lambda: bool(mock(host).running))
            _, found = await submit(host)
            assert found[-1].event == "end"
            await eventually(lambda: not mock(host).running)

        assert host.orchestrator.pools[0].in_flight == 0

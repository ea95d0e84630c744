"""Responses on the OpenAI face, with OpenAI's own client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import anyio
import httpx
import openai
import pytest

from adapter_api import Message
from adapter_api.bounds import MAX_MESSAGES
from adapter_api.testing import MockAdapter
from orchestrator.http.responses_items import MAX_ITEMS
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.http.sse_reading import Frame, frames
from tests.orchestrator.http.test_guard import bearer, key
from tests.orchestrator.http.test_tasks import mock
from tests.orchestrator.http.test_tools_from_text import TEMPLATE
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio

ADD: Any = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}
CALLING = {
    "reply": "It is 3.",
    "reasoning": "Hm, well.",
    "tool_calls": [{"name": "add", "arguments": '{"a": 1, "b": 2}'}],
}
URL = "data:image/png;base64,iVBORw0KGgo="


async def create(host: Host, **fields: Any) -> httpx.Response:
    return await host.client.post("/v1/responses", json={"model": "mock", "input": "Hello", **fields})


async def streamed(host: Host, **fields: Any) -> list[Frame]:
    body = {"model": "mock", "input": "Hello", "stream": True, **fields}
    async with host.client.stream("POST", "/v1/responses", json=body) as response:
        assert response.status_code == 200
        return [frame async for frame in frames(response)]


def asked(host: Host) -> list[tuple[str, str | None]]:
    """What the model was sent last: roles and texts."""
    return [(message.role, message.text or None) for message in mock(host).submitted[-1].messages or ()]


@pytest.mark.spec("ORCH-3075-008")
async def test_a_whole_response(serve: Serve) -> None:
    async with serve({"reply": "one two three"}) as host, client_of(host) as client:
        found = await client.responses.create(model="mock", input="Hello", metadata={"a": "b"})

    assert (found.output_text, found.status, found.object, found.model) == (
        "one two three",
        "completed",
        "response",
        "mock",
    )
    assert found.id.startswith("resp_")
    assert found.metadata == {"a": "b"}
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (1, 3, 4)
    assert [item.type for item in found.output] == ["message"]


@pytest.mark.spec("ORCH-3075-008")
async def test_openais_client_reads_the_stream_by_its_defaults(serve: Serve) -> None:
    async with serve({"reply": "naïve 日本 🙂"}) as host, client_of(host) as client:
        async with client.responses.stream(model="mock", input="Hello") as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()

    assert [event.type for event in events] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert final.output_text == "naïve 日本 🙂"


@pytest.mark.spec("ORCH-3075-008")
async def test_events_are_numbered_named_and_lawful(serve: Serve) -> None:
    async with serve(CALLING) as host:
        for fields in ({}, {"tools": [ADD]}, {"max_output_tokens": 3}):
            found = await streamed(host, **fields)
            require_lawful(found)


def require_lawful(found: list[Frame]) -> None:
    """Items are opened in their order, written to while they are open, and closed as the last event has them."""
    assert [frame.data["sequence_number"] for frame in found] == [*range(len(found))]
    assert all(frame.event == frame.data["type"] for frame in found)
    open_item: dict[str, Any] | None = None
    text = ""
    closed: list[dict[str, Any]] = []
    for frame in found[2:-1]:
        event = frame.data
        assert event["output_index"] == len(closed)
        if event["type"] == "response.output_item.added":
            assert open_item is None
            open_item, text = event["item"], ""
        assert open_item is not None
        if event["type"] == "response.output_item.done":
            assert event["item"]["id"] == open_item["id"]
            written = event["item"].get("arguments")
            assert text == (written if written is not None else event["item"]["content"][0]["text"])
            closed.append(event["item"])
            open_item = None
        elif event["type"].endswith(".delta"):
            assert event["item_id"] == open_item["id"]
            text += event["delta"]
    assert open_item is None
    last = found[-1].data["response"]
    assert last["output"] == closed
    assert last["id"] == found[0].data["response"]["id"]


@pytest.mark.spec("ORCH-3075-009", "ORCH-3075-010")
async def test_an_agent_runs_its_calls_and_goes_on(serve: Serve) -> None:
    async with serve(CALLING) as host, client_of(host) as client:
        first = await client.responses.create(model="mock", input="add 1 2", tools=[ADD], instructions="Be brief.")
        [thought, call] = first.output
        assert (thought.type, call.type) == ("reasoning", "function_call")
        assert call.type == "function_call"
        assert json.loads(call.arguments) == {"a": 1, "b": 2}
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
        second = await client.responses.create(
            model="mock", input=[result], tools=[ADD], previous_response_id=first.id, instructions="Be kind."
        )
        messages = mock(host).submitted[-1].messages
        sessions = {task.session_id for task in mock(host).submitted}

    assert second.output_text == "It is 3."
    assert messages is not None
    assert [(m.role, m.text or None) for m in messages] == [
        ("system", "Be kind."), ("user", "add 1 2"), ("assistant", None), ("tool", "3"),
    ]  # fmt: skip
    assert messages[2].tool_calls[0].id == messages[3].tool_call_id == call.call_id
    assert sessions == {first.id}


@pytest.mark.spec("ORCH-3075-009")
async def test_what_a_client_sends_back_itself_is_the_same_conversation(serve: Serve) -> None:
    async with serve(CALLING) as host, client_of(host) as client:
        conversation: Any = [{"role": "user", "content": "add 1 2"}]
        first = await client.responses.create(model="mock", input=conversation, tools=[ADD], store=False)
        conversation += [item.model_dump(exclude_none=True) for item in first.output]
        [_, call] = first.output
        assert call.type == "function_call"
        conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "3"})
        second = await client.responses.create(model="mock", input=conversation, tools=[ADD], store=False)
        found = asked(host)

    assert second.output_text == "It is 3."
    assert found == [("user", "add 1 2"), ("assistant", None), ("tool", "3")]


@pytest.mark.spec("ORCH-3075-009")
async def test_tools_reach_a_model_of_one_text(serve: Serve) -> None:
    plugins = plugin_host(calculating="tests.orchestrator.http.test_tools_from_text:Calculating")
    pool = {"adapter": "calculating", "chat_template": TEMPLATE}
    async with serve({}, pool=pool, plugins=plugins) as host, client_of(host) as client:
        async with client.responses.stream(model="mock", input="add 20 22", tools=[ADD]) as stream:
            types = [event.type async for event in stream]
            final = await stream.get_final_response()
        [message, call] = final.output
        assert call.type == "function_call"
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "42"}
        second = await client.responses.create(model="mock", input=[result], previous_response_id=final.id, tools=[ADD])

    assert message.type == "message"
    assert json.loads(call.arguments) == {"a": 20, "b": 22}
    assert "response.function_call_arguments.delta" in types
    assert "42" in second.output_text


@pytest.mark.spec("ORCH-3075-009")
async def test_images_and_constraints_reach_a_model_that_takes_them(serve: Serve) -> None:
    seeing = plugin_host(seeing="tests.orchestrator.http.test_responses:Constrained")
    parts: Any = [{"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": URL, "detail": "low"}]
    schema: Any = {"type": "object"}
    async with serve({}, pool={"adapter": "seeing"}, plugins=seeing) as host, client_of(host) as client:
        await client.responses.create(
            model="mock",
            input=[{"role": "user", "content": parts}],
            text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}},
        )
        task = mock(host).submitted[-1]

    assert task.images[0].content == b"\x89PNG\r\n\x1a\n"[: len(task.images[0].content)]
    assert task.response_format is not None
    assert task.response_format.json_schema == schema


class Constrained(MockAdapter):
    """Takes images and formats, and heeds neither."""

    def _capabilities(self) -> Any:
        from adapter_api import Capability

        return super()._capabilities() | {Capability.IMAGES, Capability.RESPONSE_FORMAT}

    def _check(self, task: Any) -> None: ...


@pytest.mark.spec("ORCH-3075-010")
async def test_an_item_may_stand_for_itself_by_its_id(serve: Serve) -> None:
    async with serve(CALLING) as host, client_of(host) as client:
        first = await client.responses.create(model="mock", input="add 1 2", tools=[ADD])
        [thought, call] = first.output
        assert call.type == "function_call"
        named: Any = [
            {"role": "user", "content": "add 1 2"},
            {"type": "item_reference", "id": thought.id},
            {"type": "item_reference", "id": call.id},
            {"type": "function_call_output", "call_id": call.call_id, "output": "3"},
        ]
        await client.responses.create(model="mock", input=named, tools=[ADD])
        found = asked(host)
        with pytest.raises(openai.NotFoundError, match="no item 'msg_nope_0' is kept here"):
            await client.responses.create(model="mock", input=[{"type": "item_reference", "id": "msg_nope_0"}])

    assert found == [("user", "add 1 2"), ("assistant", None), ("tool", "3")]


@pytest.mark.spec("ORCH-3075-010")
async def test_few_bytes_do_not_name_a_conversation_without_end(serve: Serve) -> None:
    async with serve({"reply": "x" * 300_000}, responses={"conversation_bytes": 1_000_000}) as host:
        [item] = (await create(host)).json()["output"]
        refused = await create(host, input=[{"type": "item_reference", "id": item["id"]}] * 4)

    assert refused.status_code == 400
    assert "name less of them" in refused.json()["error"]["message"]


@pytest.mark.spec("ORCH-3075-010")
async def test_what_an_assistant_says_and_calls_is_one_message(serve: Serve) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"}
    spoken = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]}
    after = {"role": "assistant", "content": " There."}
    result = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "3"}]}
    async with serve(CALLING) as host:
        items = [{"role": "user", "content": "q"}, spoken, call, {**call, "call_id": "d"}, after, result]
        answered = await create(host, input=items, tools=[ADD])
        messages = mock(host).submitted[-1].messages

    assert answered.status_code == 200, answered.text
    assert messages is not None
    assert [(m.role, m.text, len(m.tool_calls)) for m in messages] == [
        ("user", "q", 0), ("assistant", "Let me see. There.", 2), ("tool", "3", 0),
    ]  # fmt: skip


@pytest.mark.spec("ORCH-3075-011", "ORCH-3075-012")
async def test_a_response_can_be_read_and_deleted(serve: Serve) -> None:
    async with serve({"reply": "one two"}) as host, client_of(host) as client:
        made = await client.responses.create(model="mock", input="Hello")
        read = await client.responses.retrieve(made.id)
        await client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError, match="is kept here"):
            await client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="mock", input="Hello", previous_response_id=made.id)

    assert read == made
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.spec("ORCH-3075-017")
async def test_what_was_asked_is_listed_as_items(serve: Serve) -> None:
    image = {"type": "input_image", "image_url": URL}
    told = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Add."}, image]}
    call = {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "3"}
    plugins = plugin_host(mock="tests.orchestrator.http.test_responses:Constrained")
    async with serve(CALLING, plugins=plugins) as host, client_of(host) as client:
        made = await client.responses.create(
            model="mock", input=cast(Any, [told, call, result]), tools=[ADD], instructions="Be brief."
        )
        went_on = await client.responses.create(model="mock", input="And now?", previous_response_id=made.id)
        listed = [item async for item in client.responses.input_items.list(made.id, order="asc")]
        pages = [item async for item in client.responses.input_items.list(made.id, limit=1)]
        later = [item async for item in client.responses.input_items.list(went_on.id)]
        bad = [
            (await host.client.get(f"/v1/responses/{made.id}/input_items?{query}")).json()["error"]["param"]
            for query in ("limit=0", "limit=x", "order=up", "after=msg_nope")
        ]
        none = await host.client.get("/v1/responses/resp_nope/input_items")

    found = [item.model_dump(exclude_none=True, exclude={"id", "status"}) for item in listed]
    assert found == [{**told, "content": [told["content"][0], {**image, "detail": "auto"}]}, call, result]
    assert [item.id for item in pages] == [item.id for item in reversed(listed)]
    assert [cast(Any, item).content[0].text for item in later] == ["And now?"]
    assert bad == ["limit", "limit", "order", "after"]
    assert none.status_code == 404


@pytest.mark.spec("ORCH-3075-018")
async def test_responses_survive_a_host_that_has_a_file_for_them(serve: Serve, tmp_path: Path) -> None:
    retention = {"file": str(tmp_path / "kept.db")}
    async with serve(CALLING, retention=retention) as host, client_of(host) as client:
        first = await client.responses.create(model="mock", input="Add 1 and 2.", tools=[ADD], instructions="Add.")
        calls = [item for item in first.output if item.type == "function_call"]
        outputs: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "3"} for call in calls]
        second = await client.responses.create(model="mock", input=outputs, previous_response_id=first.id)
        third = await client.responses.create(model="mock", input="Thanks.", previous_response_id=second.id)
        gone = await client.responses.create(model="mock", input="Forget this.")
        await client.responses.delete(first.id)
        await client.responses.delete(gone.id)

    async with serve(CALLING, retention=retention) as host, client_of(host) as client:
        kept = host.serving.service.responses
        read = [await client.responses.retrieve(each.id) for each in (second, third)]
        items = [item.type async for item in client.responses.input_items.list(second.id)]
        fourth = await client.responses.create(model="mock", input="Again.", previous_response_id=third.id)
        asked = mock(host).submitted[-1].messages
        absent = [await host.client.get(f"/v1/responses/{each.id}") for each in (first, gone)]
        for each in (second, third, fourth):
            await client.responses.delete(each.id)
        left = len(kept), kept.bytes

    async with serve(CALLING, retention=retention) as host:
        nothing = await host.client.get(f"/v1/responses/{third.id}")

    assert read == [second, third]
    assert items == ["function_call_output"]
    assert asked is not None
    assert [message.role for message in asked] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert asked[1].tool_calls[0].name == "add"
    assert [each.status_code for each in absent] == [404, 404]
    assert left == (0, 0)
    assert nothing.status_code == 404


@pytest.mark.spec("ORCH-3075-011")
async def test_what_is_not_to_be_stored_is_not(serve: Serve) -> None:
    async with serve(responses={"conversation_bytes": 50_000}) as host:
        asked_not = (await create(host, store=False)).json()
        too_large = (await create(host, input="x" * 100_000)).json()
        last = (await streamed(host, instructions="x" * 100_000))[-1].data["response"]
        read = [await host.client.get(f"/v1/responses/{each['id']}") for each in (asked_not, too_large, last)]
        kept = len(host.serving.service.responses)

    assert [each["store"] for each in (asked_not, too_large, last)] == [False, False, False]
    assert [each.status_code for each in read] == [404, 404, 404]
    assert kept == 0


@pytest.mark.spec("ORCH-3075-012")
async def test_no_key_reads_what_another_one_was_answered(serve: Serve) -> None:
    keys = {"api_keys": [key("alice"), key("bob"), key("root", admin=True)]}
    async with serve({"reply": "secret words"}, server=keys) as host:
        sent = {"model": "mock", "input": "Hello"}
        made = (await host.client.post("/v1/responses", json=sent, headers=bearer("alice"))).json()
        where, item = f"/v1/responses/{made['id']}", {"type": "item_reference", "id": made["output"][0]["id"]}
        for other in ("bob", "root"):
            tried = [
                await host.client.get(where, headers=bearer(other)),
                await host.client.delete(where, headers=bearer(other)),
                await host.client.post(f"{where}/cancel", headers=bearer(other)),
                await host.client.post("/v1/responses", json={**sent, "input": [item]}, headers=bearer(other)),
            ]
            goes_on = await host.client.post(
                "/v1/responses", json={**sent, "previous_response_id": made["id"]}, headers=bearer(other)
            )
            assert [each.status_code for each in (*tried, goes_on)] == [404, 404, 404, 404, 400]
            assert "secret" not in "".join(each.text for each in (*tried, goes_on))
        own = await host.client.get(where, headers=bearer("alice"))

    assert own.json() == made


@pytest.mark.spec("ORCH-3075-013")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_engine(serve: Serve, stream: bool) -> None:
    async with serve({"reply": "one two", "hang_after": 1}) as host:
        sent = {"model": "mock", "input": "Hello", "stream": stream, "job_id": "left"}
        async with anyio.create_task_group() as group:
            group.start_soon(read_for_ever, host, sent)
            await eventually(lambda: any(task.tokens_out for task in host.orchestrator.live_tasks))
            group.cancel_scope.cancel()
        await eventually(lambda: not mock(host).running and not host.orchestrator.live_tasks)
        await eventually(lambda: is_ended(host, "resp_left"))
        read = (await host.client.get("/v1/responses/resp_left")).json()
        goes_on = await create(host, previous_response_id="resp_left")

    assert read["status"] == "cancelled"
    assert goes_on.status_code == 400
    assert "response 'resp_left' is cancelled" in goes_on.text


def is_ended(host: Host, response_id: str) -> bool:
    found = host.serving.service.responses.get(None, response_id)
    return found is not None and found.ended.is_set()


async def read_for_ever(host: Host, sent: dict[str, Any]) -> None:
    async with host.client.stream("POST", "/v1/responses", json=sent) as response:
        async for _ in response.aiter_bytes():
            pass


@pytest.mark.spec("ORCH-3075-013")
@pytest.mark.parametrize("method, path", [("POST", "/resp_it/cancel"), ("DELETE", "/resp_it")])
async def test_a_response_that_runs_can_be_cancelled(serve: Serve, method: str, path: str) -> None:
    found: list[Frame] = []
    async with serve({"reply": "one two", "hang_after": 1}) as host:

        async def read() -> None:
            found.extend(await streamed(host, job_id="it"))

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await eventually(lambda: any(task.tokens_out for task in host.orchestrator.live_tasks))
            running = (await host.client.get("/v1/responses/resp_it")).json()
            answered = await host.client.request(method, f"/v1/responses{path}")
        after = await host.client.get("/v1/responses/resp_it")
        assert not mock(host).running

    assert (running["status"], running["output"]) == ("in_progress", [])
    assert answered.status_code == 200
    assert found[-1].data["response"]["status"] == "cancelled"
    require_lawful(found)
    if method == "DELETE":
        assert (answered.json()["deleted"], after.status_code) == (True, 404)
    else:
        assert (answered.json()["status"], after.json()["status"]) == ("cancelled", "cancelled")


@pytest.mark.spec("ORCH-3075-014")
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_cut_off_is_incomplete(serve: Serve, stream: bool) -> None:
    async with serve({"reply": "one two three"}) as host:
        if stream:
            last = (await streamed(host, max_output_tokens=2))[-1]
            assert last.event == "response.incomplete"
            found = last.data["response"]
        else:
            found = (await create(host, max_output_tokens=2)).json()
        goes_on = await create(host, previous_response_id=found["id"])

    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert found["output"][0]["content"][0]["text"] == "one two"
    assert found["output"][0]["status"] == "incomplete"
    assert goes_on.status_code == 200


@pytest.mark.spec("ORCH-3075-014")
async def test_a_call_that_was_cut_off_is_no_part_of_the_conversation(serve: Serve) -> None:
    async with serve({**CALLING, "reasoning": None}) as host:
        found = (await create(host, tools=[ADD], max_output_tokens=1)).json()
        await create(host, previous_response_id=found["id"], input="Go on.")
        messages = asked(host)

    assert [(item["type"], item["status"]) for item in found["output"]] == [("function_call", "incomplete")]
    assert messages == [("user", "Hello"), ("assistant", None), ("user", "Go on.")]


@pytest.mark.spec("ORCH-3075-014")
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_any_output_has_its_status(serve: Serve, stream: bool) -> None:
    async with serve({"fail": "context_length_exceeded"}) as host:
        answered = await create(host, stream=stream)
        kept = len(host.serving.service.responses)

    assert (answered.status_code, kept) == (400, 0)
    assert answered.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.spec("ORCH-3075-014")
async def test_an_error_after_some_output_is_a_response_that_failed(serve: Serve) -> None:
    async with serve({"reply": "one two", "fail": "engine_failed", "fail_after": 1}) as host:
        found = await streamed(host, job_id="it")
        read = (await host.client.get("/v1/responses/resp_it")).json()

    require_lawful(found)
    assert found[-1].event == "response.failed"
    response = found[-1].data["response"]
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert response["error"]["engine_code"] == "engine_failed"
    assert read == response


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "web_search"}]}, "'web_search', which is not supported"),
    ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "'file_search'"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "beside 'type'"),
    ({"tools": [7]}, "'tools'"),
    ({"tool_choice": "required"}, "there are none"),
    ({"tool_choice": {"type": "mcp"}, "tools": [ADD]}, "'mcp'"),
    ({"tool_choice": {"type": "function"}, "tools": [ADD]}, "'tool_choice' of type function needs the 'name'"),
    ({"tool_choice": {}, "tools": [ADD]}, "'tool_choice' of type 'None'"),
    ({"tool_choice": "perhaps", "tools": [ADD]}, "'tool_choice' must be"),
    ({"tools": [{"type": "custom", "name": "c"}]}, "'custom'"),
    ({"previous_response": {"id": "resp_1"}}, "'previous_response' is not supported"),
    ({"previous_input_messages": [{"role": "user", "content": "x"}]}, "'previous_input_messages' is not supported"),
    ({"enable_response_messages": True}, "'enable_response_messages' is not supported"),
    ({"structured_outputs": {"regex": "a"}, "text": {"format": {"type": "json_object"}}}, "structured_outputs"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
    ({"seed": 2**63}, "seed"),
    ({"temperature": "warm"}, "temperature"),
    ({"stop": 5}, "stop"),
    ({"background": True}, "'background' is not supported"),
    ({"conversation": "conv_1"}, "'conversation' is not supported"),
    ({"prompt": {"id": "p"}}, "'prompt' is not supported"),
    ({"history": True}, "'history' is not supported"),
    ({"n": 2}, "'n' is not supported"),
    ({"include": ["all"]}, "'include' of 'all'"),
    ({"include": "all"}, "'include' must be a list"),
    ({"truncation": "middle"}, "'truncation' must be"),
    ({"text": {"format": {"type": "xml"}}}, "'xml'"),
    ({"text": "json"}, "'text' must be an object"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "response_format"),
    ({"metadata": {"a": 1}}, "'metadata' must be"),
    ({"metadata": {str(n): "" for n in range(17)}}, "'metadata' must be"),
    ({"store": "maybe"}, "'store' must be true or false"),
    ({"stream": 2}, "'stream' must be true or false"),
    ({"previous_response_id": 3}, "'previous_response_id' must be"),
    ({"instructions": ["a"]}, "'instructions' must be a text"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"input": None}, "'input' must be"),
    ({"input": []}, "'input' must be"),
    ({"input": [1]}, "'input' must hold objects"),
    ({"input": [{}]}, "an item of type None"),
    ({"input": [{"type": "computer_call"}]}, "'computer_call'"),
    ({"input": [{"type": "item_reference"}]}, "needs the 'id'"),
    ({"input": [{"type": "message", "role": "user"}]}, "'content' of a message must be"),
    ({"input": [{"role": "the king", "content": "x"}]}, "role"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "'input_audio'"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "'file_id'"),
    ({"input": [{"type": "function_call", "call_id": "c"}]}, "tool_calls"),
    ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "'output' of a function_call_output"),
    ({"input": [{"role": "user", "content": "x"}] * (MAX_ITEMS + 1)}, "items; there may be"),
]


@pytest.mark.spec("ORCH-3075-015")
async def test_what_cannot_be_honoured_is_refused_by_name(serve: Serve) -> None:
    async with serve() as host:
        for fields, said in REFUSED:
            answered = await create(host, **fields)
            assert answered.status_code == 400, fields
            assert said in answered.json()["error"]["message"], fields
        assert mock(host).submitted == []


@pytest.mark.spec("ORCH-3075-015")
async def test_what_asks_for_nothing_is_taken(serve: Serve) -> None:
    neutral = {
        "background": False, "conversation": None, "include": ["reasoning.encrypted_content"], "max_tool_calls": 5,
        "parallel_tool_calls": True, "prompt": None, "prompt_cache_key": "k", "safety_identifier": "s", "tools": [],
        "service_tier": "auto", "stream_options": {"include_obfuscation": False}, "text": {"verbosity": "low"},
        "tool_choice": "auto", "top_logprobs": 0, "truncation": "auto", "user": "u", "reasoning": {"summary": "auto"},
        "previous_response_id": None, "text.format": None, "previous_response": None, "previous_input_messages": None,
        "enable_response_messages": False, "store": None, "metadata": None, "instructions": None,
    }  # fmt: skip
    async with serve() as host:
        answered = await create(host, **neutral)

    assert answered.status_code == 200, answered.text


@pytest.mark.spec("ORCH-3075-015")
async def test_tools_that_are_not_allowed_are_not_shown(serve: Serve) -> None:
    other = {"type": "function", "name": "other"}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "add"}]}
    async with serve(CALLING) as host:
        answered = await create(host, tools=[ADD, other], tool_choice=choice)
        task = mock(host).submitted[-1]

    assert answered.status_code == 200, answered.text
    assert ([tool.name for tool in task.tools], task.tool_choice) == (["add"], "auto")


@pytest.mark.spec("ORCH-3075-008")
async def test_sampling_reaches_the_engine(serve: Serve) -> None:
    async with serve() as host, client_of(host) as client:
        await client.responses.create(
            model="mock",
            input="x",
            temperature=0.5,
            top_p=0.9,
            max_output_tokens=4,
            extra_body={"seed": 7, "stop": "x"},
        )
        task = mock(host).submitted[-1]

    assert (task.temperature, task.top_p, task.max_tokens, task.seed, task.stop) == (0.5, 0.9, 4, 7, ("x",))


@pytest.mark.spec("ORCH-3075-010")
async def test_a_conversation_of_too_many_messages_is_refused(serve: Serve) -> None:
    async with serve(responses={"conversation_bytes": 2**25}) as host:
        kept = host.serving.service.responses
        response = kept.begin(None, "resp_long", [Message(role="user", content="q")] * MAX_MESSAGES, None)
        assert response is not None
        kept.end(response, "completed", {"id": "resp_long"}, [], None)
        answered = await create(host, previous_response_id="resp_long")

    assert answered.status_code == 400
    assert f"the conversation has more than {MAX_MESSAGES} messages" in answered.text


@pytest.mark.spec("ORCH-3064-018")
async def test_a_key_asks_its_own_models_only(serve: Serve) -> None:
    async with serve(server={"api_keys": [key("bob", models=["other"])]}) as host:
        answered = await host.client.post("/v1/responses", json={"model": "mock", "input": "x"}, headers=bearer("bob"))

    assert answered.status_code == 403

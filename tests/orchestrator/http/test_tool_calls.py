"""Tool calls and thinking on their way through the host: every face, kept tasks, sessions, shadows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_api import End, decode_event, event_type, gather_tool_calls
from adapter_api.testing import find_violation, reasoning_of, text_of
from orchestrator.http.openai_answers import finish_reason_of
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.http.sse_reading import read_all
from tests.orchestrator.http.test_tasks import mock, submit
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = pytest.mark.anyio

ARGUMENTS = '{"zone":  "Europe/Zürich"}'
CALLS: list[dict[str, Any]] = [
    {"name": "time", "arguments": ARGUMENTS, "id": "t1"},
    {"name": "date", "arguments": "{}"},
]
ABLE: dict[str, Any] = {"reasoning": "let me see", "tool_calls": CALLS, "reply": "noon", "default_max_tokens": 99}
TOOL: dict[str, Any] = {"name": "time", "description": "the time", "parameters": {"type": "object"}}
OPENAI_TOOLS: Any = [{"type": "function", "function": TOOL}]
USER: Any = [{"role": "user", "content": "what time is it"}]
TASK: dict[str, Any] = {"model": "mock", "messages": USER, "prompt": None, "max_tokens": None, "tools": [TOOL]}


@pytest.mark.spec("ORCH-3059-066")
async def test_the_task_face_names_the_frames_of_tool_calls_and_reasoning(serve: Serve) -> None:
    async with serve(ABLE) as host:
        _, found = await submit(host, TASK)

    events = [decode_event(json.dumps(frame.data)) for frame in found]
    assert [frame.event for frame in found] == [event_type(event) for event in events]
    assert {"reasoning", "tool_call"} <= {frame.event for frame in found}
    assert find_violation(events) is None
    assert (reasoning_of(events), text_of(events)) == ("let me see", "")
    assert [(call.name, call.arguments) for call in gather_tool_calls(events)] == [("time", ARGUMENTS), ("date", "{}")]


@pytest.mark.spec("ORCH-3059-067", "ORCH-3059-068", "ORCH-3059-069")
async def test_a_streamed_chat_completion_tells_tool_calls_in_pieces_that_openais_client_joins(serve: Serve) -> None:
    async with serve(ABLE) as host, client_of(host) as client:
        async with client.chat.completions.stream(model="mock", messages=USER, tools=OPENAI_TOOLS) as stream:
            chunks = [event.chunk async for event in stream if event.type == "chunk"]
            whole = await stream.get_final_completion()
        other = await client.chat.completions.create(model="mock", messages=USER, tools=OPENAI_TOOLS)

    deltas = [chunk.choices[0].delta for chunk in chunks]
    pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
    assert next((p.index, p.id, p.type) for p in pieces if p.id is not None) == (0, "t1", "function")
    assert all(p.function is not None and p.function.name is None and p.type is None for p in pieces if p.id is None)
    assert len(pieces) > 3
    thought = [delta.model_extra for delta in deltas if delta.model_extra]
    assert "".join(each["reasoning_content"] for each in thought) == "let me see"
    assert "".join(each["reasoning"] for each in thought) == "let me see"
    assert not any(delta.content for delta in deltas)
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.function.name, call.function.arguments) for call in calls] == [("time", ARGUMENTS), ("date", "{}")]
    assert other.choices[0].message.tool_calls is not None
    assert next(call.id for call in other.choices[0].message.tool_calls) == calls[0].id == "t1"


@pytest.mark.spec("ORCH-3059-067", "ORCH-3059-068", "ORCH-3059-069")
async def test_a_whole_chat_completion_has_tool_calls_and_no_content(serve: Serve) -> None:
    async with serve(ABLE) as host:
        body = {"model": "mock", "messages": USER, "tools": OPENAI_TOOLS}
        answer = (await host.client.post("/v1/chat/completions", json=body)).json()

    choice = answer["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    message = choice["message"]
    ids = [call.pop("id") for call in message["tool_calls"]]
    assert ids[0] == "t1"
    assert ids[1]
    assert message == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "let me see",
        "reasoning": "let me see",
        "tool_calls": [
            {"type": "function", "function": {"name": "time", "arguments": ARGUMENTS}},
            {"type": "function", "function": {"name": "date", "arguments": "{}"}},
        ],
    }
    assert answer["usage"]["completion_tokens"] > 0


async def test_an_agents_loop_ends_with_words(serve: Serve) -> None:
    async with serve(ABLE) as host, client_of(host) as client:
        messages = [*USER]
        first = await client.chat.completions.create(model="mock", messages=messages, tools=OPENAI_TOOLS)
        message = first.choices[0].message
        assert message.tool_calls is not None
        messages.append(message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "12:00"} for call in message.tool_calls]
        second = await client.chat.completions.create(model="mock", messages=messages, tools=OPENAI_TOOLS)
        asked = mock(host).submitted[-1].messages

    assert second.choices[0].message.content == "noon"
    assert second.choices[0].finish_reason == "stop"
    assert asked is not None
    assert [call.arguments for call in asked[1].tool_calls] == [ARGUMENTS, "{}"]


@pytest.mark.spec("ORCH-3059-068")
@pytest.mark.parametrize("said, told", [("stop", "tool_calls"), ("tool_calls", "tool_calls"), ("length", "length")])
def test_an_engine_that_says_stop_after_tool_calls_is_told_as_clients_need_it(said: Any, told: str) -> None:
    assert finish_reason_of(End(finish_reason=said), calls=True) == told
    assert finish_reason_of(End(finish_reason=said), calls=False) == said


@pytest.mark.spec("ORCH-3059-069")
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_text_completion_tells_thinking_beside_its_text(serve: Serve, streamed: bool) -> None:
    async with serve(ABLE) as host:
        body = {"model": "mock", "prompt": "what time", "stream": streamed}
        response = await host.client.post("/v1/completions", json=body)

    if streamed:
        data = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        choices = [each["choices"][0] for each in data]
    else:
        choices = response.json()["choices"]
    assert "".join(choice["text"] for choice in choices) == "noon"
    assert "".join(choice.get("reasoning", "") for choice in choices) == "let me see"


async def test_tools_that_no_replica_can_take_are_refused(serve: Serve) -> None:
    async with serve({}) as host:
        body = {"model": "mock", "messages": USER, "tools": OPENAI_TOOLS}
        answer = await host.client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 400
    assert "tools" in answer.json()["error"]["message"]


async def test_tools_go_to_the_replica_whose_model_has_them(serve: Serve) -> None:
    async with serve(ABLE) as host:
        body = {"model": "mock", "messages": USER, "tools": OPENAI_TOOLS, "tool_choice": "auto"}
        await host.client.post("/v1/chat/completions", json=body)
        asked = mock(host).submitted[0]

    assert [tool.name for tool in asked.tools] == ["time"]
    assert asked.tool_choice == "auto"


@pytest.mark.spec("ORCH-3064-024")
async def test_a_kept_task_gives_its_tool_calls_again_from_any_event_on(serve: Serve) -> None:
    async with serve(ABLE) as host:
        _, found = await submit(host, TASK, job_id="k", on_disconnect="keep")
        after = next(at for at, frame in enumerate(found) if frame.event == "tool_call")
        head = {"Last-Event-ID": str(after)}
        async with host.client.stream("GET", "/v2/tasks/k/events", headers=head) as response:
            again = await read_all(response)

    assert again == found[after + 1 :]


@pytest.mark.spec("ORCH-3059-070")
async def test_a_session_remembers_tool_calls_and_no_thinking(serve: Serve) -> None:
    async with serve(ABLE) as host:
        chat = {"model": "mock", "session_id": "s", "history": True, "tools": OPENAI_TOOLS}
        first = (await host.client.post("/v1/chat/completions", json={**chat, "messages": USER})).json()
        calls = first["choices"][0]["message"]["tool_calls"]
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "12:00"} for call in calls]
        second = (await host.client.post("/v1/chat/completions", json={**chat, "messages": results})).json()
        asked = mock(host).submitted[-1].messages

    assert second["choices"][0]["message"]["content"] == "noon"
    assert asked is not None
    assert [message.role for message in asked] == ["user", "assistant", "tool", "tool"]
    assert asked[1].content is None
    assert [(call.id, call.name, call.arguments) for call in asked[1].tool_calls] == [
        ("t1", "time", ARGUMENTS),
        (calls[1]["id"], "date", "{}"),
    ]
    assert "let me see" not in repr([message.model_dump() for message in asked])


async def test_the_tokens_of_a_task_count_all_that_it_generated(serve: Serve) -> None:
    async with serve(ABLE) as host:
        _, found = await submit(host, TASK, job_id="j")
        status = (await host.client.get("/v2/tasks/j")).json()
        metrics = (await host.client.get("/metrics")).text

    outputs = sum(frame.event in ("token", "reasoning", "tool_call") for frame in found)
    assert status["tokens_out"] == outputs
    counted = [line for line in metrics.splitlines() if "tokens_out_total{" in line]
    assert [float(line.rsplit(" ", 1)[1]) for line in counted] == [outputs]


@pytest.mark.spec("ORCH-3059-071")
@pytest.mark.parametrize(
    "twins, same",
    [(CALLS, True), ([{**CALLS[0], "arguments": '{"zone":"Europe/Zürich"}', "id": "x"}, CALLS[1]], True),
     ([{**CALLS[0], "arguments": '{"zone": "Mars"}'}, CALLS[1]], False), (CALLS[:1], False)],
)  # fmt: skip
async def test_a_shadows_tool_calls_are_compared_by_what_they_mean(serve: Serve, twins: Any, same: bool) -> None:
    pools = [
        {"id": "main", "adapter": "mock", "replicas": [{"id": "r0", "options": ABLE}]},
        {"id": "twin", "adapter": "mock", "shadow_of": "main",
         "replicas": [{"id": "r0", "options": {**ABLE, "tool_calls": twins}}]},
    ]  # fmt: skip
    async with serve(pools=pools) as host:
        await submit(host, TASK)
        await eventually(lambda: _agreement(host).compared == 1)
        found = _agreement(host)

    assert (found.same_text, found.same_tool_calls) == (1, int(same))


def _agreement(host: Host) -> Any:
    return host.orchestrator.rollout_report().agreements[0]

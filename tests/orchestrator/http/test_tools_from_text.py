"""Tools on models that take one text and write one: rendered by the pool's template, told from the answer, on every
face."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    Capability,
    End,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    decode_event,
    gather_tool_calls,
)
from adapter_api.testing import find_violation, reasoning_of, text_of
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.http.test_tasks import mock, submit
from tests.orchestrator.pools.test_fit import _Capable
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio

TEXT = Capability.TEXT
TEMPLATE = (
    "{% if tools %}Write <tool_call> and JSON. {% for t in tools %}[{{ t.function.name }}]{% endfor %}{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}"
    "<assistant>{% if think %}<think>\n{% endif %}"
)
ADD: Any = {
    "name": "add",
    "description": "adds",
    "parameters": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/N"}, "b": {"type": "number"}},
        "$defs": {"N": {"type": "number"}},
    },
}
SUBTRACT: Any = {"name": "subtract", "parameters": {"type": "object"}}
TOOLS: Any = [{"type": "function", "function": tool} for tool in (ADD, SUBTRACT)]
USER: Any = [{"role": "user", "content": "add 20 22"}]


class Calculating(_Capable):
    """A model of one text: it calls the tool that it is asked for, if it was shown, and tells what came of it."""

    capabilities = frozenset({TEXT})

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.submitted.append(task)
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        prompt = task.prompt or ""
        for index, letter in enumerate(self._say(prompt, task)):
            yield Token(index, letter)
        yield End(finish_reason="unknown")

    def _say(self, prompt: str, task: TaskRequest) -> str:
        result = re.search(r"<tool>(\S+)<assistant>$", prompt)
        asked = re.findall(r"<user>(\w+) (\d+) (\d+)", prompt)
        if result or not asked:
            return f"It is {result[1]}." if result else "Hm."
        name, a, b = asked[-1]
        arguments = json.dumps({"a": int(a), "b": int(b)})
        if task.response_format is not None:
            schema = task.response_format.json_schema
            assert schema is not None
            return arguments if schema["type"] == "object" else f'[{{"name": "{name}", "arguments": {arguments}}}]'
        if f"[{name}]" not in prompt:
            return f"I cannot {name}."
        return f'Let me see.\n<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>\n'


class Guided(Calculating):
    capabilities = frozenset({TEXT, Capability.RESPONSE_FORMAT})


class Saying(_Capable):
    """A model of one text that says what its settings have, letter by letter."""

    capabilities = frozenset({TEXT})

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.submitted.append(task)
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        for index, letter in enumerate(self.settings.reply or ""):
            yield Token(index, letter)
        yield End(finish_reason="length" if task.max_tokens else "stop")


PLUGINS = {
    name: f"tests.orchestrator.http.test_tools_from_text:{name.capitalize()}"
    for name in ("calculating", "guided", "saying")
}


def pool(adapter: str = "calculating", **fields: Any) -> dict[str, Any]:
    return {"pool": {"adapter": adapter, "chat_template": TEMPLATE, **fields}, "plugins": plugin_host(**PLUGINS)}


async def chat(host: Host, **fields: Any) -> dict[str, Any]:
    body = {"model": "mock", "messages": USER, "tools": TOOLS, **fields}
    response = await host.client.post("/v1/chat/completions", json=body)
    return {"status": response.status_code, **response.json()}


@pytest.mark.spec("ORCH-3073-006")
async def test_openais_client_gets_calls_of_a_model_that_only_writes_text(serve: Serve) -> None:
    async with serve({}, **pool()) as host, client_of(host) as client:
        whole = await client.chat.completions.create(model="mock", messages=USER, tools=TOOLS)
        async with client.chat.completions.stream(model="mock", messages=USER, tools=TOOLS) as stream:
            chunks = [event.chunk async for event in stream if event.type == "chunk"]
            streamed = await stream.get_final_completion()

    for answer in (whole, streamed):
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me see.\n"
        assert choice.message.tool_calls is not None
        [call] = choice.message.tool_calls
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) == ("add", '{"a": 20, "b": 22}')
        assert call.id
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert len(pieces) > 5, "arguments are streamed"


@pytest.mark.spec("ORCH-3073-006")
async def test_every_face_and_what_is_kept_has_the_events(serve: Serve) -> None:
    task = {"model": "mock", "messages": USER, "prompt": None, "max_tokens": None, "tools": [ADD]}
    async with serve({}, **pool()) as host:
        _, found = await submit(host, task, job_id="k", on_disconnect="keep")
        status = (await host.client.get("/v2/tasks/k")).json()

    events = [decode_event(json.dumps(frame.data)) for frame in found]
    assert find_violation(events) is None
    assert text_of(events) == "Let me see.\n"
    assert [(call.name, call.arguments) for call in gather_tool_calls(events)] == [("add", '{"a": 20, "b": 22}')]
    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "tool_calls"
    assert status["tokens_out"] == sum(frame.event in ("token", "tool_call") for frame in found)


@pytest.mark.spec("ORCH-3073-006")
async def test_an_agent_brings_its_results_and_gets_words(serve: Serve) -> None:
    async with serve({}, **pool()) as host, client_of(host) as client:
        messages = [*USER]
        first = await client.chat.completions.create(model="mock", messages=messages, tools=TOOLS)
        message = first.choices[0].message
        assert message.tool_calls is not None
        messages.append(message.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": "42"} for call in message.tool_calls]
        second = await client.chat.completions.create(model="mock", messages=messages, tools=TOOLS)

    assert second.choices[0].message.content == "It is 42."
    assert not second.choices[0].message.tool_calls


@pytest.mark.spec("ORCH-3073-007")
async def test_a_tool_is_called_where_it_has_to_be_by_the_format_of_the_answer(serve: Serve) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    async with serve({}, **pool("guided")) as host:
        one = await chat(host, tool_choice=named)
        any_ = await chat(host, tool_choice="required")
        only = await chat(host, tool_choice="required", tools=TOOLS[:1])
        formats = [task.response_format for task in mock(host).submitted]
        unknown = await chat(host, tool_choice={"type": "function", "function": {"name": "multiply"}})
        both = await chat(host, tool_choice="required", response_format={"type": "json_object"})

    for answer in (one, any_, only):
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        [call] = choice["message"]["tool_calls"]
        assert call["function"] == {"name": "add", "arguments": '{"a": 20, "b": 22}'}
    schemas = [json.loads(each.model_dump_json())["json_schema"] for each in formats if each is not None]
    assert schemas[0] == schemas[2] == ADD["parameters"]
    assert schemas[1]["$defs"] == ADD["parameters"]["$defs"]
    names = [each["properties"]["name"]["enum"] for each in schemas[1]["items"]["anyOf"]]
    assert names == [["add"], ["subtract"]]
    assert unknown["status"] == both["status"] == 400
    assert "not among" in unknown["error"]["message"]
    assert "response_format" in both["error"]["message"]


@pytest.mark.spec("ORCH-3073-007")
async def test_a_model_that_cannot_be_made_to_call_a_tool_says_so(serve: Serve) -> None:
    async with serve({}, **pool()) as host:
        answer = await chat(host, tool_choice="required")

    assert answer["status"] == 400
    assert "response_format" in answer["error"]["message"]


UNKNOWN: Any = {"type": "function", "function": {"name": "multiply"}}
NO_SCHEMA: Any = [{"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": "number"}}}}]


@pytest.mark.spec("ORCH-3073-007")
@pytest.mark.parametrize("template", ["plain", "guided"])
@pytest.mark.parametrize(
    "fields, param, said",
    [
        ({"tool_choice": UNKNOWN}, "tool_choice", "not among 'tools'"),
        ({"tool_choice": "multiply"}, "tool_choice", "not among 'tools'"),
        ({"tool_choice": UNKNOWN, "tools": []}, "tool_choice", "there are none"),
        ({"tool_choice": "required", "tools": []}, "tool_choice", "there are none"),
        ({"tool_choice": "required", "tools": None}, "tool_choice", "there are none"),
    ],
)
async def test_a_choice_among_tools_that_are_not_there_is_the_requests_fault(
    serve: Serve, template: str, fields: dict[str, Any], param: str, said: str
) -> None:
    async with serve({}, **(pool() if template == "plain" else pool(template))) as host:
        answer = await chat(host, **fields)

    assert answer["status"] == 400
    assert (answer["error"]["code"], answer["error"]["param"]) == ("invalid_request", param)
    assert said in answer["error"]["message"]


@pytest.mark.spec("ORCH-3073-007")
async def test_parameters_that_are_no_schema_matter_where_an_answer_is_held_to_them(serve: Serve) -> None:
    async with serve({}, **pool("guided")) as host:
        free = await chat(host, tools=NO_SCHEMA)
        held = await chat(host, tools=NO_SCHEMA, tool_choice="required")
        format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strin"}}}
        formatted = await chat(host, tools=None, response_format=format_)

    assert free["choices"][0]["finish_reason"] == "tool_calls"
    assert (held["status"], held["error"]["param"]) == (400, "tools")
    assert "the parameters of 'add' are no JSON Schema: properties.a must be a schema" in held["error"]["message"]
    assert (formatted["status"], formatted["error"]["param"]) == (400, "response_format.json_schema.schema")


@pytest.mark.spec("ORCH-3073-007")
async def test_a_task_chooses_among_its_tools(serve: Serve) -> None:
    async with serve() as host:
        task = {"model": "mock", "prompt": "a", "tools": [{"name": "add"}], "tool_choice": "multiply"}
        refused = await host.client.post("/v2/tasks", json=task)
        created = {"model": "mock", "input": "a", "tools": [{"type": "function", "name": "add", "parameters": {}}]}
        choice = {"type": "function", "name": "multiply"}
        response = await host.client.post("/v1/responses", json={**created, "tool_choice": choice})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert "tool_choice: names a tool that is not among 'tools'" in refused.json()["error"]["message"]
    assert (response.status_code, response.json()["error"]["param"]) == (400, "tool_choice")


@pytest.mark.spec("ORCH-3073-007")
async def test_no_tool_is_called_where_none_shall_be(serve: Serve) -> None:
    async with serve({}, **pool()) as host:
        answer = await chat(host, tool_choice="none")
    assert answer["choices"][0]["message"]["content"] == "I cannot add."
    async with serve({}) as host:  # neither a template nor a model that takes tools
        assert (await chat(host, tool_choice="none"))["status"] == 200


@pytest.mark.spec("ORCH-3073-006")
@pytest.mark.parametrize(
    "reply, parser, content, calls",
    [
        ("<tool_call>not JSON</tool_call>", "auto", "<tool_call>not JSON</tool_call>", []),
        ('<tool_call>{"name": "add"', "auto", '<tool_call>{"name": "add"', []),
        ('<tool_call>{"name": "add", "arguments": {}}</tool_call>', "none", None, []),
        ('<tool_call>{"name": "add", "arguments": {"a": oops}}</tool_call>', "auto", "", ['{"a": oops}']),
        ("[add(a=1), add(b=[2])]", "pythonic", "", ['{"a": 1}', '{"b": [2]}']),
        ("[add(a=1)]", "auto", "[add(a=1)]", []),
        ('{"name": "add", "parameters": {"a": 1}}', "llama3_json", "", ['{"a": 1}']),
        ('[TOOL_CALLS]add[ARGS]{"a": 1}', "mistral", "", ['{"a": 1}']),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_model_writes_is_never_lost_and_never_a_fault_of_the_host(
    serve: Serve, reply: str, parser: str, content: str | None, calls: list[str], streamed: bool
) -> None:
    async with serve({"reply": reply}, **pool("saying", tool_parser=parser)) as host:
        body = {"model": "mock", "messages": USER, "tools": TOOLS, "stream": streamed}
        response = await host.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    if streamed:
        data = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        said = [each["choices"][0]["delta"] for each in data]
        reason = data[-1]["choices"][0]["finish_reason"]
    else:
        said = [response.json()["choices"][0]["message"]]
        reason = response.json()["choices"][0]["finish_reason"]
    pieces = [piece for each in said for piece in each.get("tool_calls", ())]
    found: dict[int, str] = {}
    for at, piece in enumerate(pieces):
        index = piece.get("index", at)
        found[index] = found.get(index, "") + piece["function"]["arguments"]
    assert "".join(each.get("content") or "" for each in said) == (reply if content is None else content)
    assert list(found.values()) == calls
    assert reason == ("tool_calls" if calls else "stop")


@pytest.mark.spec("ORCH-3073-004", "ORCH-3073-018")
async def test_calls_that_nobody_can_read_stay_text_and_the_log_says_what_to_set(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    own = "!{{ c.function.name }} {{ c.function.arguments | tojson }}!"
    template = TEMPLATE.replace("<tool_call>{{ c.function | tojson }}</tool_call>", own).replace("<tool_call> and ", "")
    reply = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    with caplog.at_level("INFO"):
        async with serve({"reply": reply}, **pool("saying", chat_template=template)) as host:
            answer = await chat(host)
            (listed,) = (await host.client.get("/v1/models")).json()["data"]
            (unread,) = (await host.client.get("/v2/pools")).json()["pools"]
        async with serve({"reply": reply}, **pool("saying")) as host:
            read = await chat(host)
            (known,) = (await host.client.get("/v2/pools")).json()["pools"]
        async with serve({"reply": reply}) as host:
            (plain,) = (await host.client.get("/v2/pools")).json()["pools"]

    assert answer["choices"][0]["message"]["content"] == reply
    assert "tools" in listed["uncertain"]
    assert read["choices"][0]["finish_reason"] == "tool_calls"
    told = [(each.levelname, each.getMessage()) for each in caplog.records if "tool calls in" in each.getMessage()]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert "set tool_parser to" in told[0][1]
    assert "hermes" in told[1][1]
    assert unread["tool_calls"].startswith("none: the chat template writes calls in a way that is not known; set ")
    assert known["tool_calls"] == "hermes: the chat template writes calls so"
    assert known["chat_template"] == "in the settings"
    assert known["thoughts"].startswith("none: ")
    assert plain["chat_template"] is plain["tool_calls"] is plain["thoughts"] is None


@pytest.mark.spec("ORCH-3073-018", "ORCH-3064-049")
async def test_capabilities_have_what_a_pool_makes_of_its_models_and_by_which_parsers(serve: Serve) -> None:
    async with serve({}, **pool(reasoning_parser="think")) as host:
        (model,) = (await host.client.get("/v2/meta/capabilities")).json()["models"]
        (listed,) = (await host.client.get("/v1/models")).json()["data"]
    async with serve({}) as host:  # it takes messages itself, and a pool reads nothing from its text
        (plain,) = (await host.client.get("/v2/meta/capabilities")).json()["models"]

    assert model["pools"] == [{"pool_id": "default", "tool_parser": "hermes", "reasoning_parser": "think"}]
    assert {"tools", "reasoning", "messages"} <= set(model["capabilities"])
    assert {name: model[name] for name in ("capabilities", "uncertain")} == {
        name: listed[name] for name in ("capabilities", "uncertain")
    }
    assert [(each["tool_parser"], each["reasoning_parser"]) for each in plain["pools"]] in ([], [(None, None)])


@pytest.mark.spec("ORCH-3073-006")
async def test_a_call_that_was_cut_off_is_not_told_as_one_to_run(serve: Serve) -> None:
    reply = '<tool_call>{"name": "add", "arguments": {"a": 1'
    async with serve({"reply": reply}, **pool("saying")) as host:
        answer = await chat(host, max_tokens=5)

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1'


@pytest.mark.spec("ORCH-3073-008")
@pytest.mark.parametrize(
    "reply, kwargs",
    [("<think>\nHm.</think>20+22=42", {}), ("\nHm.</think>20+22=42", {"think": True})],
    ids=["the model begins", "the template has begun"],
)
async def test_thoughts_are_told_from_the_answer_where_the_pool_says_so(
    serve: Serve, reply: str, kwargs: dict[str, Any]
) -> None:
    task = {"model": "mock", "messages": USER, "prompt": None, "max_tokens": None, "chat_template_kwargs": kwargs}
    async with serve({"reply": reply}, **pool("saying", reasoning_parser="think")) as host:
        answer = await chat(host, chat_template_kwargs=kwargs)
        _, found = await submit(host, task)
    message = answer["choices"][0]["message"]
    assert message["content"] == "20+22=42"
    assert message["reasoning_content"] == message["reasoning"] == "\nHm."
    events = [decode_event(json.dumps(frame.data)) for frame in found]
    assert (reasoning_of(events), text_of(events)) == ("\nHm.", "20+22=42")

    async with serve({"reply": reply}, **pool("saying")) as host:
        answer = await chat(host, chat_template_kwargs=kwargs)
    assert answer["choices"][0]["message"]["content"] == reply


@pytest.mark.spec("ORCH-3073-006")
async def test_a_shadow_is_compared_by_the_calls_in_its_text(serve: Serve) -> None:
    pools = [
        {"id": "main", "adapter": "calculating", "replicas": [{"id": "r0"}], "chat_template": TEMPLATE},
        {"id": "twin", "adapter": "calculating", "shadow_of": "main", "replicas": [{"id": "r0"}],
         "chat_template": TEMPLATE},
    ]  # fmt: skip
    async with serve(pools=pools, plugins=plugin_host(**PLUGINS)) as host:
        await chat(host)
        await eventually(lambda: host.orchestrator.rollout_report().agreements[0].compared == 1)
        found = host.orchestrator.rollout_report().agreements[0]

    assert (found.same_text, found.same_tool_calls) == (1, 1)


@pytest.mark.spec("ORCH-3070-022")
async def test_the_list_of_models_says_what_each_can_do_with_what_the_host_does_for_it(serve: Serve) -> None:
    async def told(**fields: Any) -> tuple[set[str], set[str]]:
        async with serve({}, **pool(**fields)) as host:
            (listed,) = (await host.client.get("/v1/models")).json()["data"]
            assert (await host.client.get("/v1/models/mock")).json() == listed
        return set(listed["capabilities"]), set(listed["uncertain"])

    rendered = {"text", "messages", "chat_template_kwargs", "continue_final_message"}
    assert await told() == (rendered | {"tools"}, set())
    assert "reasoning" in (await told(reasoning_parser="think"))[0]
    assert await told(tool_parser="none") == (rendered, {"tools"})
    assert await told(chat_template=None) == ({"text", "messages", "continue_final_message"}, set())

"""Tools through the host on models that write each family's grammar: a model that computes its calls, two steps, whole
and streamed, with thoughts before them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from adapter_api import Capability, End, Started, TaskRequest, Token, TokenEvent
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.pools.test_fit import _Capable
from tests.orchestrator.pools.test_monitor import plugin_host
from tests.orchestrator.real_clients.tool_model.answer import answer
from tests.orchestrator.real_clients.tool_model.layouts import CALLS, template_of

pytestmark = pytest.mark.anyio

NUMBER, TEXT = {"type": "number"}, {"type": "string"}


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: Any = [
    tool("get_price", "Look up the price of an item in the shop.", item=TEXT),
    tool("multiply", "Multiply two numbers.", a=NUMBER, b=NUMBER),
]
RESULTS = {"get_price": "12.5", "multiply": "37.5"}
QUESTION = "Look up the price of a lamp, then multiply it by 3."


class Computing(_Capable):
    """A model of one text that works its answer out of its prompt, three letters at a time."""

    capabilities = frozenset({Capability.TEXT})

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        said = answer(task.prompt or "")
        for index, at in enumerate(range(0, len(said), 3)):
            yield Token(index, said[at : at + 3])
        yield End(finish_reason="stop")


def served(serve: Serve, grammar: str, **fields: Any) -> Any:
    plugins = plugin_host(computing="tests.orchestrator.http.test_tool_grammars:Computing")
    return serve({}, pool={"adapter": "computing", "chat_template": template_of(grammar), **fields}, plugins=plugins)


async def turn(client: AsyncOpenAI, messages: list[Any], *, streamed: bool, **fields: Any) -> dict[str, Any]:
    """Return what the model says next, whole, and why it ended."""
    asked: Any = {"model": "mock", "messages": messages, "tools": TOOLS, "extra_body": fields}
    if not streamed:
        choice = (await client.chat.completions.create(**asked)).choices[0]
    else:
        async with client.chat.completions.stream(**asked) as stream:
            choice = (await stream.get_final_completion()).choices[0]
    return {"reason": choice.finish_reason, **choice.message.model_dump(exclude_none=True)}


@pytest.mark.spec("ORCH-3073-004", "ORCH-3073-006", "ORCH-3073-008")
@pytest.mark.parametrize("grammar", CALLS)
async def test_two_steps_are_taken_with_a_model_of_any_family_whole_and_streamed(serve: Serve, grammar: str) -> None:
    thinks: Any = {} if grammar == "openai" else {"chat_template_kwargs": {"think": True}}
    thoughts = "openai" if grammar == "openai" else "think"
    async with served(serve, grammar, reasoning_parser=thoughts) as host, client_of(host) as client:
        for streamed in (False, True):
            called: list[Any] = []
            messages: list[Any] = [{"role": "user", "content": QUESTION}]
            while (said := await turn(client, messages, streamed=streamed, **thinks)).get("tool_calls"):
                assert "I have to look." in said["reasoning"]
                assert said["reason"] == "tool_calls"
                assert not (said.get("content") or "").strip()
                calls = said["tool_calls"]
                called += [(each["function"]["name"], json.loads(each["function"]["arguments"])) for each in calls]
                assert len(called) <= 2
                messages.append({"role": "assistant", "tool_calls": calls})
                messages += [
                    {"role": "tool", "tool_call_id": each["id"], "content": RESULTS[each["function"]["name"]]}
                    for each in calls
                ]

            assert called == [("get_price", {"item": "lamp"}), ("multiply", {"a": 12.5, "b": 3})]
            assert said["content"].strip() == "The answer is 37.5."
            assert said["reason"] == "stop"

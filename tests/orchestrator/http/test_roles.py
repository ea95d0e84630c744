"""Roles beside OpenAI's five: the model's chat template knows them, or refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import InvalidRequest
from orchestrator.http.openai_requests import parse_chat
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.test_token_ids import CHATML
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3077-010")]

PICKY = (
    "{% for m in messages %}{{ m.content if m.role == 'user' else raise_exception('Only questions are taken.') }}"
    "{% endfor %}"
)


@pytest.mark.parametrize("role", ["document", "ipython", "function", "developer", "tool_response", "critic-2"])
@pytest.mark.parametrize("path", ["chat/completions", "responses"])
async def test_a_role_reaches_the_template_as_it_is(serve: Serve, path: str, role: str) -> None:
    plugins = plugin_host(templated="tests.orchestrator.http.test_token_ids:Repeating")
    messages: Any = [{"role": role, "content": "three rivers"}, {"role": "user", "content": "Which?"}]
    async with serve(pool={"adapter": "templated", "chat_template": CHATML}, plugins=plugins) as host:
        body = {"model": "mock", "input" if path == "responses" else "messages": messages}
        answer = (await host.client.post(f"/v1/{path}", json=body)).json()

    if path == "responses":
        said = answer["output"][0]["content"][0]["text"]
    else:
        said = answer["choices"][0]["message"]["content"]
    assert said == f"<{role}>three rivers</e><user>Which?</e><assistant>"


async def test_what_a_template_refuses_is_told_in_its_own_words(serve: Serve) -> None:
    plugins = plugin_host(templated="tests.orchestrator.http.test_token_ids:Repeating")
    body = {"model": "mock", "messages": [{"role": "document", "content": "x"}]}
    async with serve(pool={"adapter": "templated", "chat_template": PICKY}, plugins=plugins) as host:
        answers = [
            await host.client.post("/v1/chat/completions", json={**body, "stream": stream}) for stream in (False, True)
        ]

    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert "Only questions are taken." in answer.json()["error"]["message"]


@pytest.mark.parametrize("role", ["", " ", "the king", "<|im_start|>", "a\nb", "x" * 65, 5, None, ["user"]])
def test_what_is_no_word_is_no_role(role: Any) -> None:
    with pytest.raises(InvalidRequest, match="role"):
        parse_chat({"model": "m", "messages": [{"role": role, "content": "x"}]}, {})


async def test_usage_on_the_way_of_a_response_is_told_to_be_ignored(serve: Serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with serve({"reply": "so"}) as host:
        body = {"model": "mock", "input": "Hi", "stream": True, "stream_options": options}
        answer = await host.client.post("/v1/responses", json=body)

    assert answer.headers["X-Ignored-Fields"] == "stream_options.continuous_usage_stats"

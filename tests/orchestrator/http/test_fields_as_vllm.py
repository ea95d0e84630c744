"""What becomes of fields that change an answer, beside vLLM's server."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import InvalidRequest, TaskRequest, Unsupported
from orchestrator.http.openai_requests import parse_chat, parse_completion
from tests.orchestrator.http.conftest import Serve

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "Hello"}]
SCHEMA = {"type": "object"}


def chat_of(**fields: Any) -> TaskRequest:
    return parse_chat({"model": "m", "messages": USER, **fields}, {}).task


def completion_of(**fields: Any) -> TaskRequest:
    return parse_completion({"model": "m", "prompt": "Hello", **fields}, {}).task


@pytest.mark.spec("ORCH-3077-004")
async def test_a_form_that_sends_text_only_is_understood(serve: Serve) -> None:
    body = {
        "model": "mock", "messages": USER, "max_tokens": "2", "temperature": "0.5", "stream": "false", "n": 1.0,
        "session_id": "",
    }  # fmt: skip
    async with serve({"reply": "one two three"}) as host:
        answer = await host.client.post("/v1/chat/completions", json=body)
        refused = await host.client.post("/v1/chat/completions", json={**body, "max_tokens": "two"})

    assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "one two")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")


@pytest.mark.spec("ORCH-3077-004")
def test_a_seed_below_nothing_is_a_seed_like_another() -> None:
    assert chat_of(seed=-5).seed == chat_of(seed=-5).seed != chat_of(seed=-6).seed
    assert chat_of(top_k=10**12).top_k == 0
    with pytest.raises(InvalidRequest, match="seed"):
        chat_of(seed=-(2**63) - 1)


@pytest.mark.spec("ORCH-3077-005")
@pytest.mark.parametrize("fields", [
    {"cache_salt": "tenant-1"}, {"spaces_between_special_tokens": False}, {"watermarking": True},
    {"ec_transfer_params": {"a": 1}}, {"media_io_kwargs": {"image": {"a": 1}}},
])  # fmt: skip
def test_what_only_an_engine_can_keep_goes_to_it(fields: dict[str, Any]) -> None:
    [name] = fields
    assert list(chat_of(**fields).parameters) == list(completion_of(**fields).parameters) == [f"engine.{name}"]


@pytest.mark.spec("ORCH-3077-005")
def test_special_tokens_are_an_engine_s_where_they_are_not_its_habit() -> None:
    assert not chat_of(add_special_tokens=False).parameters
    assert not completion_of(add_special_tokens=True).parameters
    assert dict(chat_of(add_special_tokens=True).parameters) == {"engine.add_special_tokens": True}
    assert dict(completion_of(add_special_tokens=False).parameters) == {"engine.add_special_tokens": False}


@pytest.mark.spec("ORCH-3077-005")
@pytest.mark.parametrize("fields, param", [
    ({"prompt_logprobs": 0}, "prompt_logprobs"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
    ({"structured_outputs": {"json": SCHEMA, "whitespace_pattern": "x"}}, "structured_outputs.whitespace_pattern"),
    ({"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}}, "structured_outputs.disable_any"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
])  # fmt: skip
def test_what_looks_like_nothing_and_asks_for_something_is_refused(fields: dict[str, Any], param: str) -> None:
    for parse in (chat_of, completion_of):
        with pytest.raises((InvalidRequest, Unsupported), match=f"^'{param}"):
            parse(**fields)


@pytest.mark.spec("ORCH-3077-005")
def test_any_json_is_a_format_too() -> None:
    for fields in ({"structured_outputs": {"json": {}, "whitespace_pattern": None}}, {"guided_json": {}}):
        found = chat_of(**fields).response_format
        assert found is not None
        assert (found.type, found.json_schema) == ("json_schema", {})

"""The OpenAI-compatible face, with OpenAI's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import openai
import pytest

from adapter_api import Alternative, Capability, EngineProps, Started, TaskRequest, Token, TokenEvent
from adapter_api.events import End
from adapter_api.testing import MockAdapter
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.http.test_tasks import mock
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "Hello"}]


@pytest.mark.spec("ORCH-3064-009", "ORCH-3064-011")
async def test_a_whole_chat_completion(serve: Serve) -> None:
    async with serve({"reply": "one two three"}) as host, client_of(host) as client:
        answer = await client.chat.completions.create(model="mock", messages=USER, max_tokens=2)

    assert answer.choices[0].message.content == "one two"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (1, 2, 3)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")


@pytest.mark.spec("ORCH-3064-009")
async def test_a_streamed_chat_completion(serve: Serve) -> None:
    async with serve({"reply": "naïve 日本 🙂"}) as host, client_of(host) as client:
        stream = await client.chat.completions.create(
            model="mock",
            messages=USER,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "naïve 日本 🙂"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.spec("ORCH-3064-009")
@pytest.mark.parametrize("streamed", [False, True])
async def test_text_completions(serve: Serve, streamed: bool) -> None:
    async with serve({"reply": "one two"}) as host, client_of(host) as client:
        if streamed:
            stream = await client.completions.create(model="mock", prompt="Hello", stream=True)
            text = "".join([chunk.choices[0].text async for chunk in stream])
        else:
            text = (await client.completions.create(model="mock", prompt=["Hello"])).choices[0].text

    assert text == "one two"


async def test_models_are_listed(serve: Serve) -> None:
    async with serve({"models": ["b", "a"]}) as host, client_of(host) as client:
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("a")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nope")

    assert listed == ["a", "b"]
    assert one.id == "a"


async def test_sampling_options_reach_the_engine(serve: Serve) -> None:
    async with serve() as host, client_of(host) as client:
        await client.chat.completions.create(
            model="mock", messages=USER, max_completion_tokens=4, temperature=0.5, top_p=0.9, seed=7, stop=["x"],
            presence_penalty=0.1, frequency_penalty=0.2, user="u", extra_body={"top_k": 3, "session_id": "s"},
        )  # fmt: skip
        asked = mock(host).submitted[0]

    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.top_k, asked.seed) == (4, 0.5, 0.9, 3, 7)
    assert (asked.stop, asked.presence_penalty, asked.frequency_penalty) == (("x",), 0.1, 0.2)
    assert asked.session_id == "s"


@pytest.mark.spec("ORCH-3064-010")
@pytest.mark.parametrize(
    "fields, said",
    [
        ({"n": 0}, "'n' must be a whole number"),
        ({"return_prompt_text": True}, "'return_prompt_text' is not supported"),
        ({"audio": {"voice": "x"}}, "'audio' is not supported"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "empty"),
        ({"messages": "Hello"}, "'messages' must be a list"),
        ({"messages": [{"role": "the king", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video'"),
        ({"response_format": {"type": "xml"}}, "'xml'"),
        ({"tools": [{"type": "retrieval"}]}, "type function"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": False, "top_logprobs": 5}, "'top_logprobs' needs 'logprobs'"),
        ({"stream": "maybe"}, "'stream' must be true or false"),
        ({"logprobs": 2}, "'logprobs' must be true or false"),
        ({"history": "maybe"}, "'history' must be true or false"),
        (
            {"stream": True, "stream_options": {"include_usage": 2}},
            "'stream_options.include_usage' must be true or false",
        ),
        ({"stream_options": {"include_usage": True}}, "'stream_options' are for streams"),
        ({"tool_choice": "required"}, "there are none"),
        ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]}, "'messages' has 'audio'"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(serve: Serve, fields: dict[str, Any], said: str) -> None:
    async with serve() as host:
        response = await host.client.post("/v1/chat/completions", json={"model": "mock", "messages": USER, **fields})

    error = response.json()["error"]
    assert response.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]


async def test_an_answer_can_be_sent_back_with_the_conversation(serve: Serve) -> None:
    async with serve({"reply": "Hi"}) as host, client_of(host) as client:
        first = await client.chat.completions.create(model="mock", messages=USER)
        asked: Any = [*USER, {**first.choices[0].message.model_dump(), "refusal": "", "annotations": []}, *USER]
        second = await client.chat.completions.create(model="mock", messages=asked, tool_choice="none")

    assert second.choices[0].message.content == "Hi"


@pytest.mark.parametrize(
    "prompt, code",
    [([1, 2, 3], "unsupported"), ([[1], [2]], "unsupported"), (None, "invalid_request"), (5, "invalid_request")],
)
async def test_prompts_that_are_no_text_are_refused(serve: Serve, prompt: Any, code: str) -> None:
    async with serve() as host:
        response = await host.client.post("/v1/completions", json={"model": "mock", "prompt": prompt})

    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_token_has_its_own_status(serve: Serve, stream: bool) -> None:
    async with serve({"fail": "engine_failed"}) as host, client_of(host) as client:
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(model="mock", messages=USER, stream=stream)

    assert failed.value.status_code == 502
    assert failed.value.code == "engine_failed"


async def test_an_unknown_model_is_not_found(serve: Serve) -> None:
    async with serve() as host, client_of(host) as client:
        with pytest.raises(openai.NotFoundError) as refused:
            await client.chat.completions.create(model="nope", messages=USER)

    assert refused.value.code == "model_not_found"


async def test_an_error_in_the_middle_of_a_stream_is_raised_by_the_client(serve: Serve) -> None:
    async with serve({"fail": "connection_lost", "fail_after": 2}) as host, client_of(host) as client:
        stream = aiter(await client.chat.completions.create(model="mock", messages=USER, stream=True))
        role, first, second = [await anext(stream) for _ in range(3)]
        with pytest.raises(openai.APIError, match="connection_lost"):
            await anext(stream)

    assert role.choices[0].delta.content == ""
    assert first.choices[0].delta.content
    assert second.choices[0].delta.content


@pytest.mark.spec("ORCH-3064-004")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_cancels(serve: Serve, stream: bool) -> None:
    async with serve({"delay_s": 0.01}) as host:
        body = {"model": "mock", "messages": USER, "max_tokens": 1000, "stream": stream}
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: host.client.post("/v1/chat/completions", json=body))
            await eventually(lambda: bool(mock(host).running))
            group.cancel_scope.cancel()
        await eventually(lambda: not mock(host).running)


class Scored(MockAdapter):
    """Takes log-probabilities."""

    async def _props(self) -> EngineProps:
        props = await super()._props()
        replace = msgspec.structs.replace
        can = props.capabilities | {Capability.LOGPROBS}
        return replace(props, capabilities=can, models=tuple(replace(m, capabilities=can) for m in props.models))


class Silent(Scored):
    """Counts nothing and does not say why it ended."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        yield Token(0, "Hi", logprob=-0.5)
        yield End(finish_reason="unknown")


@pytest.mark.spec("ORCH-3064-011", "ORCH-3073-014")
async def test_what_the_engine_did_not_say_is_not_made_up(serve: Serve) -> None:
    plugins = plugin_host(mock="tests.orchestrator.http.test_openai:Silent")
    async with serve(plugins=plugins) as host:
        body = {"model": "mock", "messages": USER, "logprobs": True}
        answer = (await host.client.post("/v1/chat/completions", json=body)).json()

    assert answer["usage"] is None
    assert answer["choices"][0]["finish_reason"] == "stop", "a word that clients know"
    assert answer["choices"][0]["engine_finish_reason"] == "unknown"
    assert answer["choices"][0]["logprobs"]["content"][0]["logprob"] == -0.5


class Scoring(Scored):
    """Tells what else it could have said."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        alternatives = (Alternative("Hi", -0.5, 1), Alternative("Ho", -1.5, 2))[: task.logprobs]
        yield Token(0, "Hi", logprob=-0.5, alternatives=alternatives)
        yield End(finish_reason="stop")


@pytest.mark.spec("ORCH-3064-011")
async def test_alternatives_are_told_as_openai_tells_them(serve: Serve) -> None:
    plugins = plugin_host(mock="tests.orchestrator.http.test_openai:Scoring")
    async with serve(plugins=plugins) as host, client_of(host) as client:
        chat = await client.chat.completions.create(model="mock", messages=USER, logprobs=True, top_logprobs=2)
        text = await client.completions.create(model="mock", prompt="Hello", logprobs=2)
        plain = await client.chat.completions.create(model="mock", messages=USER, logprobs=True)

    assert chat.choices[0].logprobs is not None
    assert chat.choices[0].logprobs.content is not None
    told = chat.choices[0].logprobs.content[0]
    assert (told.token, told.logprob) == ("Hi", -0.5)
    assert [(other.token, other.logprob) for other in told.top_logprobs] == [("Hi", -0.5), ("Ho", -1.5)]
    assert text.choices[0].logprobs is not None
    assert text.choices[0].logprobs.top_logprobs == [{"Hi": -0.5, "Ho": -1.5}]
    assert plain.choices[0].logprobs is not None
    assert plain.choices[0].logprobs.content is not None
    assert plain.choices[0].logprobs.content[0].top_logprobs == []


class FourTokens(Scored):
    """Says four tokens, one of them without text."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        for index, text in enumerate(("Hé", "", " there", "!")):
            yield Token(index, text, logprob=-0.5, token_id=index, alternatives=(Alternative("x", -1.0, 9),))
        yield End(finish_reason="stop")


@pytest.mark.spec("ORCH-3064-011")
async def test_a_completion_says_where_each_token_begins_streamed_or_whole(serve: Serve) -> None:
    plugins = plugin_host(mock="tests.orchestrator.http.test_openai:FourTokens")
    async with serve(plugins=plugins) as host, client_of(host) as client:
        whole = await client.completions.create(model="mock", prompt="Hello", logprobs=1)
        stream = await client.completions.create(model="mock", prompt="Hello", logprobs=1, stream=True)
        chunks = [chunk.choices[0].logprobs async for chunk in stream]

    told = whole.choices[0].logprobs
    assert told is not None
    assert (told.tokens, told.text_offset) == (["Hé", "", " there", "!"], [0, 2, 2, 8])
    assert told.token_logprobs == [-0.5] * 4
    # The token itself is always among them, and makes one more where it is none of the likeliest.
    assert told.top_logprobs == [{token: -0.5, "x": -1.0} for token in told.tokens or ()]
    assert [offset for chunk in chunks if chunk for offset in chunk.text_offset or ()] == told.text_offset
    assert [token for chunk in chunks if chunk for token in chunk.tokens or ()] == told.tokens


class TextOnly(MockAdapter):
    async def _props(self) -> EngineProps:
        props = await super()._props()
        able = props.models[0].capabilities - {Capability.MESSAGES}
        return msgspec.structs.replace(props, models=(msgspec.structs.replace(props.models[0], capabilities=able),))


@pytest.mark.spec("ORCH-3064-012")
async def test_messages_become_a_prompt_for_a_model_that_takes_only_text(serve: Serve) -> None:
    plugins = plugin_host(mock="tests.orchestrator.http.test_openai:TextOnly")
    async with serve(plugins=plugins) as host, client_of(host) as client:
        await client.chat.completions.create(
            model="mock",
            messages=[{"role": "system", "content": "Be brief."}, *USER],
        )
        asked = mock(host).submitted[0]
        picture: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        shown: Any = [{"role": "user", "content": [picture]}]
        with pytest.raises(openai.BadRequestError, match="text only"):
            await client.chat.completions.create(model="mock", messages=shown)

    assert asked.messages is None
    assert asked.prompt == "system: Be brief.\n\nuser: Hello\n\nassistant:"

"""Token ids on the OpenAI face, messages that are continued, and usage with every chunk: as at vLLM's server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from zlib import crc32

import pytest

from adapter_api import End, InvalidRequest, Started, TaskRequest, Token, TokenEvent, Usage
from orchestrator.http.openai_requests import parse_chat, parse_completion
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.pools.test_fit import TextOnly
from tests.orchestrator.pools.test_monitor import plugin_host

pytestmark = pytest.mark.anyio

IDS = [7, 8, 9]
USER: Any = [{"role": "user", "content": "Hello"}]
TURNS: Any = [*USER, {"role": "assistant", "content": "I say"}]
CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</e>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Repeating(TextOnly):
    """Answers with its prompt, in two tokens, and counts them at the end."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        said = task.prompt or ""
        yield Token(0, said[:3])
        yield Token(1, said[3:])
        yield End(finish_reason="stop", usage=Usage(tokens_in=1, tokens_out=2))


async def chunks_of(host: Host, path: str, **body: Any) -> list[dict[str, Any]]:
    answer = await host.client.post(path, json={"model": "mock", "stream": True, **body})
    assert answer.status_code == 200, answer.text
    *frames, done, _ = answer.text.split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@pytest.mark.spec("ORCH-3076-009")
@pytest.mark.parametrize("prompt, tasks", [([1, 2], [(1, 2)]), ([[1, 2], [3]], [(1, 2), (3,)]), ([[5]], [(5,)])])
def test_a_list_of_ids_is_one_prompt_and_a_list_of_lists_are_several(prompt: Any, tasks: list[Any]) -> None:
    asked = parse_completion({"model": "m", "prompt": prompt, "n": 2}, {})

    assert [task.prompt_token_ids for task in asked.tasks] == [each for each in tasks for _ in range(2)]
    assert all(task.prompt is None for task in asked.tasks)
    assert len({task.job_id for task in asked.tasks}) == len(asked.tasks)


@pytest.mark.spec("ORCH-3076-009")
@pytest.mark.parametrize(
    "prompt",
    [[], [[]], [1, "a"], ["a", 1], [[1], "a"], [[1], 2], [1, [2]], [[1], []], [True], [[1, True]], [1.0], [-1],
     [[2**31]], [None], [[["a"]]], 5, {}],
)  # fmt: skip
def test_mixtures_and_what_are_no_ids_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^'prompt' (must be|has a token id)"):
        parse_completion({"model": "m", "prompt": prompt}, {})


@pytest.mark.spec("ORCH-3076-017")
def test_the_text_of_ids_that_are_to_be_repeated_is_asked_of_the_engine() -> None:
    asked = parse_completion({"model": "m", "prompt": IDS, "echo": True}, {})

    assert (asked.task.prompt_logprobs, asked.task.logprobs, asked.shows_scores) == (0, None, False)


@pytest.mark.spec("ORCH-3076-009")
async def test_a_model_that_takes_no_ids_refuses_them_by_name(serve: Serve) -> None:
    async with serve({}) as host:
        answer = await host.client.post("/v1/completions", json={"model": "mock", "prompt": IDS})
        told = await host.client.post(
            "/v1/completions", json={"model": "mock", "prompt": "a", "return_token_ids": True}
        )

    assert (answer.status_code, told.status_code) == (400, 400)
    assert "takes no prompt_token_ids" in answer.json()["error"]["message"]
    assert "takes no token_ids" in told.json()["error"]["message"]


@pytest.mark.spec("ORCH-3076-009", "ORCH-3076-010")
async def test_the_sdk_asks_in_ids_and_reads_them(serve: Serve) -> None:
    async with serve({"token_ids": True, "reply": "a b a"}) as host, client_of(host) as client:
        made = await client.completions.create(
            model="mock", prompt=[[7, 8], [9]], extra_body={"return_token_ids": True}
        )
        chat = await client.chat.completions.create(model="mock", messages=USER, extra_body={"return_token_ids": True})

    assert [choice.prompt_token_ids for choice in made.choices] == [[7, 8], [9]]  # type: ignore[attr-defined]
    assert [len(choice.token_ids) for choice in made.choices] == [3, 3]  # type: ignore[attr-defined]
    assert made.usage is not None
    assert made.usage.prompt_tokens == 3
    assert len(chat.prompt_token_ids) == 1  # type: ignore[attr-defined]
    assert len(chat.choices[0].token_ids) == 3  # type: ignore[attr-defined]
    assert not hasattr(chat.choices[0], "prompt_token_ids")


@pytest.mark.spec("ORCH-3076-009")
async def test_a_prompt_may_have_more_ids_than_a_body_values_and_no_more_lists(serve: Serve) -> None:
    ids = [*range(250_000)]
    async with serve({"token_ids": True, "reply": "a"}) as host:
        long = await host.client.post("/v1/completions", json={"model": "mock", "prompt": ids})
        by_task = await host.client.post("/v2/tasks", json={"model": "mock", "prompt_token_ids": ids})
        lists = await host.client.post("/v1/completions", json={"model": "mock", "prompt": [[]] * 150_000})
        chat = await host.client.post("/v1/chat/completions", json={"model": "mock", "messages": USER, "x": ids})

    assert long.json()["usage"]["prompt_tokens"] == len(ids)
    assert f'"tokens_in":{len(ids)}' in by_task.text
    assert (lists.status_code, chat.status_code) == (400, 400)
    assert "more than 100000 texts and lists" in lists.json()["error"]["message"]
    assert "more than 100000 values" in chat.json()["error"]["message"]


@pytest.mark.spec("ORCH-3076-010")
async def test_a_stream_has_the_prompts_ids_in_its_first_chunk_and_new_ones_with_each(serve: Serve) -> None:
    async with serve({"token_ids": True, "reply": "a b a"}) as host:
        chat = await chunks_of(host, "/v1/chat/completions", messages=USER, return_token_ids=True)
        text = await chunks_of(host, "/v1/completions", prompt=[IDS, [5]], return_token_ids=True)
        plain = await chunks_of(host, "/v1/chat/completions", messages=USER)

    assert len(chat[0]["prompt_token_ids"]) == 1
    assert all("prompt_token_ids" not in chunk for chunk in chat[1:])
    told = [chunk["choices"][0].get("token_ids") for chunk in chat]
    assert [len(each or []) for each in told] == [0, 1, 1, 1, 0]
    assert told[1] == [crc32(b"a") >> 1]
    assert told[2] == [crc32(b" b") >> 1]
    for index, ids in enumerate((IDS, [5])):
        choices = [chunk["choices"][0] for chunk in text if chunk["choices"][0]["index"] == index]
        assert choices[0]["prompt_token_ids"] == ids
        assert all("prompt_token_ids" not in choice for choice in choices[1:])
        assert [len(choice["token_ids"]) for choice in choices] == [1, 1, 1, 0]
    assert "token_ids" not in json.dumps(plain)


@pytest.mark.spec("ORCH-3076-010")
async def test_ids_of_thoughts_and_calls_come_with_them(serve: Serve) -> None:
    call = {"name": "f", "arguments": "{}"}
    async with serve({"token_ids": True, "reasoning": "so it is", "tool_calls": [call]}) as host:
        chunks = await chunks_of(
            host, "/v1/chat/completions", messages=USER, return_token_ids=True, max_tokens=64,
            tools=[{"type": "function", "function": {"name": "f"}}],
        )  # fmt: skip
        hidden = await chunks_of(
            host, "/v1/chat/completions", messages=USER, return_token_ids=True, max_tokens=64, include_reasoning=False,
            tools=[{"type": "function", "function": {"name": "f"}}],
        )  # fmt: skip

    ids = [chunk["choices"][0].get("token_ids", []) for chunk in chunks]
    assert [len(each) for each in ids] == [0, 1, 1, 1, 1, 1, 0]
    assert [chunk["choices"][0]["delta"].get("reasoning") for chunk in chunks][1:4] == ["so", " it", " is"]
    assert sum(len(chunk["choices"][0].get("token_ids", [])) for chunk in hidden) == 5


@pytest.mark.spec("ORCH-3076-012")
async def test_every_chunk_has_the_usage_so_far_where_both_are_asked_for(serve: Serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with serve({"reply": "a b c"}) as host:
        chat = await chunks_of(host, "/v1/chat/completions", messages=USER, stream_options=options)
        text = await chunks_of(host, "/v1/completions", prompt=["a b", "c"], stream_options=options)
        alone = await chunks_of(host, "/v1/completions", prompt="a", stream_options={"continuous_usage_stats": True})

    told = [(c["usage"]["prompt_tokens"], c["usage"]["completion_tokens"], c["usage"]["total_tokens"]) for c in chat]
    assert told == [(1, 0, 1), (1, 1, 2), (1, 2, 3), (1, 3, 4), (1, 3, 4), (1, 3, 4)]
    assert chat[-1]["choices"] == []
    first = [chunk["usage"] for chunk in text if chunk["choices"] and chunk["choices"][0]["index"] == 0]
    assert [(each["prompt_tokens"], each["completion_tokens"]) for each in first] == [(2, 1), (2, 2), (2, 3), (2, 3)]
    assert text[-1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    assert "usage" not in json.dumps(alone)


@pytest.mark.spec("ORCH-3076-012")
async def test_an_engine_that_counts_at_its_end_only_has_no_usage_made_up(serve: Serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    plugins = plugin_host(templated="tests.orchestrator.http.test_token_ids:Repeating")
    async with serve(pool={"adapter": "templated"}, plugins=plugins) as host:
        chunks = await chunks_of(host, "/v1/completions", prompt="a river", stream_options=options)

    assert ["usage" in chunk for chunk in chunks] == [False, False, True, True]


@pytest.mark.spec("ORCH-3076-011")
@pytest.mark.parametrize(
    "fields, prompt",
    [
        ({}, "<user>Hello</e><assistant>I say</e><assistant>"),
        ({"continue_final_message": True}, "<user>Hello</e><assistant>I say"),
        ({"continue_final_message": True, "add_generation_prompt": False}, "<user>Hello</e><assistant>I say"),
        ({"add_generation_prompt": False}, "<user>Hello</e><assistant>I say</e>"),
    ],
)
async def test_the_pools_template_leaves_the_end_open(serve: Serve, fields: dict[str, Any], prompt: str) -> None:
    plugins = plugin_host(templated="tests.orchestrator.http.test_token_ids:Repeating")
    async with serve(pool={"adapter": "templated", "chat_template": CHATML}, plugins=plugins) as host:
        answer = await host.client.post("/v1/chat/completions", json={"model": "mock", "messages": TURNS, **fields})

    assert answer.json()["choices"][0]["message"] == {"role": "assistant", "content": prompt, "refusal": None}


@pytest.mark.spec("ORCH-3076-011")
async def test_the_role_is_that_of_the_last_message_where_no_answer_is_begun(serve: Serve) -> None:
    plugins = plugin_host(templated="tests.orchestrator.http.test_token_ids:Repeating")
    async with serve(pool={"adapter": "templated", "chat_template": CHATML}, plugins=plugins) as host:
        body = {"messages": USER, "add_generation_prompt": False}
        answer = await host.client.post("/v1/chat/completions", json={"model": "mock", **body})
        chunks = await chunks_of(host, "/v1/chat/completions", **body)

    assert answer.json()["choices"][0]["message"]["role"] == "user"
    assert chunks[0]["choices"][0]["delta"]["role"] == "user"


@pytest.mark.spec("ORCH-3076-011")
@pytest.mark.parametrize(
    "fields",
    [{"continue_final_message": True, "add_generation_prompt": True}, {"continue_final_message": 2},
     {"add_generation_prompt": "maybe"},
     {"messages": [{"role": "user", "content": ""}], "continue_final_message": True}],
)  # fmt: skip
def test_what_vllm_refuses_of_it_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"generation_prompt|continue_final_message"):
        parse_chat({"model": "m", "messages": TURNS, **fields}, {})


@pytest.mark.spec("ORCH-3076-011")
async def test_a_model_that_begins_its_own_turn_refuses_to_go_on(serve: Serve) -> None:
    async with serve({}) as host:
        answer = await host.client.post(
            "/v1/chat/completions", json={"model": "mock", "messages": TURNS, "continue_final_message": True}
        )

    assert answer.status_code == 400
    assert "continue_final_message" in answer.json()["error"]["message"]


@pytest.mark.spec("ORCH-3076-013")
@pytest.mark.parametrize(
    "parse, fields, sent",
    [
        (parse_chat, {"messages": USER, "add_special_tokens": False}, {}),
        (parse_chat, {"messages": USER, "add_special_tokens": True}, {"engine.add_special_tokens": True}),
        (parse_completion, {"prompt": "a", "add_special_tokens": True}, {}),
        (parse_completion, {"prompt": "a", "add_special_tokens": False}, {"engine.add_special_tokens": False}),
        (parse_completion, {"prompt": "a", "spaces_between_special_tokens": True}, {}),
        (parse_completion, {"prompt": "a", "spaces_between_special_tokens": False},
         {"engine.spaces_between_special_tokens": False}),
        (parse_completion, {"prompt": IDS, "truncate_prompt_tokens": 2}, {"engine.truncate_prompt_tokens": 2}),
    ],
)  # fmt: skip
def test_what_changes_the_answer_goes_to_the_engine_and_what_asks_for_nothing_is_taken(
    parse: Any, fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    assert dict(parse({"model": "m", **fields}, {}).task.parameters) == sent


@pytest.mark.spec("ORCH-3076-011")
async def test_a_session_remembers_a_continued_message_and_its_rest_as_one(serve: Serve) -> None:
    mock = plugin_host(mock="tests.orchestrator.http.test_token_ids:Repeating")
    asked = {"model": "mock", "session_id": "s", "history": True}
    async with serve(plugins=mock, pool={"chat_template": CHATML}) as host:
        await host.client.post(
            "/v1/chat/completions",
            json={**asked, "messages": TURNS, "continue_final_message": True, "add_generation_prompt": False},
        )
        answer = await host.client.post("/v1/chat/completions", json={**asked, "messages": USER})

    begun = "<user>Hello</e><assistant>I say"  # and so it goes on with all that it was shown
    assert answer.json()["choices"][0]["message"]["content"] == f"{begun}{begun}</e><user>Hello</e><assistant>"


@pytest.mark.spec("ORCH-3059-070", "ORCH-3076-011")
@pytest.mark.parametrize("begun, kept", [("<think>so I", "Yes"), ("Well. <think>so I", "Well. Yes")])
async def test_a_session_forgets_the_thoughts_that_a_continued_message_broke_off_within(
    serve: Serve, begun: str, kept: str
) -> None:
    pool = {"chat_template": CHATML, "reasoning_parser": "think"}
    asked = {
        "model": "mock", "session_id": "s", "history": True, "continue_final_message": True,
        "add_generation_prompt": False, "messages": [*USER, {"role": "assistant", "content": begun}],
    }  # fmt: skip
    mock = plugin_host(mock="tests.orchestrator.pools.test_fit:TextOnly")
    async with serve({"reply": "do</think>Yes"}, plugins=mock, pool=pool) as host:
        answer = await host.client.post("/v1/chat/completions", json=asked)
        (turn,) = host.serving.service.conversations.histories.turns(None, "s")

    message = answer.json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("do", "Yes")
    assert (turn.answer, [each.text for each in turn.asked]) == (kept, ["Hello"])

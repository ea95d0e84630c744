"""What the tests of vLLM's own OpenAI server ask of it, asked of a host: what none of the other files here asks.

Read were its tests of chats, completions, responses, embeddings, tools, errors and middleware, as of 0.32. The engine
behind the host is the scripted one that answers as vLLM's server does.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from adapter_api import load_plugins
from openai_adapter.testing import LLAMA_CPP, VLLM, FakeOpenAI, Family
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.test_tasks import mock

pytestmark = pytest.mark.anyio

USER: Any = [{"role": "user", "content": "Hello there"}]
Before = Callable[..., AbstractAsyncContextManager[tuple[Host, FakeOpenAI]]]


@pytest.fixture
def before(serve: Serve) -> Before:
    """`async with before(VLLM) as (host, engine):` a host before an engine of that family."""

    @asynccontextmanager
    async def start(family: Family = VLLM) -> AsyncIterator[tuple[Host, FakeOpenAI]]:
        with FakeOpenAI(family) as engine:
            pools = [{"adapter": "openai", "replicas": [{"id": "r0", "options": {"url": engine.url}}]}]
            async with serve(pools=pools, plugins=load_plugins()) as host:
                yield host, engine

    return start


async def sent(host: Host, engine: FakeOpenAI, path: str = "chat/completions", **fields: Any) -> dict[str, Any]:
    """Return the request that the engine got for a client's."""
    body = {"model": "known", **({"input": "Hello there"} if path == "responses" else {"messages": USER}), **fields}
    answer = await host.client.post(f"/v1/{path}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(json.loads(engine.requests[-1].body))


@pytest.mark.spec("ORCH-3077-011")
@pytest.mark.parametrize("fields, variables", [
    ({"reasoning_effort": "none"}, {"reasoning_effort": "none", "enable_thinking": False}),
    ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
     {"reasoning_effort": "none", "enable_thinking": True}),
    ({"reasoning_effort": "none", "chat_template_kwargs": {"a": 1}},
     {"reasoning_effort": "none", "enable_thinking": False, "a": 1}),
    ({"reasoning_effort": None}, None),
])  # fmt: skip
@pytest.mark.parametrize("path", ["chat/completions", "responses"])
async def test_a_model_that_is_to_think_nothing_is_told_so(
    before: Before, path: str, fields: dict[str, Any], variables: dict[str, Any] | None
) -> None:
    if path == "responses":
        effort, *others = fields.items()
        fields = {"reasoning": {"effort": effort[1]}, **dict(others)}
    async with before() as (host, engine):
        got = await sent(host, engine, path, **fields)

    assert got.get("chat_template_kwargs") == variables
    assert got.get("reasoning_effort") == (variables or {}).get("reasoning_effort")


@pytest.mark.spec("ORCH-3077-011")
async def test_an_effort_goes_by_its_own_name_to_engines_that_say_so_only(before: Before) -> None:
    async with before(LLAMA_CPP) as (host, engine):
        got = await sent(host, engine, reasoning_effort="low")
        refused = await host.client.post(
            "/v1/chat/completions", json={"model": "known", "messages": USER, "reasoning_effort": 5}
        )

    assert (got["chat_template_kwargs"], "reasoning_effort" in got) == ({"reasoning_effort": "low"}, False)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "reasoning_effort")


@pytest.mark.spec("ORCH-3077-011")
@pytest.mark.parametrize("said, thought", [
    ({"reasoning": "A"}, "A"), ({"reasoning_content": "B"}, "B"), ({"reasoning": "A", "reasoning_content": "B"}, "A"),
    ({"reasoning": "A", "content": ""}, "A"), ({"reasoning": "A", "content": []}, "A"), ({"reasoning": None}, None),
])  # fmt: skip
async def test_what_a_model_thought_before_reaches_its_engine(
    before: Before, said: dict[str, Any], thought: str | None
) -> None:
    async with before() as (host, engine):
        messages = [*USER, {"role": "assistant", "content": "4", **said}, *USER]
        _, answered, _ = (await sent(host, engine, messages=messages))["messages"]

    assert (answered.get("reasoning"), answered.get("reasoning_content")) == (thought, thought)
    assert answered["content"] == said.get("content", "4")


@pytest.mark.spec("ORCH-3077-012")
@pytest.mark.parametrize("parts, got", [
    (["Hello", " you"], [{"type": "text", "text": "Hello"}, {"type": "text", "text": " you"}]),
    ([{"image_url": {"url": "https://example.com/a.jpg"}}],
     [{"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}]),
    ([{"image_url": "https://example.com/a.jpg"}],
     [{"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}]),
])  # fmt: skip
@pytest.mark.parametrize("role", ["user", "system", "my-own"])
async def test_parts_of_a_message_are_read_in_their_short_forms_too(
    before: Before, role: str, parts: Any, got: Any
) -> None:
    async with before() as (host, engine):
        [message] = (await sent(host, engine, messages=[{"role": role, "content": parts}]))["messages"]

    assert message == {"role": role, "content": got}


@pytest.mark.spec("ORCH-3077-001")
async def test_a_field_of_a_part_that_nobody_knows_is_named(serve: Serve) -> None:
    part = {"type": "text", "text": "x", "source_lang_code": "en", "cache_control": {"type": "ephemeral"}, "uuid": None}
    body = {"model": "mock", "messages": [{"role": "user", "content": [part, {**part, "target_lang_code": "es"}]}]}
    async with serve() as host:
        taken = await host.client.post("/v1/chat/completions", json=body)
    async with serve(server={"unknown_fields": "refuse"}) as host:
        refused = await host.client.post("/v1/chat/completions", json=body)

    names = "messages.content.source_lang_code, messages.content.target_lang_code"
    assert (taken.status_code, taken.headers["X-Ignored-Fields"]) == (200, names)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages.content.source_lang_code")


@pytest.mark.spec("ORCH-3075-009")
@pytest.mark.parametrize("kind", ["input_image", "image_url"])
@pytest.mark.parametrize("image", ["https://example.com/a.png", {"url": "https://example.com/a.png"}])
async def test_a_response_takes_images_as_a_chat_has_them(before: Before, kind: str, image: Any) -> None:
    asked = [{"role": "user", "content": [{"type": kind, "image_url": image}]}]
    async with before() as (host, engine):
        [message] = (await sent(host, engine, "responses", input=asked))["messages"]

    assert message["content"] == [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]


CALLS: Any = {
    "tool_calls": [{"name": "time", "arguments": '{"zone": "UTC"}'}, {"name": "date", "arguments": "{}"}],
    "reply": "noon",
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("time", "date")
]


@pytest.mark.spec("ORCH-3077-013")
@pytest.mark.parametrize("wanted, names", [
    (False, ["time"]), ("false", ["time"]), (True, ["time", "date"]), (None, ["time", "date"]),
])  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
async def test_who_wants_no_calls_side_by_side_gets_the_first(
    serve: Serve, wanted: Any, names: list[str], streamed: bool
) -> None:
    body = {"model": "mock", "parallel_tool_calls": wanted, "stream": streamed}
    tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
    async with serve(CALLS) as host:
        chat = await host.client.post("/v1/chat/completions", json={**body, "messages": USER, "tools": TOOLS, "n": 2})
        response = await host.client.post("/v1/responses", json={**body, "input": "Hello", "tools": tools})

    whole = chat_of(chat)
    assert [[call["function"]["name"] for call in choice["tool_calls"]] for choice in whole] == [names] * 2
    assert {choice["finish_reason"] for choice in whole} == {"tool_calls"}
    told = response_of(response)
    assert [item["name"] for item in told["output"]] == names
    assert told["parallel_tool_calls"] is (len(names) == 2)


@pytest.mark.spec("ORCH-3077-013")
async def test_a_call_that_was_not_shown_is_not_remembered(serve: Serve) -> None:
    body = {
        "model": "mock", "messages": USER, "tools": TOOLS, "parallel_tool_calls": False, "history": True,
        "session_id": "s",
    }  # fmt: skip
    async with serve(CALLS) as host:
        first = (await host.client.post("/v1/chat/completions", json=body)).json()
        [call] = first["choices"][0]["message"]["tool_calls"]
        result = [{"role": "tool", "tool_call_id": call["id"], "content": "12:00"}]
        await host.client.post("/v1/chat/completions", json={**body, "messages": result})
        asked = mock(host).submitted[-1].messages

    assert asked is not None
    assert [[made.id for made in message.tool_calls] for message in asked] == [[], [call["id"]], []]


def piece(said: dict[str, Any], *tokens: str, **choice: Any) -> bytes:
    """Return a chunk of a chat with the log probabilities of its tokens."""
    scored = [{"token": text, "logprob": -0.5, "bytes": list(text.encode()), "top_logprobs": []} for text in tokens]
    told = {"index": 0, "delta": said, "logprobs": {"content": scored} if tokens else None, **choice}
    chunk = {"id": "1", "object": "chat.completion.chunk", "model": "known", "choices": [told]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def word(text: str, *tokens: str) -> bytes:
    """Return the same of a completion."""
    scores = {"tokens": tokens, "token_logprobs": [-0.5] * len(tokens), "top_logprobs": [{t: -0.5} for t in tokens]}
    chunk = {
        "id": "1",
        "object": "text_completion",
        "model": "known",
        "choices": [{"index": 0, "text": text, "logprobs": scores}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


END = (piece({"content": ""}, finish_reason="stop"), b"data: [DONE]\n\n")


@pytest.mark.spec("ORCH-3077-014")
@pytest.mark.parametrize("pieces, tokens", [
    # Thoughts, the mark between, and the answer; thoughts and answer in one piece; thoughts that say what it says.
    ([piece({"reasoning": "think"}, "th", "ink"), piece({"content": ""}, "</think>"), piece({"content": "so"}, "so")],
     ["so"]),
    ([piece({"reasoning": " end", "content": "so"}, " end", "</think>", "so")], ["so"]),
    ([piece({"reasoning": "so "}, "so", " "), piece({"content": "so"}, "</think>", "so")], ["so"]),
    # A mark that a parser of calls took out, alone, before a text, and before a call.
    ([piece({"content": ""}, "<tool_call>"), piece({"content": "so"}, "so")], ["so"]),
    ([piece({"content": "so"}, "<tool_call>", "so")], ["so"]),
    ([piece({"content": "so"}, "so"), piece({"content": ""}, "<tool_call>"), piece({"content": " be"}, " be")],
     ["so", " be"]),
    # A character of two tokens, and text that lags behind its tokens.
    ([piece({"content": ""}, "s"), piece({"content": "so"}, "o")], ["s", "o"]),
    ([piece({"content": "ab"}, "abc"), piece({"content": "c d"}, " de"), piece({"content": "e!"}, "!")],
     ["abc", " de", "!"]),
])  # fmt: skip
@pytest.mark.parametrize("shown", [True, False])
async def test_each_token_of_the_answer_has_its_own_probability(
    before: Before, pieces: list[bytes], tokens: list[str], shown: bool
) -> None:
    body = {"model": "known", "messages": USER, "logprobs": True, "include_reasoning": shown}
    async with before() as (host, engine):
        engine.stream_next(*pieces, *END)
        whole = (await host.client.post("/v1/chat/completions", json=body)).json()["choices"][0]
        engine.stream_next(*pieces, *END)
        streamed = await host.client.post("/v1/chat/completions", json={**body, "stream": True})

    scored = [
        each for chunk in chunks_of(streamed) for each in (chunk["choices"][0]["logprobs"] or {}).get("content", ())
    ]
    assert [(each["token"], each["logprob"]) for each in scored] == [(token, -0.5) for token in tokens]
    assert scored == whole["logprobs"]["content"]
    assert whole["message"]["content"] == "".join(tokens)


@pytest.mark.spec("ORCH-3077-014")
async def test_tokens_stand_where_their_text_does_though_it_was_held_back(before: Before) -> None:
    pieces = [word("ab", "abc"), word("c d", " de"), word("e!", "!"), *END]
    body = {"model": "known", "prompt": "Hi", "logprobs": 0, "stop": ["\n\n"]}
    async with before() as (host, engine):
        engine.stream_next(*pieces)
        whole = (await host.client.post("/v1/completions", json=body)).json()["choices"][0]["logprobs"]
        engine.stream_next(*pieces)
        streamed = await host.client.post("/v1/completions", json={**body, "stream": True})

    told = [chunk["choices"][0]["logprobs"] or {"text_offset": []} for chunk in chunks_of(streamed)]
    assert [place for each in told for place in each["text_offset"]] == whole["text_offset"] == [0, 3, 6]
    assert (whole["tokens"], whole["token_logprobs"]) == (["abc", " de", "!"], [-0.5] * 3)


def counted(**usage: Any) -> bytes:
    """Return the last chunk of a stream, which counts."""
    chunk = {
        "id": "1",
        "model": "known",
        "choices": [],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, **usage},
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


CACHED = {"prompt_tokens_details": {"cached_tokens": 8, "multimodal_tokens": None}}
THOUGHT = {"completion_tokens_details": {"reasoning_tokens": 3}}


@pytest.mark.spec("ORCH-3077-015")
@pytest.mark.parametrize("usages, told", [
    ([CACHED | THOUGHT], {"prompt_tokens_details": {"cached_tokens": 8}} | THOUGHT),
    ([{"prompt_tokens_details": {"cached_tokens": 0}}], {"prompt_tokens_details": {"cached_tokens": 0}}),
    ([{}], {}), ([{"prompt_tokens_details": None, "completion_tokens_details": {}}], {}),
    ([{"prompt_tokens_details": "many", "completion_tokens_details": {"reasoning_tokens": -1}}], {}),
    # Of two prompts, one of which nobody knows it; two answers to a prompt count it once.
    ([CACHED, {}], {"prompt_tokens_details": {"cached_tokens": 8}}),
    ([CACHED | THOUGHT, CACHED | THOUGHT], {
        "prompt_tokens_details": {"cached_tokens": 16}, "completion_tokens_details": {"reasoning_tokens": 6}}),
])  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
async def test_what_the_engine_had_in_its_cache_and_what_it_thought_is_counted(
    before: Before, usages: list[dict[str, Any]], told: dict[str, Any], streamed: bool
) -> None:
    body = {"model": "known", "prompt": ["a", "b"][: len(usages)], "stream": streamed}
    body |= {"stream_options": {"include_usage": True}} if streamed else {}
    async with before() as (host, engine):
        for usage in usages:
            engine.stream_next(word("so"), *END[:1], counted(**usage), END[1])
        answer = await host.client.post("/v1/completions", json=body)

    usage = chunks_of(answer)[-1]["usage"] if streamed else answer.json()["usage"]
    count = len(usages)
    assert usage == {"prompt_tokens": 10 * count, "completion_tokens": 4 * count, "total_tokens": 14 * count, **told}


@pytest.mark.spec("ORCH-3077-015")
async def test_a_response_counts_them_as_well(before: Before) -> None:
    async with before() as (host, engine):
        found = []
        for usage in (CACHED | THOUGHT, {}):
            engine.stream_next(
                piece({"reasoning": "Hm."}), piece({"content": "so"}), *END[:1], counted(**usage), END[1]
            )
            found.append(
                (await host.client.post("/v1/responses", json={"model": "known", "input": "a"})).json()["usage"]
            )

    details = [(usage["input_tokens_details"]["cached_tokens"], usage["output_tokens_details"]) for usage in found]
    assert details == [(8, {"reasoning_tokens": 3}), (0, {"reasoning_tokens": 1})]


def chat_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return what each choice of a chat says: its calls, and why it ended."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return [choice | choice["message"] for choice in answer.json()["choices"]]
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks_of(answer):
        for choice in chunk["choices"]:
            said = choices.setdefault(choice["index"], {"tool_calls": []})
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    said["tool_calls"].append({"id": call["id"], "function": dict(call["function"])})
                else:
                    said["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
            said["finish_reason"] = choice["finish_reason"] or said.get("finish_reason")
    return [choices[index] for index in sorted(choices)]


def response_of(answer: httpx.Response) -> dict[str, Any]:
    """Return a response, also out of the last event of its stream."""
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return dict(answer.json())
    return dict(chunks_of(answer)[-1]["response"])


def chunks_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return what the events of a stream hold."""
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]


# -- what is a request, and what is none -------------------------------------------------------------------------------

TOOL: Any = {"type": "function", "function": {"name": "f"}}
RESPONSES_TOOL: Any = {"type": "function", "name": "f"}
MADE: Any = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BARE: Any = {"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
NAMED: Any = {"type": "function", "function": {"name": "g"}}
SOMEWHERE = {"url": "https://example.org/a.png"}


def of_user(*content: Any) -> Any:
    return [{"role": "user", "content": [*content]}]


def after_user(*messages: Any) -> Any:
    return [*USER, *messages]


CHATS: list[tuple[dict[str, Any], str | None]] = [
    ({"logit_bias": {"not an id": 50}}, "logit_bias"), ({"logit_bias": {"1": "much"}}, "logit_bias"),
    ({"tools": [TOOL], "tool_choice": {}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {}}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": ""}}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"), ({"tool_choice": NAMED}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"), ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL]}, "tools"), ({"tools": [TOOL], "tool_choice": None}, "tools"),
    ({"tool_choice": None}, None), ({"tools": [], "tool_choice": None}, None), ({"tools": None}, None),
    ({"structured_outputs": 3}, "structured_outputs"),
    ({"structured_outputs": {"grammar": ""}}, "structured_outputs.grammar"),
    ({"structured_outputs": {"regex": {"1": "a"}}}, "structured_outputs.regex"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
    ({"structured_outputs": {"choice": ["a"], "regex": "a"}}, "structured_outputs"),
    ({"structured_outputs": {"json": {"type": "object", "properties": {"a": "b"}}}}, "structured_outputs.json"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    ({"response_format": {"type": "xml"}}, "response_format"), ({"response_format": {"type": "text"}}, None),
    ({"seed": 2**63}, "seed"), ({"seed": -(2**63) - 1}, "seed"), ({"seed": 2**63 - 1}, None), ({"seed": -5}, None),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"), ({"top_logprobs": 1}, "top_logprobs"), ({"n": 0}, "n"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"stop": ["a", 5]}, "stop.1"), ({"unheard_of": 1}, None),
    ({"messages": []}, "messages"), ({"messages": None}, "messages"), ({"messages": "Hi"}, "messages"),
    ({"messages": [{"role": "user", "content": "x", "more": "0"}]}, None),
    ({"messages": [{"role": "system", "content": "x"}]}, None),
    ({"messages": [{"role": "my-own", "content": [{"type": "text", "text": "x"}]}]}, None),
    ({"messages": of_user("Hello", "there")}, None), ({"messages": of_user({"type": "new", "a": 1})}, "messages"),
    ({"messages": of_user({"type": "image_url", "image_url": SOMEWHERE})}, "messages"),
    ({"messages": of_user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})}, "messages"),
    ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]}, "messages"),
    ({"messages": after_user({"role": "assistant", "tool_calls": [MADE]}, {"role": "tool", "content": "2"})}, None),
    ({"messages": after_user({"role": "assistant", "tool_calls": [BARE]},
                             {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "2"}]})}, None),
    ({"messages": after_user({"role": "assistant", "tool_calls": [{"id": "c"}]})}, "messages"),
    ({"messages": after_user({"role": "assistant", "content": None, "tool_calls": None})}, None),
    ({"messages": after_user({"role": "assistant", "content": "", "reasoning": "Hm."})}, None),
    ({"messages": after_user({"role": "assistant", "content": [], "reasoning": "Hm."})}, None),
]  # fmt: skip
"""What a chat is asked for beside its message, and the field that is at fault; `None`: it is answered."""
COMPLETIONS: list[tuple[dict[str, Any], str | None]] = [
    ({"prompt": [-1]}, "prompt"), ({"prompt": [[-1]]}, "prompt"), ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": []}, "prompt"), ({"prompt": [[]]}, "prompt"), ({"prompt": [""]}, "prompt"), ({"prompt": ""}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"), ({"prompt": None}, "prompt"), ({"prompt": None, "prompt_embeds": []}, "prompt"),
    ({"prompt_embeds": "AAAA"}, "prompt_embeds"), ({"prompt_embeds": []}, None), ({"logprobs": -1}, "logprobs"),
    ({"suffix": "x"}, "suffix"), ({"suffix": ""}, None), ({"echo": True, "max_tokens": 0}, None),
    ({"n": 2, "best_of": 1}, None), ({"n": 1, "best_of": 2}, "best_of"), ({"messages": USER}, "messages"),
    ({"max_tokens": None, "stop": None, "seed": None, "logit_bias": None, "user": None, "n": None}, None),
]  # fmt: skip
ASKED_FOR_RESPONSES: list[tuple[dict[str, Any], str | None]] = [
    ({"tools": [], "tool_choice": "required"}, "tool_choice"), ({"tool_choice": "auto"}, None),
    ({"tools": [RESPONSES_TOOL], "tool_choice": {"type": "function", "name": ""}}, "tool_choice"),
    ({"tools": [RESPONSES_TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
    ({"tools": [RESPONSES_TOOL]}, "tools"), ({"parallel_tool_calls": None}, None), ({"background": False}, None),
    ({"background": True, "store": False}, "background"), ({"seed": 2**63}, "seed"),
    ({"top_logprobs": -1}, "top_logprobs"),
    ({"text": {"format": {"type": "json_object"}}}, "text.format"), ({"messages": USER}, "messages"),
    ({"response_format": {"type": "json_object"}}, "response_format"), ({"input": []}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": SOMEWHERE["url"]}]}]}, "input"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input"),
    ({"input": [{"role": "user", "content": "x"}, {"type": "reasoning", "summary": [], "encrypted_content": None},
                {"role": "user", "content": "y"}]}, None),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "2"}]}, None),
]  # fmt: skip


@pytest.mark.spec("ORCH-3073-010", "ORCH-3075-015")
@pytest.mark.parametrize("path, base, rows", [
    ("chat/completions", {"messages": USER}, CHATS), ("completions", {"prompt": "Hi"}, COMPLETIONS),
    ("responses", {"input": "Hi"}, ASKED_FOR_RESPONSES),
], ids=["chats", "completions", "responses"])  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_answered_or_its_field_at_fault_is_named(
    serve: Serve, path: str, base: dict[str, Any], rows: list[tuple[dict[str, Any], str | None]], stream: bool
) -> None:
    differing = []
    async with serve() as host:
        for fields, fault in rows:
            body = {"model": "mock", **base, "stream": stream, **fields}
            answer = await host.client.post(f"/v1/{path}", json=body)
            failed = answer.status_code != 200
            found = (answer.status_code, answer.json()["error"]["param"] if failed else None)
            if found != ((200, None) if fault is None else (400, fault)):
                differing.append((fields, found))

    assert differing == []


@pytest.mark.spec("ORCH-3064-024")
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "embeddings"])
async def test_a_body_that_is_no_object_is_none(serve: Serve, path: str) -> None:
    async with serve() as host:
        answers = [
            await host.client.post(f"/v1/{path}", content=body)
            for body in (b"", b"{", b'"x"', b'["a"]', b"42", b"null", b"true")
        ]

    assert [answer.status_code for answer in answers] == [400] * 7
    assert {answer.json()["error"]["type"] for answer in answers} == {"invalid_request_error"}


# -- tools in a namespace ----------------------------------------------------------------------------------------------

SPACE: Any = {
    "type": "namespace", "name": "agents", "description": "Other agents.",
    "tools": [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in ("spawn", "wait")],
}  # fmt: skip
SPAWNING = {"tool_calls": [{"name": "agents__spawn", "arguments": '{"task": "x"}'}]}


@pytest.mark.spec("ORCH-3077-016")
async def test_tools_of_a_namespace_are_called_by_both_names(serve: Serve) -> None:
    asked: Any = {"model": "mock", "input": "Hi", "tools": [SPACE, {**RESPONSES_TOOL, "name": "spawn"}]}
    async with serve(SPAWNING) as host:
        first = (await host.client.post("/v1/responses", json=asked)).json()
        streamed = await host.client.post("/v1/responses", json={**asked, "stream": True})
        call = next(item for item in first["output"] if item["type"] == "function_call")
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "done"}
        for fields in (
            {"input": [{"role": "user", "content": "Hi"}, call, result]},
            {"input": [result], "previous_response_id": first["id"]},
            {"input": [{"type": "item_reference", "id": call["id"]}, result]},
        ):
            assert (await host.client.post("/v1/responses", json={**asked, **fields})).status_code == 200
        got = mock(host).submitted

    assert [tool.name for tool in got[0].tools] == ["agents__spawn", "agents__wait", "spawn"]
    assert (call["namespace"], call["name"], call["arguments"]) == ("agents", "spawn", '{"task": "x"}')
    items = [
        event["item"]
        for event in map(json.loads, (line[6:] for line in streamed.text.splitlines() if line.startswith("data: {")))
        if event["type"].startswith("response.output_item.") and event["item"]["type"] == "function_call"
    ]
    assert [(item["namespace"], item["name"]) for item in items] == [("agents", "spawn")] * 2
    for task in got[2:]:
        [made] = [made for message in task.messages or () for made in message.tool_calls]
        assert (made.name, made.id) == ("agents__spawn", call["call_id"])


@pytest.mark.spec("ORCH-3077-016")
async def test_a_tool_of_a_namespace_may_be_chosen_and_allowed(serve: Serve) -> None:
    one: Any = {"type": "function", "name": "spawn", "namespace": "agents"}
    async with serve(SPAWNING) as host:
        for choice in (one, {"type": "allowed_tools", "mode": "auto", "tools": [one]}):
            body = {"model": "mock", "input": "Hi", "tools": [SPACE], "tool_choice": choice}
            assert (await host.client.post("/v1/responses", json=body)).status_code == 200
        chosen, allowed = mock(host).submitted
        faults = [
            (await host.client.post("/v1/responses", json={"model": "mock", "input": "Hi", "tools": [tool]})).json()
            for tool in ({**SPACE, "name": ""}, {**SPACE, "tools": None}, {**SPACE, "tools": [{"type": "custom"}]})
        ]

    assert chosen.tool_choice == "agents__spawn"
    assert [tool.name for tool in allowed.tools] == ["agents__spawn"]
    assert [fault["error"]["param"] for fault in faults] == ["tools"] * 3


@pytest.mark.spec("ORCH-3077-017")
@pytest.mark.parametrize("path, asked", [
    ("chat/completions", {"messages": USER}), ("completions", {"prompt": "Hi"}),
    ("completions", {"prompt": ["Hi", "Ho"], "stream_options": {"include_usage": True}}),
])  # fmt: skip
async def test_a_stream_that_fails_tells_why_and_ends(serve: Serve, path: str, asked: dict[str, Any]) -> None:
    async with serve({"reply": "one two three", "fail": "engine_failed", "fail_after": 2, "fail_times": 1}) as host:
        answer = await host.client.post(f"/v1/{path}", json={"model": "mock", "stream": True, **asked})

    *chunks, error, done, nothing = answer.text.split("\n\n")
    assert (answer.status_code, done, nothing) == (200, "data: [DONE]", "")
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "engine_failed"
    assert chunks
    assert not any('"error"' in chunk for chunk in chunks)

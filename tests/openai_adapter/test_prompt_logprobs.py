"""How likely a prompt is, by engines that tell it and others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_api import (
    Alternative,
    Capability,
    End,
    Output,
    PromptLogprobs,
    PromptToken,
    TaskRequest,
    Token,
    TokenEvent,
    TokenIds,
)
from openai_adapter import OpenAIAdapter
from openai_adapter.testing import DYNAMO, LLAMA_CPP, OPENAI, TRTLLM_SERVE, VLLM, FakeOpenAI, Family
from openai_adapter.testing.models import id_of
from tests.openai_adapter.running import end_of, error_of, run, says, settings_for, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3076-016")]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def sent(engine: FakeOpenAI) -> dict[str, Any]:
    return dict(json.loads(engine.requests[-1].body))


def scores_in(events: list[TokenEvent]) -> tuple[PromptToken, ...]:
    [told] = [event for event in events if isinstance(event, PromptLogprobs)]
    return told.tokens


def on(*families: Family) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("engine", families, indirect=True, ids=lambda family: family.name)


@pytest.mark.spec("ORCH-3076-014")
async def test_each_token_of_a_prompt_comes_with_the_likeliest_in_its_place(engine: FakeOpenAI) -> None:
    events = await run(engine, prompt="a long river", prompt_logprobs=1, temperature=0, max_tokens=2)

    first, second, third = scores_in(events)
    river = id_of("river")
    assert first == PromptToken("a", token_id=id_of("a"))
    assert (second.text, second.logprob, second.rank) == (" long", -1.5, 2)
    assert third == PromptToken(" river", -1.5, river, 2, (Alternative(" river1", -0.75, river + 1, 1),))
    assert text_of(events) == "a long "
    assert end_of(events).usage.tokens_in == 3
    kinds = [type(event) for event in events]
    assert kinds.index(PromptLogprobs) < kinds.index(Token)


@pytest.mark.spec("ORCH-3076-014")
async def test_all_that_the_engine_knows_of_a_place_may_be_asked_for(engine: FakeOpenAI) -> None:
    events = await run(engine, prompt="a long river", prompt_logprobs=-1, max_tokens=2)

    assert sent(engine)["prompt_logprobs"] == -1
    assert [len(token.alternatives) for token in scores_in(events)] == [0, 6, 6]
    assert [other.rank for other in scores_in(events)[1].alternatives] == [1, 2, 3, 4, 5, 6]


async def test_a_whole_answer_is_asked_for_which_repeats_the_prompts_tokens(engine: FakeOpenAI) -> None:
    await run(engine, prompt="a long river", prompt_logprobs=2)
    completion = sent(engine)
    await run(engine, messages=says("a"), prompt_logprobs=0)
    chat = sent(engine)

    assert (completion["stream"], completion["prompt_logprobs"], completion["echo"]) == (False, 2, True)
    assert (completion["logprobs"], completion["return_token_ids"], "stream_options" in completion) == (1, True, False)
    assert (chat["stream"], chat["prompt_logprobs"], "echo" in chat, "logprobs" in chat) == (False, 0, False, False)


@pytest.mark.spec("ORCH-3076-014")
async def test_a_chats_prompt_is_told_as_well(engine: FakeOpenAI) -> None:
    events = await run(engine, messages=says("a long river"), prompt_logprobs=0, logprobs=0, max_tokens=2)

    tokens = scores_in(events)
    assert [token.text for token in tokens] == ["", " a", " long", " river"]
    assert [token.token_id for token in tokens] == [id_of(word) for word in ("user:", "a", "long", "river")]
    assert all(token.alternatives == () for token in tokens)
    assert [event.logprob for event in events if isinstance(event, Token)] == [-0.1, -0.1]


async def test_log_probabilities_of_the_answer_are_those_of_the_answer_alone(engine: FakeOpenAI) -> None:
    events = await run(engine, prompt=None, prompt_token_ids=[5, 3], prompt_logprobs=1, logprobs=1, temperature=0,
                       max_tokens=2)  # fmt: skip

    said = [(event.text, event.logprob) for event in events if isinstance(event, Token)]
    assert said == [("5 ", -0.1), ("3 ", -0.1)]
    assert [token.text for token in scores_in(events)] == ["5", " 3"]
    assert not any(isinstance(event, TokenIds) for event in events)


def whole(**choice: Any) -> bytes:
    return json.dumps({"choices": [{"index": 0, "finish_reason": "length", **choice}]}).encode()


_OF_B = [None, {"7": {"logprob": -0.5, "rank": 1, "decoded_token": "b"}}]


@pytest.mark.parametrize(
    "text, tokens, answer",
    [
        ("ab", ["a", "b"], ""),
        ("abc", ["a", "b", "c"], "c"),
        ("c", ["a", "b", "c"], "c"),
        # An answer that says again what the prompt does, of an engine that repeats the tokens only.
        ("abab", ["a", "b", "ab", "ab"], "abab"),
        ("ababab", ["a", "b", "ab", "ab"], "abab"),
        # What begins a text has a token, and no letters in the prompt.
        ("abc", ["<s>", "ab", "c"], "c"),
        ("abc", None, "abc"),
    ],
)
async def test_the_prompt_is_no_part_of_the_answer_whether_the_engine_repeats_it_or_not(
    engine: FakeOpenAI, text: str, tokens: list[str] | None, answer: str
) -> None:
    scored = None if tokens is None else {"tokens": tokens, "token_logprobs": [None, *[-0.5] * (len(tokens) - 1)]}
    engine.stream_next(whole(text=text, logprobs=scored, prompt_logprobs=_OF_B))

    assert text_of(await run(engine, prompt="ab", prompt_logprobs=0)) == answer


async def test_an_engine_that_tells_none_after_all_is_found_out_and_not_asked_again(engine: FakeOpenAI) -> None:
    engine.stream_next(whole(text="a"))

    async with OpenAIAdapter(settings_for(engine)) as adapter:
        first = [event async for event in adapter.submit(_task())]
        again = [event async for event in adapter.submit(_task())]

    assert error_of(first).code == error_of(again).code == "unsupported"
    assert not any(isinstance(event, Output | End) for event in (*first, *again))
    assert len(engine.requests) == 1


def _task() -> TaskRequest:
    return TaskRequest(model="tiny", prompt="a b", prompt_logprobs=1)


@pytest.mark.parametrize("told", ["{}", "[[]]", '["a"]', '[{"x": {}}]', '[{"7": {"logprob": "x"}}]', "7"])
async def test_what_is_no_such_list_is_the_engines_fault(engine: FakeOpenAI, told: str) -> None:
    engine.stream_next(
        b'{"choices":[{"index":0,"text":"a","finish_reason":"stop","prompt_logprobs":%b}]}' % told.encode()
    )

    assert error_of(await run(engine, prompt_logprobs=0)).code in ("protocol_violation", "unsupported")


@on(LLAMA_CPP, TRTLLM_SERVE, DYNAMO, OPENAI)
async def test_who_does_not_say_that_it_tells_them_is_not_asked(engine: FakeOpenAI) -> None:
    error = error_of(await run(engine, prompt_logprobs=1))

    assert (error.code, engine.requests) == ("unsupported", [])
    assert "prompt_logprobs" in error.message


@on(VLLM, LLAMA_CPP, OPENAI)
async def test_what_an_engine_tells_is_known_by_its_description(engine: FakeOpenAI) -> None:
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        model = (await adapter.props()).models[0]

    assert (Capability.PROMPT_LOGPROBS in model.capabilities) is (engine.family is VLLM)
    assert Capability.PROMPT_LOGPROBS not in model.uncertain

"""Token ids in and out, messages that are continued, and usage on the way, by engines that take them and others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_api import Capability, Metrics, Token, TokenEvent, TokenIds
from openai_adapter import OpenAIAdapter
from openai_adapter.testing import DYNAMO, LLAMA_CPP, OPENAI, TRTLLM_SERVE, VLLM, FakeOpenAI, Family
from openai_adapter.testing.models import id_of
from tests.openai_adapter.running import end_of, error_of, events_of, run, says, settings_for, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3076-007")]
IDS = [5, 3, 0, 9]
TURNS = [*says("Hello"), {"role": "assistant", "content": "I say"}]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def sent(engine: FakeOpenAI) -> dict[str, Any]:
    return dict(json.loads(engine.requests[-1].body))


def ids_in(events: list[TokenEvent]) -> tuple[list[int], list[int]]:
    told = [event for event in events if isinstance(event, TokenIds)]
    return [each for event in told for each in event.prompt], [each for event in told for each in event.output]


def on(*families: Family) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("engine", families, indirect=True, ids=lambda family: family.name)


@on(VLLM, LLAMA_CPP, TRTLLM_SERVE, DYNAMO)
@pytest.mark.spec("ORCH-3076-001")
async def test_a_prompt_in_ids_goes_as_ids(engine: FakeOpenAI) -> None:
    events = await run(engine, prompt=None, prompt_token_ids=IDS, temperature=0)

    assert sent(engine)["prompt"] == IDS
    assert text_of(events) == "5 3 0 9 5 3 0 9 "


@on(VLLM, LLAMA_CPP, TRTLLM_SERVE, DYNAMO, OPENAI)
async def test_what_an_engine_takes_is_told_by_its_description_or_unknown(engine: FakeOpenAI) -> None:
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        model = (await adapter.props()).models[0]

    known = {VLLM.name: True, LLAMA_CPP.name: True, TRTLLM_SERVE.name: True}.get(engine.family.name)
    assert (Capability.PROMPT_TOKEN_IDS in model.capabilities) is (known is True)
    assert (Capability.PROMPT_TOKEN_IDS in model.uncertain) is (known is None)
    assert (Capability.TOKEN_IDS in model.capabilities) is (engine.family is VLLM)
    assert not {Capability.TOKEN_IDS, Capability.CONTINUE_FINAL_MESSAGE} & model.uncertain


@on(LLAMA_CPP, TRTLLM_SERVE, DYNAMO, OPENAI)
@pytest.mark.parametrize(
    "fields, named",
    [
        ({"return_token_ids": True}, "token_ids"),
        ({"messages": TURNS, "continue_final_message": True}, "continue_final_message"),
        ({"messages": TURNS, "add_generation_prompt": False}, "continue_final_message"),
    ],
)
async def test_what_an_engine_would_drop_in_silence_is_refused_by_name(
    engine: FakeOpenAI, fields: dict[str, Any], named: str
) -> None:
    error = error_of(await run(engine, **fields))

    assert (error.code, engine.requests) == ("unsupported", [])
    assert f"does not take {named}" in error.message


async def test_who_knows_better_says_that_it_is_heeded(engine: FakeOpenAI) -> None:
    honours = {"honours": ["continue_final_message"]}

    end_of(await run(engine, honours, messages=TURNS, continue_final_message=True))

    assert sent(engine)["continue_final_message"] is True
    assert sent(engine)["add_generation_prompt"] is False


@pytest.mark.parametrize("by", ["prompt", "messages"])
@pytest.mark.spec("ORCH-3076-002")
async def test_ids_come_before_the_text_that_they_make(engine: FakeOpenAI, by: str) -> None:
    asked: dict[str, Any] = {"messages": says("a long river")} if by == "messages" else {}
    events = await run(engine, return_token_ids=True, temperature=0, **asked)

    prompt, output = ids_in(events)
    words = ["user:"] if by == "messages" else []
    assert prompt == [id_of(word) for word in [*words, "a", "long", "river"]]
    texts = [event.text for event in events if isinstance(event, Token)]
    assert output == [id_of(text) for text in texts]
    assert len(output) == end_of(events).usage.tokens_out
    places = [type(event) for event in events if isinstance(event, Token | TokenIds)]
    assert places[-2:] == [TokenIds, Token]


@pytest.mark.parametrize("body", ["stream", "whole"])
async def test_ids_of_tokens_without_a_text_are_told_as_well(engine: FakeOpenAI, body: str) -> None:
    choices: list[dict[str, Any]] = [
        {"index": 0, "text": "", "token_ids": [7], "prompt_token_ids": IDS},
        {"index": 0, "text": "é", "token_ids": [8]},
        {"index": 0, "text": "", "token_ids": [2], "finish_reason": "stop"},
    ]
    if body == "whole":
        choices = [{"index": 0, "text": "é", "token_ids": [7, 8, 2], "prompt_token_ids": IDS, "finish_reason": "stop"}]
        engine.stream_next(json.dumps({"choices": choices}).encode())
    else:
        engine.stream_next(*(f"data: {json.dumps({'choices': [each]})}\n\n".encode() for each in choices))

    events = await run(engine, return_token_ids=True)

    assert ids_in(events) == (IDS, [7, 8, 2])
    assert text_of(events) == "é"


async def test_an_engine_that_tells_none_after_all_is_found_out_at_the_first_text(engine: FakeOpenAI) -> None:
    engine.stream_next(b'data: {"choices":[{"index":0,"text":"a"}]}\n\n')

    assert error_of(await run(engine, return_token_ids=True)).code == "unsupported"


@pytest.mark.parametrize("told", ["[-1]", "[1.5]", '["a"]', "[true]", '"abc"', "[4294967296]", "[[1],[2]]"])
async def test_ids_that_are_none_are_the_engines_fault(engine: FakeOpenAI, told: str) -> None:
    engine.stream_next(f'data: {{"choices":[{{"index":0,"text":"a","token_ids":{told}}}]}}\n\n'.encode())

    assert error_of(await run(engine, return_token_ids=True)).code == "protocol_violation"


@pytest.mark.spec("ORCH-3076-012")
async def test_usage_on_the_way_comes_before_the_text_that_it_counts(engine: FakeOpenAI) -> None:
    events = await run(engine, running_usage=True, max_tokens=3)

    assert sent(engine)["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    told = [(event.tokens_in, event.tokens_out) for event in events if isinstance(event, Metrics)]
    assert told[:3] == [(3, 1), (3, 2), (3, 3)]
    first = next(place for place, event in enumerate(events) if isinstance(event, Token))
    assert isinstance(events[first - 1], Metrics)


@pytest.mark.spec("ORCH-3076-012")
async def test_who_does_not_ask_for_it_gets_the_figures_at_the_end_only(engine: FakeOpenAI) -> None:
    events = await run(engine, max_tokens=3)

    assert sent(engine)["stream_options"] == {"include_usage": True}
    assert sum(isinstance(event, Metrics) for event in events) == 1


@pytest.mark.spec("ORCH-3076-012")
async def test_an_engine_that_refuses_to_count_on_the_way_is_asked_for_the_sum_alone(engine: FakeOpenAI) -> None:
    refusal = b'{"error": {"message": "stream_options.continuous_usage_stats: Extra inputs are not permitted"}}'
    engine.fail_next(400, refusal)

    async with OpenAIAdapter(settings_for(engine)) as adapter:
        first = await events_of(adapter, running_usage=True)
        again = await events_of(adapter, running_usage=True)

    assert end_of(first).usage.tokens_out == end_of(again).usage.tokens_out == 8
    assert [json.loads(each.body)["stream_options"] for each in engine.requests[-2:]] == [{"include_usage": True}] * 2
    assert len(engine.requests) == 3

"""The same task on engines that say everything differently."""

from __future__ import annotations

import json

import pytest

from adapter_api import Capability, End, HealthState, InferRequest, Started, Tensor, Token
from openai_adapter import OpenAIAdapter
from openai_adapter.testing import (
    FAMILIES,
    KNOWN_TEXT,
    LLAMA_CPP,
    OPENAI,
    TRANSFORMERS,
    TRITON_FRONTEND,
    VLLM,
    FakeOpenAI,
)
from tests.openai_adapter.running import (
    calls_of,
    end_of,
    error_of,
    events_of,
    run,
    says,
    settings_for,
    text_of,
    thought_of,
)

pytestmark = pytest.mark.anyio
every_family = pytest.mark.parametrize("engine", FAMILIES, indirect=True, ids=lambda family: family.name)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@every_family
@pytest.mark.spec("ORCH-3067-001", "ORCH-3067-004")
async def test_a_task_gives_the_same_events_whatever_the_engine_is(engine: FakeOpenAI) -> None:
    by_prompt = await run(engine, model="known", max_tokens=64)
    by_messages = await run(engine, model="known", messages=says("well?"), max_tokens=64)

    for events in (by_prompt, by_messages):
        assert isinstance(events[0], Started)
        assert text_of(events) == KNOWN_TEXT
        assert end_of(events).finish_reason == "stop"
        assert end_of(events).usage.tokens_out == 16


@every_family
@pytest.mark.spec("ORCH-3067-003")
async def test_what_was_cut_off_by_max_tokens_says_so(engine: FakeOpenAI) -> None:
    events = await run(engine, max_tokens=3)

    assert end_of(events).finish_reason == "length"
    assert len([event for event in events if isinstance(event, Token)]) == 3


@every_family
@pytest.mark.spec("ORCH-3067-005")
async def test_a_stop_string_is_cut_also_where_the_engine_leaves_it_in(engine: FakeOpenAI) -> None:
    events = await run(engine, model="known", stop=["boats"], max_tokens=64)

    assert text_of(events) == KNOWN_TEXT.partition("boats")[0]
    assert end_of(events).finish_reason == "stop"


@every_family
@pytest.mark.spec("ORCH-3067-006")
async def test_thinking_comes_apart_from_the_answer_by_either_name(engine: FakeOpenAI) -> None:
    events = await run(engine, model="thinker", messages=says("hi"), max_tokens=2)

    assert thought_of(events) == "I think so."
    assert "think" not in text_of(events)


@every_family
@pytest.mark.spec("ORCH-3067-007")
async def test_tool_calls_come_whole_whatever_its_pieces_repeat_or_leave_out(engine: FakeOpenAI) -> None:
    events = await run(engine, messages=says("the weather?"), tools=[{"name": "weather"}])

    made = [("weather", '{"city": "Bonn",  "days": 3}'), ("weather", '{"days":1, "city": "Köln"}')]
    # Triton's frontend tells one named call, without an id.
    assert calls_of(events) == (made[:1] if engine.family is TRITON_FRONTEND else made)
    assert end_of(events).finish_reason == "tool_calls"


@pytest.mark.parametrize("engine", [VLLM, LLAMA_CPP], indirect=True, ids=lambda family: family.name)
@pytest.mark.spec("ORCH-3067-008")
async def test_log_probabilities_come_with_as_many_alternatives_as_asked_for(engine: FakeOpenAI) -> None:
    for fields in ({"prompt": "well"}, {"messages": says("well")}):
        events = await run(engine, logprobs=2, max_tokens=3, **fields)
        tokens = [event for event in events if isinstance(event, Token)]

        assert [len(token.alternatives) for token in tokens] == [2, 2, 2]
        assert {token.logprob for token in tokens} == {-0.1}


@pytest.mark.parametrize("engine", [TRANSFORMERS], indirect=True)
@pytest.mark.spec("ORCH-3067-009")
async def test_log_probabilities_that_the_engine_drops_are_refused_and_then_not_asked_for_again(
    engine: FakeOpenAI,
) -> None:
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        adapter.named_models = frozenset({"tiny"})
        first = error_of(await events_of(adapter, logprobs=1))
        asked = len(engine.requests)
        second = error_of(await events_of(adapter, logprobs=1))
        (model,) = (await adapter.props()).models

    assert (first.code, second.code) == ("unsupported", "unsupported")
    assert len(engine.requests) == asked
    assert Capability.LOGPROBS not in model.capabilities | model.uncertain


@every_family
@pytest.mark.spec("ORCH-3067-010")
async def test_a_prompt_that_is_too_long_says_so_in_every_family_s_words(engine: FakeOpenAI) -> None:
    events = await run(engine, prompt="word " * 600)

    if engine.family.too_long is None:
        assert isinstance(events[-1], End)
    else:
        assert error_of(events).code == "context_length_exceeded"
        assert "word word" not in error_of(events).message


@every_family
@pytest.mark.spec("ORCH-3067-011")
async def test_a_model_that_the_engine_does_not_list_is_not_sent_to_it(engine: FakeOpenAI) -> None:
    options = {} if engine.family.lists else {"model": "tiny"}

    error = error_of(await run(engine, options, model="no-such-model"))

    assert error.code == "model_not_found"
    assert "unlisted_models=send" in error.message
    assert engine.requests == []


@pytest.mark.parametrize("engine", [f for f in FAMILIES if f.unknown_model], indirect=True, ids=lambda f: f.name)
@pytest.mark.spec("ORCH-3067-010")
async def test_an_unknown_model_is_told_by_the_engine_s_own_words_where_it_is_sent(engine: FakeOpenAI) -> None:
    error = error_of(await run(engine, {"unlisted_models": "send"}, model="no-such-model"))

    # transformers only says that it failed
    assert error.code == ("engine_failed" if engine.family is TRANSFORMERS else "model_not_found")


@pytest.mark.parametrize("engine", [TRITON_FRONTEND, LLAMA_CPP, OPENAI], indirect=True, ids=lambda f: f.name)
@pytest.mark.spec("ORCH-3067-012")
async def test_what_the_engine_says_that_it_lacks_is_refused_by_name(engine: FakeOpenAI) -> None:
    error = error_of(await run(engine, min_tokens=2) if engine.family is LLAMA_CPP else await run(engine, top_k=3))

    assert error.code == "unsupported"
    assert "min_tokens" in error.message or "top_k" in error.message


@pytest.mark.parametrize("engine", [LLAMA_CPP, VLLM], indirect=True, ids=lambda f: f.name)
@pytest.mark.spec("ORCH-3067-012")
async def test_a_parameter_goes_out_under_the_engine_s_own_name(engine: FakeOpenAI) -> None:
    end_of(await run(engine, repetition_penalty=1.5))

    sent = json.loads(engine.requests[-1].body)
    assert sent["repeat_penalty" if engine.family is LLAMA_CPP else "repetition_penalty"] == 1.5


@pytest.mark.parametrize("engine", [VLLM, LLAMA_CPP, OPENAI], indirect=True, ids=lambda f: f.name)
@pytest.mark.spec("ORCH-3067-013")
async def test_a_grammar_is_sent_where_the_engine_takes_one_and_refused_elsewhere(engine: FakeOpenAI) -> None:
    wanted = {"type": "grammar", "grammar": 'root ::= "yes"'}

    events = await run(engine, messages=says("well?"), response_format=wanted)

    if engine.family is OPENAI:
        assert error_of(events).code == "unsupported"
    else:
        sent = json.loads(engine.requests[-1].body)
        assert sent.get("structured_outputs", sent) | {"grammar": wanted["grammar"]} == sent.get(
            "structured_outputs", sent
        )


@every_family
@pytest.mark.spec("ORCH-3067-014")
async def test_health_and_version_are_what_the_engine_tells(engine: FakeOpenAI) -> None:
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        report, props = await adapter.health(), await adapter.props()

    assert report.state is HealthState.READY
    assert report.models_listed is engine.family.lists
    assert props.slots_total == engine.family.slots
    told = engine.family.version or (engine.family.props or {}).get("build_info")
    assert told is None or str(told) in str(props.engine_version)
    assert told is not None or props.engine_version is None


@pytest.mark.parametrize("engine", [f for f in FAMILIES if f.health], indirect=True, ids=lambda f: f.name)
@pytest.mark.spec("ORCH-3067-014")
async def test_an_engine_that_loads_is_starting_and_not_gone(engine: FakeOpenAI) -> None:
    engine.ready = False
    try:
        async with OpenAIAdapter(settings_for(engine)) as adapter:
            report = await adapter.health()
    finally:
        engine.ready = True

    assert (report.state, report.live, report.ready) == (HealthState.STARTING, True, False)


@pytest.mark.spec("ORCH-3067-014")
async def test_an_engine_that_is_healthy_and_lists_no_model_is_not_ready() -> None:
    with FakeOpenAI(VLLM, models=()) as engine:
        async with OpenAIAdapter(settings_for(engine)) as adapter:
            report = await adapter.health()
            error = error_of(await events_of(adapter))

    assert (report.state, report.ready) == (HealthState.STARTING, False)
    assert error.code == "not_ready"


@every_family
@pytest.mark.spec("ORCH-3067-015")
async def test_embeddings_are_an_inference_in_the_order_of_their_texts(engine: FakeOpenAI) -> None:
    texts = Tensor.from_bytes_elements("input", [b"a river", b"a boat"])
    async with OpenAIAdapter(settings_for(engine)) as adapter:
        both = await adapter.infer(InferRequest(model="embedder", inputs=(texts,)))
        second = await adapter.infer(
            InferRequest(model="embedder", inputs=(Tensor.from_bytes_elements("input", [b"a boat"]),))
        )

    assert both["embedding"].shape == (2, 8)
    assert both.parameters == {"prompt_tokens": 4}
    assert both["embedding"].to_numpy()[1].tolist() == second["embedding"].to_numpy()[0].tolist()

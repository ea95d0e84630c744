"""The adapter with a stand-in for each family of language models, in the real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from adapter_api import Capability, End, Error, Metrics, TaskRequest, Token, TokenEvent, TokenIds
from adapter_api.testing import collect, find_violation, text_of
from tests.triton_adapter.dialects.test_trtllm_raw import byte_level_tokenizer
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.settings import ModelOverride

pytestmark = [pytest.mark.anyio, pytest.mark.live]

STAND_INS = Path(__file__).parent / "stand_ins"
PROMPT = "A list is"
FAMILIES = {
    "vllm_24_10": "vllm",
    "ensemble": "trtllm",
    "tensorrt_llm_bls": "trtllm_bls",
    "llmapi": "trtllm_llmapi",
    "tensorrt_llm": "trtllm_raw",
}


@pytest.fixture(scope="module")
def engine() -> Iterator[EmbeddedTriton]:
    # Completing a configuration that is complete costs the server a second each.
    with EmbeddedTriton(STAND_INS, extra_args=("--disable-auto-complete-config",)) as server:
        yield server


@pytest.fixture
async def adapter(engine: EmbeddedTriton, tmp_path: Path) -> AsyncIterator[TritonAdapter]:
    (tmp_path / "tokenizer.json").write_text(json.dumps(byte_level_tokenizer()))
    models = {"tensorrt_llm": ModelOverride(tokenizer=tmp_path / "tokenizer.json")}
    async with TritonAdapter(TritonSettings(url=engine.grpc_url, models=models)) as adapter:
        yield adapter


async def run(adapter: TritonAdapter, model: str, **fields: Any) -> list[TokenEvent]:
    task = TaskRequest.parse({"model": model, "prompt": PROMPT, "max_tokens": 60} | fields)
    events = await collect(adapter.submit(task))
    assert find_violation(events) is None
    return events


def end_of(events: list[TokenEvent]) -> End:
    assert isinstance(events[-1], End), events[-1]
    return events[-1]


async def test_each_family_is_known(adapter: TritonAdapter) -> None:
    found = {model.name: model.dialect for model in (await adapter.props()).models}

    assert {name: found[name] for name in FAMILIES} == FAMILIES
    assert found["preprocessing"] is None


@pytest.mark.parametrize("model", FAMILIES)
async def test_each_family_streams_the_same_text_for_the_same_seed(adapter: TritonAdapter, model: str) -> None:
    first, again, other = [await run(adapter, model, seed=seed, temperature=1.0) for seed in (7, 7, 8)]

    assert text_of(first) == text_of(again) != text_of(other)
    assert sum(isinstance(event, Token) for event in first) > 3
    assert "\ufffd" not in text_of(first)


@pytest.mark.parametrize("model", FAMILIES)
async def test_each_family_stops_at_a_stop_string_and_does_not_show_it(adapter: TritonAdapter, model: str) -> None:
    whole = text_of(await run(adapter, model, seed=3, temperature=1.0))
    stop = whole[20:26]

    events = await run(adapter, model, seed=3, temperature=1.0, stop=[stop])

    assert text_of(events) == whole[: whole.index(stop)]
    # An old vLLM backend cuts the text itself, and does not say why it ended.
    assert end_of(events).finish_reason == ("unknown" if model == "vllm_24_10" else "stop")


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm"])
async def test_length_is_told_where_tokens_are_counted(adapter: TritonAdapter, model: str) -> None:
    end = end_of(await run(adapter, model, max_tokens=30))

    assert end.finish_reason == "length"
    assert (end.usage.tokens_in, end.usage.tokens_out) == (len(PROMPT), 30)


async def test_the_reason_is_the_engines_where_it_says_one(adapter: TritonAdapter) -> None:
    assert end_of(await run(adapter, "llmapi", max_tokens=5)).finish_reason == "length"


async def test_an_old_vllm_backend_tells_no_reason_and_no_counts(adapter: TritonAdapter) -> None:
    end = end_of(await run(adapter, "vllm_24_10", max_tokens=5))

    assert end.finish_reason == "unknown"
    assert (end.usage.tokens_in, end.usage.tokens_out) == (None, None)


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm"])
async def test_each_token_has_its_logprob_though_the_engine_repeats_them(adapter: TritonAdapter, model: str) -> None:
    events = await run(adapter, model, logprobs=0, seed=3, temperature=1.0)

    logprobs = [event.logprob for event in events if isinstance(event, Token)]
    assert all(logprob is not None and logprob <= 0 for logprob in logprobs)
    assert len(set(logprobs)) > 3


@pytest.mark.parametrize(
    "model, fields, code, named",
    [
        ("vllm_24_10", {"logprobs": 1}, "unsupported", "`logprobs`"),
        ("vllm_24_10", {"response_format": {"type": "json"}}, "unsupported", "`response_format`"),
        ("llmapi", {"min_tokens": 2}, "unsupported", "`min_tokens`"),
        ("ensemble", {"max_tokens": None}, "invalid_request", "`max_tokens`"),
        ("ensemble", {"parameters": {"triton.beam_width": 2}}, "invalid_request", "'triton.beam_width'"),
        ("tensorrt_llm", {"max_tokens": None}, "invalid_request", "`max_tokens`"),
    ],
)
async def test_what_a_model_cannot_take_is_refused_by_name(
    adapter: TritonAdapter, model: str, fields: dict[str, Any], code: str, named: str
) -> None:
    (error,) = await run(adapter, model, **fields)

    assert isinstance(error, Error)
    assert error.code == code
    assert named in error.message


@pytest.mark.spec("ORCH-3076-001", "ORCH-3076-002", "ORCH-3076-008")
async def test_a_model_on_token_ids_is_asked_in_them_and_tells_its_own(adapter: TritonAdapter) -> None:
    given = [*PROMPT.encode()]
    by_text = await run(adapter, "tensorrt_llm", max_tokens=20)
    by_ids = await run(
        adapter, "tensorrt_llm", prompt=None, prompt_token_ids=given, max_tokens=20, return_token_ids=True,
        running_usage=True,
    )  # fmt: skip

    assert text_of(by_ids) == text_of(by_text)
    told = [event for event in by_ids if isinstance(event, TokenIds)]
    assert told[0].prompt == tuple(given)
    assert bytes(each for event in told for each in event.output).decode() == text_of(by_ids)
    counted = [event.tokens_out for event in by_ids if isinstance(event, Metrics)]
    assert counted == sorted(counted, key=lambda count: count or 0)
    assert len(set(counted)) > 3
    assert end_of(by_ids).usage.tokens_out == 20


@pytest.mark.spec("ORCH-3076-008")
@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls", "llmapi", "vllm_24_10"])
@pytest.mark.parametrize(
    "fields, named",
    [({"prompt": None, "prompt_token_ids": [1]}, "prompt_token_ids"), ({"return_token_ids": True}, "token_ids")],
)
async def test_models_of_text_refuse_token_ids_by_name(
    adapter: TritonAdapter, model: str, fields: dict[str, Any], named: str
) -> None:
    (error,) = await run(adapter, model, **fields)

    assert isinstance(error, Error)
    assert error.code == "unsupported"
    assert error.message == f"model {model!r} takes no {named}"


async def test_a_model_on_token_ids_needs_a_tokenizer(engine: EmbeddedTriton) -> None:
    async with TritonAdapter(TritonSettings(url=engine.grpc_url)) as adapter:
        (error,) = await run(adapter, "tensorrt_llm")

    assert isinstance(error, Error)
    assert error.code == "unsupported"
    assert "models.tensorrt_llm.tokenizer" in error.message


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json"},
        {"type": "json_schema", "json_schema": {"type": "object", "properties": {"age": {"type": "integer"}}}},
        {"type": "regex", "regex": "[0-9]{4}"},
    ],
    ids=lambda wanted: wanted["type"],
)
async def test_the_vllm_demo_model_keeps_a_constraint(triton: EmbeddedTriton, wanted: dict[str, Any]) -> None:
    async with TritonAdapter(TritonSettings(url=triton.grpc_url)) as adapter:
        tinylm = next(model for model in (await adapter.props()).models if model.name == "tinylm")
        answer = text_of(await run(adapter, "tinylm", response_format=wanted))

    assert Capability.RESPONSE_FORMAT in tinylm.capabilities
    if wanted["type"] == "regex":
        assert len(answer) == 4
        assert answer.isdigit()
    else:
        jsonschema.validate(json.loads(answer), wanted.get("json_schema") or {"type": "object"})

"""Texts of Dynamo's models: they end with the call, and never without a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from adapter_api import StreamIncomplete
from tests.triton_adapter.dialects.models import decode, reply, schema, text
from triton_adapter.schema import ModelSchema, TensorSpec

pytestmark = pytest.mark.spec("ORCH-3059-006")


@pytest.fixture
def talker() -> ModelSchema:
    inputs = {name: TensorSpec(name, kind, (1,)) for name, kind in (("text_input", "BYTES"), ("streaming", "BOOL"))}
    outputs = {name: TensorSpec(name, "BYTES", (-1,)) for name in ("text_output", "finish_reason")}
    return replace(schema("vllm"), name="talker", backend="dynamo", inputs=inputs, outputs=outputs, decoupled=False)


@pytest.mark.parametrize("said", [{}, {"finish_reason": ""}, {"finish_reason": "None"}])
def test_a_text_without_a_reason_broke_off(talker: ModelSchema, said: dict[str, Any]) -> None:
    with pytest.raises(StreamIncomplete, match="broke off"):
        decode(talker, [reply(text_output="one "), reply(text_output="two", **said)])


def test_a_text_with_one_is_whole(talker: ModelSchema) -> None:
    events, end = decode(talker, [reply(text_output="one "), reply(text_output="two", finish_reason="length")])

    assert (text(events), end.finish_reason) == ("one two", "length")


def test_a_text_that_was_cut_here_needs_none(talker: ModelSchema) -> None:
    events, end = decode(talker, [reply(text_output="one END")], stop=["END"])

    assert (text(events), end.finish_reason) == ("one ", "stop")

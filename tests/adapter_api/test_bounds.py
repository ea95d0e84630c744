"""What one piece of work may hold, whoever sends it."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import InferRequest, InvalidRequest, TaskRequest, Tensor, bounds

no_spec = "the requirements are the host's: tests/orchestrator/http/test_bounds.py"

ASKED: dict[str, Any] = {"model": "m", "prompt": "p"}
MESSAGE = {"role": "user", "content": "x"}
PART = {"type": "text", "text": "x"}
CALL = {"id": "c", "name": "f", "arguments": "{}"}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def chat(messages: list[Any]) -> dict[str, Any]:
    return {"model": "m", "messages": messages}


@pytest.mark.parametrize(
    "fields, said",
    [
        (chat([MESSAGE] * (bounds.MAX_MESSAGES + 1)), "messages: has 4097 messages"),
        (chat([{"role": "user", "content": [PART] * (bounds.MAX_PARTS + 1)}]), "content: has 4097 parts"),
        (chat([{"role": "user", "content": [PART] * 2049}] * 2), "has 4098 parts and tool calls"),
        (chat([{**MESSAGE, "role": "assistant", "tool_calls": [CALL] * 4097}]), "tool_calls: has 4097 parts"),
        ({**ASKED, "stop": ["x"] * (bounds.MAX_STOP_STRINGS + 1)}, "stop: has 257 stop strings"),
        ({**ASKED, "stop": ["x" * (bounds.MAX_STOP_CHARACTERS + 1)]}, "stop: has 8193 characters"),
        ({**ASKED, "tools": [{"name": "f"}] * (bounds.MAX_TOOLS + 1)}, "tools: has 1025 tools"),
        ({**ASKED, "tools": [{"name": "f", "parameters": nested(65)}]}, "nested more than 64 deep"),
        ({**ASKED, "response_format": {"type": "json_schema", "json_schema": nested(65)}}, "nested more than 64 deep"),
        ({**ASKED, "parameters": {f"a.b{n}": 1 for n in range(257)}}, "parameters: has 257 parameters"),
        ({**ASKED, "parameters": {"a." + "b" * 600: 1}}, "has 602 characters"),
        ({**ASKED, "parameters": {"a.b": 2**63}}, "'a.b' must be a finite number"),
        ({**ASKED, "parameters": {"a.b": float("inf")}}, "'a.b' must be a finite number"),
        ({**ASKED, "model": "m" * 513}, "model: String should have at most 512"),
        ({**ASKED, "timeout_s": bounds.MAX_TIMEOUT_S + 1}, "timeout_s: "),
        ({**ASKED, **{f"k{n}": 1 for n in range(500_000)}}, "and 499990 more"),
    ],
)
def test_a_task_beyond_a_bound_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        TaskRequest.parse(fields)

    assert len(refused.value.message) < 1000


@pytest.mark.parametrize(
    "fields",
    [
        chat([MESSAGE] * bounds.MAX_MESSAGES),
        {**ASKED, "stop": ["x" * 32] * bounds.MAX_STOP_STRINGS},
        {**ASKED, "tools": [{"name": "f", "parameters": nested(64)}]},
        {**ASKED, "timeout_s": bounds.MAX_TIMEOUT_S},
        {**ASKED, "max_tokens": 3.0},
    ],
)
def test_a_task_at_its_bound_is_taken(fields: dict[str, Any]) -> None:
    assert TaskRequest.parse(fields).model == "m"


NUMBERS = (
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty",
    "repetition_penalty", "logprobs", "n", "timeout_s",
)  # fmt: skip


@pytest.mark.parametrize("value", [True, "1", b"1", [1], float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_in_its_range_is_refused_by_name(name: str, value: Any) -> None:
    if value == 1e300 and name in ("temperature", "repetition_penalty"):
        return  # they have no upper bound of the contract's: the engine says
    with pytest.raises(InvalidRequest, match=f"{name}: "):
        TaskRequest.parse({**ASKED, name: value})


@pytest.mark.parametrize(
    "shape, said",
    [
        ((1,) * 33, "33 dimensions"),
        ((2**63,), "more than"),
        ((2**32, 2**32), "more than"),
        ((2**63 - 1,), "cannot be in 5 bytes"),
        ((2**63 - 1, 0), "cannot be in 5 bytes"),
        ((-1,), "negative"),
    ],
)
def test_a_shape_that_no_tensor_has_is_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Tensor("x", "BYTES", shape, b"\1\0\0\0a")


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"inputs": (Tensor("x", "INT8", (0,), b""),) * 1025}, "1025 inputs"),
        ({"parameters": {str(n): n for n in range(257)}}, "257 parameters"),
        ({"parameters": {"a": 2**64}}, "'a' must be"),
        ({"timeout_s": 1e10}, "timeout_s"),
        ({"model": "m" * 513}, "longer than 512"),
    ],
)
def test_an_inference_beyond_a_bound_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        InferRequest(**{"model": "m", "inputs": (), **fields})

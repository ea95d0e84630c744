"""What tasks share that differ in their prompts only: a plan of a shape is the plan that is made from the start."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from adapter_api import InvalidRequest, TaskRequest, Unsupported
from triton_adapter.engine.metadata import schema_from
from triton_adapter.engine.recent import Recent
from triton_adapter.schema import ModelSchema
from triton_adapter.settings import ModelOverride
from triton_adapter.tasks.plan import Plan, make_plan, shape_key
from triton_adapter.testing.signatures import config_of
from triton_adapter.transports.ways import GRPC
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import serialize

no_spec = "how plans are made; what they say is ORCH-3055's, tested with a model"

FAMILIES = ("vllm", "vllm_before_24_12", "trtllm", "trtllm_bls", "trtllm_llmapi", "text")


def schema_of(family: str) -> ModelSchema:
    config = config_of(family, "m", decoupled=True, max_batch_size=4, seed="seed")  # type: ignore[arg-type]
    return schema_from(v2.ModelMetadataResponse(name="m", versions=["1"]), config)


def message(plan: Plan) -> Any:
    read = service_pb2.ModelInferRequest.FromString(serialize(plan.request(60, GRPC)))
    return read


FIELDS = st.fixed_dictionaries({}, optional={
    "max_tokens": st.sampled_from([1, 16]), "temperature": st.sampled_from([0, 0.7]), "seed": st.sampled_from([0, 1]),
    "stop": st.sampled_from([(), ("x",), ("x", "yy")]), "priority": st.sampled_from(["interactive", "batch"]),
    "parameters": st.sampled_from([{}, {"other.a": 1}, {"other.a": True}, {"other.a": 1.0}, {"other.a": "1"}]),
})  # fmt: skip


@given(st.sampled_from(FAMILIES), st.lists(st.tuples(FIELDS, st.text(min_size=1, max_size=40)), min_size=2, max_size=8))
def test_a_plan_of_a_shape_sends_what_a_plan_from_the_start_sends(
    family: str, tasks: list[tuple[dict[str, Any], str]]
) -> None:
    schema, override = schema_of(family), ModelOverride()
    shapes: dict[object, Any] = {}
    for fields, prompt in tasks:
        task = TaskRequest.parse({"model": "m", "prompt": prompt, **fields})
        try:
            from_start, shape = make_plan(task, schema, override)
        except (Unsupported, InvalidRequest):
            continue  # a family that needs one of the fields, or has no place for one
        key = shape_key(task)
        kept = shapes.setdefault(key, shape)
        assert key is not None
        assert kept is not None
        of_shape = kept.plan(task, *kept.given(task))
        assert message(of_shape) == message(from_start)
        assert of_shape.encoded.inputs == from_start.encoded.inputs


@pytest.mark.parametrize("settings", [{}, {"chat_template": "{% for m in messages %}<{{ m.content }}>{% endfor %}"}])
@pytest.mark.parametrize("thoughts", ["none", "think"])
def test_conversations_share_a_shape_and_each_has_its_own_prompt_and_reader(
    settings: dict[str, Any], thoughts: str
) -> None:
    schema, override = schema_of("vllm"), ModelOverride.model_validate({**settings, "reasoning_parser": thoughts})
    tasks = [TaskRequest(model="m", messages=[{"role": "user", "content": text}]) for text in ("one", "another")]
    _, shape = make_plan(tasks[0], schema, override)

    assert shape is not None
    assert shape_key(tasks[0]) == shape_key(tasks[1])
    for task in tasks:
        from_start, _ = make_plan(task, schema, override)
        of_shape = shape.plan(task, *shape.given(task))
        assert message(of_shape) == message(from_start)
        assert type(of_shape.decoder) is type(from_start.decoder)
        assert of_shape.decoder is not from_start.decoder


@pytest.mark.parametrize("own", [
    {"logprobs": 0}, {"response_format": {"type": "json"}}, {"tools": [{"name": "f"}]}, {"tool_choice": "auto"},
    {"prompt_images": [{"data": "aGk="}]},
])  # fmt: skip
def test_a_task_with_something_of_its_own_shares_no_shape(own: dict[str, Any]) -> None:
    assert shape_key(TaskRequest.parse({"model": "m", "prompt": "p", **own})) is None


def test_every_field_that_is_not_known_to_be_the_tasks_own_tells_shapes_apart() -> None:
    task = TaskRequest(model="m", prompt="p")
    same = {"job_id", "prompt", "messages", "timeout_s", "session_id", "traceparent", "tracestate", "baggage"}
    for name in {*TaskRequest.model_fields} - same - {"n"}:
        other = task.model_copy(update={name: {"triton.x": "1"} if name == "parameters" else "changed"})
        assert shape_key(other) != shape_key(task), name


def test_what_is_kept_of_a_shape_has_nothing_of_the_prompt_that_it_was_made_of() -> None:
    import gc

    secret = "a prompt that nobody may keep"
    task = TaskRequest(model="m", prompt=secret)
    _, shape = make_plan(task, schema_of("vllm"), ModelOverride())

    assert shape is not None
    waiting: list[Any] = [shape]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type):
            continue
        seen.add(id(each))
        assert not (isinstance(each, str) and secret in each)
        assert not (isinstance(each, bytes) and secret.encode() in each)
        waiting += [held for held in gc.get_referents(each) if not isinstance(held, dict) or "__name__" not in held]


@pytest.mark.parametrize("value", [1, 1.0, "1"])
def test_parameters_that_are_equal_and_not_the_same_tell_shapes_apart(value: int | float | str) -> None:
    task, other = (TaskRequest(model="m", prompt="p", parameters={"triton.x": each}) for each in (True, value))

    assert shape_key(task) != shape_key(other)


def test_a_shape_that_is_large_is_not_kept() -> None:
    task = TaskRequest(model="m", prompt="p", parameters={"triton.x": "x" * 10_000})

    assert make_plan(task, schema_of("vllm"), ModelOverride())[1] is None


def test_of_many_things_the_latest_are_kept() -> None:
    kept: Recent[int] = Recent(3)
    for number in range(3):
        kept.keep(number, number)
    kept.get(0)
    kept.keep(3, 3)

    assert [kept.get(number) for number in range(4)] == [0, None, 2, 3]
    assert len(kept) == 3

"""Servers that speak the protocol with holes: what they do not tell is not known, which is not the same as none."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest

from adapter_api import (
    Capability,
    End,
    Error,
    HealthState,
    InferRequest,
    ModelNotFound,
    PermissionDenied,
    TaskRequest,
    Tensor,
    Token,
)
from adapter_api.testing import collect
from tests.triton_adapter.other_servers import HOLES, act
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.engine.metadata import schema_from
from triton_adapter.server.description import DESCRIBED_AT_MOST
from triton_adapter.testing import FakeTriton
from triton_adapter.testing.script import Finish, Send
from triton_adapter.wire import v2_pb2 as v2

pytestmark = pytest.mark.anyio

ADDER = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: [ 2 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
"""
TALKER = """
backend: "dynamo" platform: "dynamo"
input { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] }
input { name: "streaming" data_type: TYPE_BOOL dims: [ 1 ] optional: true }
output { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] }
output { name: "finish_reason" data_type: TYPE_STRING dims: [ -1 ] }
"""


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        running.model("adder").config(ADDER).respond_with_tensors({"y": [1.0, 2.0]})
        yield running


def adapter_on(fake: FakeTriton, **settings: Any) -> TritonAdapter:
    return TritonAdapter(TritonSettings(url=fake.grpc_url, **settings))


def count(fake: FakeTriton, call: str) -> int:
    return sum(each.origin.call == call for each in fake.calls)


@pytest.mark.spec("ORCH-3057-036")
@pytest.mark.parametrize("server", HOLES)
async def test_a_named_model_is_described_and_ready_on_every_server(fake: FakeTriton, server: str) -> None:
    act(fake, server)
    async with adapter_on(fake, model="adder") as adapter:
        props, health, model = await adapter.props(), await adapter.health(), await adapter.model_props("adder")

    assert [(each.name, each.ready, [spec.name for spec in each.inputs]) for each in props.models] == [
        ("adder", True, ["x"])
    ]
    assert model == props.models[0]
    assert (health.state, health.ready, [each.name for each in health.models]) == (HealthState.READY, True, ["adder"])


@pytest.mark.spec("ORCH-3057-036")
@pytest.mark.parametrize("server", HOLES)
async def test_a_model_that_the_host_names_is_asked_for_as_well(fake: FakeTriton, server: str) -> None:
    act(fake, server)
    adapter = adapter_on(fake)
    adapter.named_models = frozenset({"adder"})
    async with adapter:
        props, health = await adapter.props(), await adapter.health()

    assert [each.name for each in props.models] == [each.name for each in health.models] == ["adder"]


@pytest.mark.spec("ORCH-3057-037")
@pytest.mark.parametrize("server", ["kserve", "pytriton", "dynamo"])
async def test_a_server_that_does_not_list_its_models_is_not_said_to_have_none(fake: FakeTriton, server: str) -> None:
    act(fake, server)
    async with adapter_on(fake) as adapter:
        props, health = await adapter.props(), await adapter.health()

    assert (props.models_listed, health.models_listed) == (False, False)
    assert (props.models, health.models, health.ready) == ((), (), True)
    (finding,) = [each for each in props.findings if each.topic == "model"]
    assert "does not tell which models it has" in finding.message
    assert "-o model=NAME" in finding.advice


@pytest.mark.spec("ORCH-3057-037")
async def test_a_refused_index_is_told_with_what_it_takes(fake: FakeTriton) -> None:
    fake.restrict("model-repository", key="admin", value="secret")
    async with adapter_on(fake) as adapter:
        (finding,) = [each for each in (await adapter.props()).findings if each.topic == "model"]

    assert "restricted" in finding.message
    assert "restricted_token" in finding.message


@pytest.mark.spec("ORCH-3057-037")
async def test_a_broken_index_is_told_and_keeps_nobody_from_the_rest(fake: FakeTriton) -> None:
    fake.fail_next("RepositoryIndex", "INTERNAL", "the disk is on fire", times=2)
    async with adapter_on(fake, model="adder") as adapter:
        props, health = await adapter.props(), await adapter.health()

    assert (props.models_listed, health.models_listed, health.ready) == (False, False, True)
    assert [model.name for model in props.models] == ["adder"]
    assert "on fire" in health.detail
    assert any("on fire" in finding.message for finding in props.findings)


async def test_a_server_that_refuses_to_say_who_it_is_is_described_with_what_it_takes(fake: FakeTriton) -> None:
    fake.restrict("metadata", key="admin", value="secret")
    async with adapter_on(fake) as adapter:
        props = await adapter.props()

    assert props.engine_version is None
    assert any("restricted_token" in finding.message for finding in props.findings)


async def test_a_refused_configuration_is_told_of_the_model_that_was_asked_for(fake: FakeTriton) -> None:
    fake.model("other").config(ADDER)
    fake.restrict("model-config", key="admin", value="secret")
    async with adapter_on(fake) as adapter:
        for name in ("adder", "other"):
            with pytest.raises(PermissionDenied, match=f"model {name!r}"):
                await adapter.model_props(name)


@pytest.mark.spec("ORCH-3057-037")
async def test_a_model_that_a_task_used_does_not_make_the_others_unknown(fake: FakeTriton) -> None:
    act(fake, "kserve")
    async with adapter_on(fake) as adapter:
        await adapter.infer(InferRequest(model="adder", inputs=(Tensor("x", "FP32", (2,), bytes(8)),)))
        health = await adapter.health()
        fake.model("adder").unload()
        later = await adapter.health()

    assert (health.models_listed, [model.name for model in health.models]) == (False, ["adder"])
    assert (later.ready, [model.ready for model in later.models]) == (True, [False])


@pytest.mark.spec("ORCH-3057-038")
@pytest.mark.parametrize("server", HOLES)
async def test_a_named_model_that_is_not_there_is_not_ready_and_says_why(fake: FakeTriton, server: str) -> None:
    act(fake, server)
    async with adapter_on(fake, model="nosuch") as adapter:
        health, props = await adapter.health(), await adapter.props()
        with pytest.raises(ModelNotFound):
            await adapter.model_props("nosuch")

    assert health.state is HealthState.DEGRADED
    (said,) = [model for model in health.models if model.name == "nosuch"]
    assert not said.ready
    assert said.reason
    assert "nosuch" in health.detail
    assert {model.name: model.ready for model in props.models}["nosuch"] is False


@pytest.mark.parametrize("server", ["kserve", "dynamo"])
async def test_what_a_server_does_not_have_is_asked_for_once(fake: FakeTriton, server: str) -> None:
    act(fake, server)
    async with adapter_on(fake, model="adder") as adapter:
        for _ in range(4):
            await adapter.health()
            await adapter.props()

    for call in HOLES[server].without:
        assert count(fake, call) <= 1


async def test_another_server_at_the_address_is_asked_anew(fake: FakeTriton) -> None:
    act(fake, "kserve")
    async with adapter_on(fake) as adapter:
        assert not (await adapter.health()).models_listed
        fake.die()
        assert (await adapter.health()).state is HealthState.UNREACHABLE
        fake.act_as("triton")
        fake.revive()

        assert (await adapter.health()).models_listed


async def test_advice_is_for_the_server_it_is(fake: FakeTriton) -> None:
    fake.model("talk").config(
        'backend: "python" input { name: "prompt" data_type: TYPE_STRING dims: [ 1 ] } '
        'output { name: "text" data_type: TYPE_STRING dims: [ 1 ] }'
    )
    async with adapter_on(fake) as adapter:
        on_triton = await adapter.model_props("talk")
    act(fake, "mlserver")
    async with adapter_on(fake) as adapter:
        elsewhere = await adapter.model_props("talk")

    assert "model_transaction_policy" in "".join(finding.advice for finding in on_triton.findings)
    assert "model_transaction_policy" not in "".join(finding.advice for finding in elsewhere.findings)
    assert Capability.TENSOR_STREAM in on_triton.capabilities
    assert Capability.TENSOR_STREAM not in elsewhere.capabilities


async def test_metadata_alone_calls_no_input_optional_and_none_required(fake: FakeTriton) -> None:
    act(fake, "kserve")
    async with adapter_on(fake) as adapter:
        model = await adapter.model_props("adder")

    assert [spec.optional for spec in (*model.inputs, *model.outputs)] == [None, None]


# -- one strange model, and many ---------------------------------------------------------------------------------------


@pytest.mark.spec("ORCH-3057-039")
async def test_a_model_with_a_datatype_of_the_future_hides_no_other(fake: FakeTriton) -> None:
    fake.model("future").config(ADDER)._serving.config.input[0].data_type = 99  # type: ignore[assignment]
    async with adapter_on(fake) as adapter:
        models = {model.name: model for model in (await adapter.props()).models}

    assert set(models) == {"adder", "future"}
    assert models["adder"].inputs[0].datatype == "FP32"


@pytest.mark.spec("ORCH-3057-039")
@pytest.mark.parametrize("version", ["9" * 5_000, "², not a number", "-1", ""])
def test_a_version_of_any_look_is_taken(version: str) -> None:
    schema = schema_from(v2.ModelMetadataResponse(name="m", versions=["2", version, "10"]), v2.ModelConfig(name="m"))

    assert schema.version == (version if version.startswith("9") else "10")
    assert version in schema.versions


@pytest.mark.spec("ORCH-3057-039")
def test_an_unknown_datatype_is_called_as_the_metadata_spells_it() -> None:
    said = v2.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP8", shape=[1])
    config = v2.ModelConfig(name="m")
    config.input.add(name="x", dims=[1]).data_type = 99  # type: ignore[assignment]

    assert schema_from(v2.ModelMetadataResponse(inputs=[said]), config).inputs["x"].datatype == "FP8"
    assert "99" in schema_from(v2.ModelMetadataResponse(), config).inputs["x"].datatype


@pytest.mark.spec("ORCH-3057-040")
async def test_of_very_many_models_some_are_described_and_all_are_told(fake: FakeTriton) -> None:
    for number in range(1_500):
        fake.model(f"m{number:05}").config(ADDER)
    async with adapter_on(fake, model="m01400") as adapter:
        began = perf_counter()
        props = await adapter.props()

    assert perf_counter() - began < adapter.control_timeout_s
    assert len(props.models) == 1_501
    assert 0 < count(fake, "ModelConfig") <= DESCRIBED_AT_MOST
    models = {model.name: model for model in props.models}
    assert models["m01400"].inputs  # named: asked first
    assert not models["m01399"].inputs
    assert models["m01399"].ready
    assert any("1501 models" in finding.message for finding in props.findings)


async def test_one_model_is_looked_up_by_its_name_and_no_other_asked(fake: FakeTriton) -> None:
    for number in range(20):
        fake.model(f"m{number}").config(ADDER)
    async with adapter_on(fake) as adapter:
        await adapter.model_props("m7")

    assert (count(fake, "ModelConfig"), count(fake, "RepositoryIndex")) == (1, 0)


@pytest.mark.parametrize("name", ["org/name", "a b", "ü", "models/x/versions/1", "x" * 300])
async def test_a_model_of_any_name_is_asked_for_and_served(fake: FakeTriton, name: str) -> None:
    fake.model(name).config(ADDER).respond_with_tensors({"y": [2.0, 4.0]})
    act(fake, "kserve")
    async with adapter_on(fake, model=name) as adapter:
        model, health = await adapter.model_props(name), await adapter.health()
        response = await adapter.infer(InferRequest(model=name, inputs=(Tensor("x", "FP32", (2,), bytes(8)),)))

    assert model.name == name
    assert [each.name for each in health.models if each.ready] == [name]
    assert response["y"].to_numpy().tolist() == [2.0, 4.0]


async def test_a_text_ensemble_is_asked_for_all_it_has(fake: FakeTriton) -> None:
    config = fake.model("ensemble").signature("trtllm")._serving.config
    config.ensemble_scheduling.step.add(model_name="inner", model_version=-1)
    async with adapter_on(fake) as adapter:
        events = await collect(adapter.submit(TaskRequest(model="ensemble", prompt="hi", max_tokens=4)))

    assert isinstance(events[-1], End)
    assert fake.requests[0].outputs == ()


# -- Dynamo's text models ----------------------------------------------------------------------------------------------


def word(text: str, reason: str = "") -> Send:
    outputs = {"text_output": Tensor.from_bytes_elements("text_output", [text.encode()])}
    if reason:
        outputs["finish_reason"] = Tensor.from_bytes_elements("finish_reason", [reason.encode()])
    return Send(outputs)


@pytest.fixture
def dynamo(fake: FakeTriton) -> FakeTriton:
    act(fake, "dynamo")
    fake.model("talker").config(TALKER).respond_with_steps(word("one "), word("two"), word("", "stop"), Finish())
    return fake


async def test_a_text_model_of_dynamo_streams_and_ends_with_its_call(dynamo: FakeTriton) -> None:
    async with adapter_on(dynamo, model="talker") as adapter:
        events = await collect(adapter.submit(TaskRequest(model="talker", prompt="hi")))
        model = await adapter.model_props("talker")

    assert [event.text for event in events if isinstance(event, Token)] == ["one ", "two"]
    assert isinstance(events[-1], End)
    assert events[-1].finish_reason == "stop"
    (request,) = dynamo.requests
    assert request.origin.call == "ModelStreamInfer"
    assert request.inputs["streaming"].data == b"\x01"
    assert (model.dialect, model.cancel_mode) == ("dynamo", "on_next_chunk")
    assert {Capability.STREAMING, Capability.FINISH_REASON} <= model.capabilities


@pytest.mark.parametrize(
    "fields",
    [{"max_tokens": 3}, {"temperature": 0.5}, {"seed": 1}, {"top_k": 2}, {"parameters": {"triton.ignore_eos": True}}],
)
async def test_what_dynamo_would_drop_is_refused_with_the_reason(dynamo: FakeTriton, fields: dict[str, Any]) -> None:
    async with adapter_on(dynamo) as adapter:
        events = await collect(adapter.submit(TaskRequest(model="talker", prompt="hi", **fields)))

    (error,) = events
    assert isinstance(error, Error)
    assert error.code in ("unsupported", "invalid_request")
    assert "drops the parameters" in error.message
    assert not dynamo.requests


async def test_a_canary_on_dynamo_does_without_what_cannot_be_passed(dynamo: FakeTriton) -> None:
    async with adapter_on(dynamo, model="talker") as adapter:
        report = await adapter.health(canary=True)

    assert (report.canary, report.state, report.detail) == (True, HealthState.READY, "")


async def test_a_tensor_stream_without_flags_ends_with_its_call(dynamo: FakeTriton) -> None:
    text = (Tensor.from_bytes_elements("text_input", [b"hi"]),)
    async with adapter_on(dynamo) as adapter:
        stream = adapter.infer_stream(InferRequest(model="talker", inputs=text))
        texts = [response["text_output"].elements() async for response in stream]

    assert texts == [[b"one "], [b"two"], [b""]]


async def test_a_stream_without_flags_is_cut_short_on_a_triton(dynamo: FakeTriton) -> None:
    dynamo.act_as("triton", flags_ends=False)
    async with adapter_on(dynamo) as adapter:
        events = await collect(adapter.submit(TaskRequest(model="talker", prompt="hi")))

    assert isinstance(events[-1], Error)
    assert events[-1].code == "stream_incomplete"

"""What models declare, and how it is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from adapter_api import AdapterClosed, ConnectFailed, DeadlineStage, ModelNotFound, NotReady, Unsupported
from triton_adapter.engine.metadata import CACHE_SIZE, SchemaCache, explain_absence, schema_from
from triton_adapter.schema import TensorSpec
from triton_adapter.transports.ways import GRPC
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import MODEL_CONFIG, MODEL_METADATA, Rpc

pytestmark = pytest.mark.anyio


def metadata(name: str = "m", *versions: str) -> v2.ModelMetadataResponse:
    return v2.ModelMetadataResponse(name=name, versions=versions or ["1"], platform="python")


async def test_a_schema_has_what_the_configuration_declares() -> None:
    config = v2.ModelConfig(
        name="m",
        backend="python",
        max_batch_size=8,
        input=[
            v2.ModelInput(name="text", data_type=v2.TYPE_STRING, dims=[1]),
            v2.ModelInput(name="seed", data_type=v2.TYPE_UINT64, dims=[1], optional=True),
        ],
        output=[v2.ModelOutput(name="out", data_type=v2.TYPE_BF16, dims=[-1, 4])],
        instance_group=[v2.ModelInstanceGroup(count=2, gpus=[0, 1]), v2.ModelInstanceGroup(count=1)],
        parameters={"K": v2.ModelParameter(string_value="V")},
        model_transaction_policy=v2.ModelTransactionPolicy(decoupled=True),
        dynamic_batching=v2.ModelDynamicBatching(
            priority_levels=3,
            preserve_ordering=True,
            default_queue_policy=v2.ModelQueuePolicy(allow_timeout_override=True, max_queue_size=7),
        ),
    )

    schema = schema_from(metadata("m", "1", "10", "9"), config)

    assert schema.inputs["text"] == TensorSpec("text", "BYTES", (1,))
    assert schema.inputs["seed"] == TensorSpec("seed", "UINT64", (1,), optional=True)
    assert schema.outputs["out"] == TensorSpec("out", "BF16", (-1, 4))
    assert (schema.versions, schema.version) == (("1", "10", "9"), "10")
    assert (schema.backend, schema.platform, schema.max_batch_size) == ("python", "python", 8)
    assert (schema.decoupled, schema.scheduling, schema.batched) == (True, "dynamic_batching", True)
    assert (schema.priority_levels, schema.allow_timeout_override, schema.max_queue_size) == (3, True, 7)
    assert schema.preserve_ordering
    assert schema.parameters == {"K": "V"}
    assert schema.instance_count == 5


@pytest.mark.parametrize(
    "field, scheduling",
    [("sequence_batching", "sequence_batching"), ("ensemble_scheduling", "ensemble"), (None, "none")],
)
async def test_a_schema_says_how_requests_are_scheduled(field: str | None, scheduling: str) -> None:
    config = v2.ModelConfig(name="m")
    if field is not None:
        getattr(config, field).SetInParent()

    schema = schema_from(metadata(), config)

    assert schema.scheduling == scheduling
    assert not schema.decoupled


async def test_a_server_without_configurations_gives_what_its_metadata_has() -> None:
    answer = v2.ModelMetadataResponse(
        name="m",
        platform="sklearn",
        inputs=[v2.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 4])],
    )

    schema = schema_from(answer, None)

    assert schema.inputs["x"] == TensorSpec("x", "FP32", (-1, 4), optional=None)
    assert not schema.configured
    assert (schema.version, schema.platform, schema.max_batch_size) == (None, "sklearn", 0)


def index(*entries: tuple[str, str, str, str]) -> list[v2.RepositoryIndexResponse.ModelIndex]:
    return [v2.RepositoryIndexResponse.ModelIndex(name=n, version=v, state=s, reason=r) for n, v, s, r in entries]


@pytest.mark.parametrize(
    "entries, version, error, says",
    [
        ([], "", ModelNotFound, "there is none"),
        ([("other", "1", "READY", "")], "", ModelNotFound, "there are: other"),
        ([("m", "1", "READY", "")], "2", ModelNotFound, "no version '2'"),
        ([("m", "1", "LOADING", "")], "", NotReady, "is loading"),
        ([("m", "1", "UNLOADING", "")], "", NotReady, "is unloading"),
        ([("m", "", "", "")], "", NotReady, "models load m"),
        ([("m", "1", "UNAVAILABLE", "unloaded")], "", NotReady, "unloaded"),
        (
            [("m", "1", "UNAVAILABLE", "Internal: OSError: no weights\n\nAt:\n  /x/model.py(3)\n")],
            "",
            NotReady,
            "no weights",
        ),
    ],
)
async def test_a_model_that_does_not_answer_is_explained_by_the_index(
    entries: list[tuple[str, str, str, str]], version: str, error: type[Exception], says: str
) -> None:
    found = explain_absence(index(*entries), "m", version, where="grpc://h:1")

    assert type(found) is error
    assert says in str(found)
    assert "model.py" not in str(found)


async def test_a_model_that_the_index_calls_ready_is_not_explained_away() -> None:
    assert explain_absence(index(("m", "1", "READY", "")), "m", "", where="grpc://h:1") is None


class Answers:
    """A transport that answers control calls from memory and counts them."""

    traits = GRPC
    kind = "scripted"
    where = "grpc://h:1"
    secrets = ()
    certificate_expires_at: float | None = None

    def __init__(self, answer: Callable[[str], Any] | None = None) -> None:
        self.asked: list[str] = []
        self.gate = anyio.Event()
        self.gate.set()
        self._answer = answer

    async def control(
        self, rpc: Rpc[Any, Any], request: Any, *, timeout_s: float, what: str = "", stage: DeadlineStage = "control"
    ) -> Any:
        if rpc is MODEL_METADATA:
            self.asked.append(request.name)
        await self.gate.wait()
        if self._answer is not None and (found := self._answer(rpc.name)) is not None:
            raise found
        return v2.ModelConfigResponse() if rpc is MODEL_CONFIG else metadata(request.name)

    async def infer(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a schema needs no inference")

    stream = infer

    async def aclose(self) -> None:
        return None


async def test_many_askers_at_once_cost_one_question() -> None:
    transport = Answers()
    transport.gate = anyio.Event()
    cache = SchemaCache(transport, ttl_s=60, timeout_s=1)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(cache.get, "m")
        await anyio.wait_all_tasks_blocked()
        transport.gate.set()
    await cache.get("m")

    assert transport.asked == ["m"]
    await cache.aclose()


async def test_an_asker_that_gives_up_does_not_fail_the_others() -> None:
    transport = Answers()
    transport.gate = anyio.Event()
    cache = SchemaCache(transport, ttl_s=60, timeout_s=1)
    found: list[str] = []

    async def impatient() -> None:
        with anyio.move_on_after(0.01):
            await cache.get("m")

    async def patient() -> None:
        found.append((await cache.get("m")).name)

    async with anyio.create_task_group() as group:
        group.start_soon(impatient)
        group.start_soon(patient)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05):
            await anyio.sleep_forever()
        transport.gate.set()

    assert found == ["m"]
    assert transport.asked == ["m"]


async def test_closing_ends_a_question_with_an_error_and_not_with_a_cancel_of_who_asked() -> None:
    transport = Answers()
    transport.gate = anyio.Event()
    cache = SchemaCache(transport, ttl_s=60, timeout_s=1)
    refused: list[AdapterClosed] = []

    async def ask() -> None:
        with pytest.raises(AdapterClosed) as caught:
            await cache.get("m")
        refused.append(caught.value)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        await cache.aclose()

    assert [error.retryable for error in refused] == [True, True]


async def test_what_is_old_or_forgotten_is_asked_again() -> None:
    transport = Answers()
    stale = SchemaCache(transport, ttl_s=0.000001, timeout_s=1)
    await stale.get("m")
    await stale.get("m")
    cache = SchemaCache(transport, ttl_s=60, timeout_s=1)
    await cache.get("m")
    await cache.get("n")
    cache.forget("m")
    await cache.get("m")
    await cache.get("n")

    assert transport.asked == ["m", "m", "m", "n", "m"]


async def test_what_was_asked_before_a_model_changed_is_not_taken_for_what_it_is_now() -> None:
    transport = Answers()
    transport.gate = anyio.Event()
    cache = SchemaCache(transport, ttl_s=60, timeout_s=1)

    async with anyio.create_task_group() as group:
        group.start_soon(cache.get, "m")
        await anyio.wait_all_tasks_blocked()
        cache.forget("m", changed=True)
        group.start_soon(cache.get, "m")
        await anyio.wait_all_tasks_blocked()
        transport.gate.set()
    await cache.get("m")
    await cache.aclose()

    assert transport.asked == ["m", "m"]


async def test_a_refusal_while_a_model_is_read_costs_no_second_question() -> None:
    transport = Answers()
    transport.gate = anyio.Event()
    cache = SchemaCache(transport, ttl_s=60, timeout_s=1)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(cache.get, "m")
            await anyio.wait_all_tasks_blocked()
            cache.forget("m")
        transport.gate.set()

    assert transport.asked == ["m"]


async def test_a_failure_is_not_kept() -> None:
    failing = True

    def answer(rpc: str) -> Exception | None:
        return ConnectFailed("nobody there") if failing else None

    cache = SchemaCache(Answers(answer), ttl_s=60, timeout_s=1)
    with pytest.raises(ConnectFailed):
        await cache.get("m")
    failing = False

    assert (await cache.get("m")).name == "m"


async def test_a_server_that_has_no_configurations_is_believed_by_its_metadata() -> None:
    cache = SchemaCache(
        Answers(lambda rpc: Unsupported("no such call") if rpc == "ModelConfig" else None), ttl_s=60, timeout_s=1
    )

    assert (await cache.get("m")).version == "1"


async def test_the_cache_is_bounded() -> None:
    transport = Answers()
    cache = SchemaCache(transport, ttl_s=60, timeout_s=1)
    for number in range(CACHE_SIZE + 5):
        await cache.get(f"m{number}")

    assert len(cache.names) == CACHE_SIZE
    assert "m0" not in cache.names

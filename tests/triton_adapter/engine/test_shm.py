"""Large tensors by shared memory: the same answers, and nothing left behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import numpy as np
import pytest

from adapter_api import Capability, DeadlineExceeded, InferRequest, InvalidRequest, RequestedOutput, Tensor
from tests.triton_adapter.lab import loaded, tensor
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.engine.shm import _KEPT, _output_sizes
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import SHM_REGISTER, SHM_STATUS, SHM_UNREGISTER

pytestmark = [pytest.mark.anyio, pytest.mark.live]

SIDE = 512
ECHO = """
def execute(self, requests):
    import time
    answers = []
    for request in requests:
        x = value(request, "X")
        # Below zero: whoever asks for that has to give up.
        while x[0, 0] < 0 and not request.is_cancelled():
            time.sleep(0.005)
        answers.append(answer(Y=x + 1, N=np.array([x.size], dtype=np.int64)))
    return answers
"""


@pytest.fixture
async def sharing(triton: EmbeddedTriton) -> AsyncIterator[TritonAdapter]:
    """An adapter that passes everything above a kibibyte by shared memory, with a model of large tensors."""
    settings = TritonSettings(
        url=triton.grpc_url, shared_memory=True, shared_memory_min_bytes=1024, drain_timeout_s=0.2
    )
    async with (
        TritonAdapter(settings) as adapter,
        loaded(
            adapter,
            "large",
            inputs=[tensor("X", "TYPE_FP32", SIDE, SIDE)],
            outputs=[tensor("Y", "TYPE_FP32", SIDE, SIDE), tensor("N", "TYPE_INT64", 1)],
            code=ECHO,
        ),
    ):
        yield adapter


def image(number: float) -> np.ndarray:  # type: ignore[type-arg]
    return np.full((SIDE, SIDE), number, dtype=np.float32)


def large(number: float, **fields: object) -> InferRequest:
    inputs = (Tensor.from_numpy("X", image(number)),)
    return InferRequest(model="large", inputs=inputs, **fields)  # type: ignore[arg-type]


async def registered(adapter: TritonAdapter) -> set[str]:
    """Return the regions of this process that the server has."""
    transport = adapter._engine.transport
    status = await transport.control(SHM_STATUS, v2.SystemSharedMemoryStatusRequest(), timeout_s=5)
    return {name for name in status.regions if f"-{os.getpid()}-" in name}


def files() -> list[str]:
    return [path.name for path in Path("/dev/shm").iterdir() if f"worker-adapter-{os.getpid()}-" in path.name]


async def test_large_inputs_and_outputs_pass_by_shared_memory_with_the_same_answer(sharing: TritonAdapter) -> None:
    response = await sharing.infer(large(7))

    np.testing.assert_array_equal(response["Y"].to_numpy(), image(8))
    assert response["N"].to_numpy().tolist() == [SIDE * SIDE]
    assert len(await registered(sharing)) >= 2, "one region for the input, one for the output"
    assert files() == [], "names are gone as soon as the server has mapped them"


async def test_regions_are_used_again(sharing: TritonAdapter) -> None:
    await sharing.infer(large(1))
    before = await registered(sharing)

    for number in range(5):
        response = await sharing.infer(large(number))
        np.testing.assert_array_equal(response["Y"].to_numpy(), image(number + 1))

    assert len(await registered(sharing) - before) <= 1, "the answer before is still in somebody's hands"


async def test_requests_at_once_do_not_share_a_region(sharing: TritonAdapter) -> None:
    async def one(number: int) -> None:
        response = await sharing.infer(large(number))
        np.testing.assert_array_equal(response["Y"].to_numpy(), image(number + 1))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(one, number)


async def test_an_answer_in_shared_memory_is_its_own_until_nobody_has_it(sharing: TritonAdapter) -> None:
    first = (await sharing.infer(large(1)))["Y"].to_numpy()
    second = (await sharing.infer(large(2)))["Y"].to_numpy()

    assert not first.flags.writeable
    np.testing.assert_array_equal(first, image(2))
    np.testing.assert_array_equal(second, image(3))
    before = await registered(sharing)
    del first, second
    await sharing.infer(large(3))
    assert await registered(sharing) == before


async def test_answers_that_are_kept_hold_no_more_regions_than_are_kept_for_use(sharing: TritonAdapter) -> None:
    kept = [(await sharing.infer(large(number)))["Y"].to_numpy() for number in range(_KEPT + 5)]

    assert len(await registered(sharing)) <= _KEPT + 3
    for number, array in enumerate(kept):
        np.testing.assert_array_equal(array, image(number + 1))


async def test_an_answer_outlives_its_adapter(triton: EmbeddedTriton, adapter: TritonAdapter) -> None:
    settings = TritonSettings(url=triton.grpc_url, shared_memory=True, shared_memory_min_bytes=1024)
    given, found = tensor("X", "TYPE_FP32", SIDE, SIDE), tensor("Y", "TYPE_FP32", SIDE, SIDE)
    async with loaded(adapter, "large", inputs=[given], outputs=[found, tensor("N", "TYPE_INT64", 1)], code=ECHO):
        async with TritonAdapter(settings) as sharing:
            kept = (await sharing.infer(large(4)))["Y"].to_numpy()
            names = await registered(sharing)
        assert names
        assert await registered(adapter) == set()

    np.testing.assert_array_equal(kept, image(5))


@pytest.mark.parametrize("stated", [(SIDE, SIDE), (SIDE, 3 * SIDE), None])
async def test_an_output_of_open_size_passes_by_shared_memory_where_its_shape_is_stated(
    sharing: TritonAdapter, stated: tuple[int, ...] | None
) -> None:
    boxes = [tensor("X", "TYPE_FP32", -1, -1)], [tensor("Y", "TYPE_FP32", -1, -1), tensor("N", "TYPE_INT64", 1)]
    async with loaded(sharing, "open", inputs=boxes[0], outputs=boxes[1], code=ECHO):
        inputs = (Tensor.from_numpy("X", image(1)),)
        outputs = (RequestedOutput("Y", shape=stated), RequestedOutput("N"))
        response = await sharing.infer(InferRequest(model="open", inputs=inputs, outputs=outputs))

        np.testing.assert_array_equal(response["Y"].to_numpy(), image(2))
        assert len(await registered(sharing)) == (3 if stated else 2), "one of them was to try"


async def test_a_stated_shape_that_is_too_small_is_the_requests_fault(sharing: TritonAdapter) -> None:
    boxes = [tensor("X", "TYPE_FP32", -1, -1)], [tensor("Y", "TYPE_FP32", -1, -1), tensor("N", "TYPE_INT64", 1)]
    async with loaded(sharing, "open", inputs=boxes[0], outputs=boxes[1], code=ECHO):
        inputs = (Tensor.from_numpy("X", image(1)),)
        small = RequestedOutput("Y", shape=(SIDE, SIDE // 2))
        with pytest.raises(InvalidRequest, match=r"stated.*'Y'"):
            await sharing.infer(InferRequest(model="open", inputs=inputs, outputs=(small,)))


async def test_one_requested_output_passes_alone(sharing: TritonAdapter) -> None:
    response = await sharing.infer(large(1, outputs=(RequestedOutput("N"),)))

    assert [output.name for output in response.outputs] == ["N"]


async def test_a_region_that_the_server_may_still_write_rests_until_it_cannot(sharing: TritonAdapter) -> None:
    await sharing.infer(large(1))
    before = await registered(sharing)

    with pytest.raises(DeadlineExceeded):
        await sharing.infer(large(-1, timeout_s=0.2))
    answers = await sharing.infer(large(3))

    np.testing.assert_array_equal(answers["Y"].to_numpy(), image(4))
    with anyio.fail_after(10):
        while len(before - await registered(sharing)) < 2:  # noqa: ASYNC110 - the server tells of no event
            await anyio.sleep(0.01)


async def test_regions_that_the_server_does_not_know_any_more_cost_no_request(sharing: TritonAdapter) -> None:
    await sharing.infer(large(1))
    before = await registered(sharing)
    transport = sharing._engine.transport
    for name in before:  # as a restart of the server does
        await transport.control(SHM_UNREGISTER, v2.SystemSharedMemoryUnregisterRequest(name=name), timeout_s=5)

    for number in (2, 3):
        response = await sharing.infer(large(number))
        np.testing.assert_array_equal(response["Y"].to_numpy(), image(number + 1))

    assert len(await registered(sharing) - before) >= 2, "it goes by shared memory again"


async def test_a_refused_request_gives_its_regions_back(sharing: TritonAdapter) -> None:
    await sharing.infer(large(1))
    before = await registered(sharing)
    wrong = InferRequest(model="large", inputs=(Tensor("X", "FP32", (SIDE, 1), bytes(4 * SIDE)),))

    with pytest.raises(InvalidRequest, match="shape"):
        await sharing.infer(wrong)
    await sharing.infer(large(2))

    assert before <= await registered(sharing)


async def test_closing_leaves_no_region(triton: EmbeddedTriton, adapter: TritonAdapter) -> None:
    settings = TritonSettings(url=triton.grpc_url, shared_memory=True, shared_memory_min_bytes=16)
    array = np.arange(1000, dtype=np.float32).reshape(1, -1)
    # Another test's request may still run in the engine, which holds its region until then.
    before = await registered(adapter)
    async with TritonAdapter(settings) as sharing:
        await sharing.infer(InferRequest(model="tensors", inputs=(Tensor.from_numpy("FP32_IN", array),)))
        during = await registered(adapter) - before
        assert Capability.SHARED_MEMORY in (await sharing.props()).capabilities

    assert during
    assert await registered(adapter) <= before
    assert files() == []


async def test_what_a_dead_process_left_registered_is_swept(triton: EmbeddedTriton, adapter: TritonAdapter) -> None:
    nobody = 2**22 + 1  # above the highest process id that Linux gives
    name = f"worker-adapter-{nobody}-abcdef"
    path = Path("/dev/shm") / name
    path.write_bytes(bytes(4096))
    transport = adapter._engine.transport
    request = v2.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=4096)
    try:
        await transport.control(SHM_REGISTER, request, timeout_s=5)
    finally:
        path.unlink()

    async with TritonAdapter(TritonSettings(url=triton.grpc_url, shared_memory=True)) as sharing:
        reason = await sharing._engine.shared_memory.reason()

    status = await transport.control(SHM_STATUS, v2.SystemSharedMemoryStatusRequest(), timeout_s=5)
    assert reason is None
    assert name not in status.regions


async def test_without_a_server_on_this_machine_tensors_go_by_the_wire(
    triton: EmbeddedTriton, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The server looks in /dev/shm; a folder elsewhere is what a server on another machine amounts to.
    monkeypatch.setattr("triton_adapter.engine.shm._DIRECTORY", tmp_path)
    settings = TritonSettings(url=triton.grpc_url, shared_memory=True, shared_memory_min_bytes=16)
    array = np.arange(1000, dtype=np.float32).reshape(1, -1)

    async with TritonAdapter(settings) as adapter:
        response = await adapter.infer(InferRequest(model="tensors", inputs=(Tensor.from_numpy("FP32_IN", array),)))
        reason = await adapter._engine.shared_memory.reason()

    np.testing.assert_array_equal(response["FP32_OUT"].to_numpy(), array)
    assert reason is not None
    assert "cannot use our shared memory" in reason
    assert os.listdir(tmp_path) == []


async def test_only_outputs_of_certain_size_are_expected_in_shared_memory() -> None:
    outputs = {
        "fixed": TensorSpec("fixed", "FP32", (10,)),
        "open": TensorSpec("open", "FP32", (-1,)),
        "text": TensorSpec("text", "BYTES", (10,)),
        "small": TensorSpec("small", "FP32", (1,)),
    }
    schema = ModelSchema("m", {}, outputs, max_batch_size=4)
    sent = [Tensor("X", "UINT8", (3, 1), bytes(3))]

    assert _output_sizes(sent, (), schema, 100) == {"fixed": 120}
    assert _output_sizes(sent, (RequestedOutput("small"),), schema, 1) == {"small": 12}
    assert _output_sizes(sent, (RequestedOutput("fixed", classification=2),), schema, 1) == {}

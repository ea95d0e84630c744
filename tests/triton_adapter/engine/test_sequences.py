"""Stateful models: the requests of a sequence, in order, with one start and one end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import numpy as np
import pytest

from adapter_api import ConnectFailed, EngineFailed, InferRequest, InferResponse, InvalidRequest, Sequence, Tensor
from tests.triton_adapter.lab import loaded, tensor
from triton_adapter import TritonAdapter
from triton_adapter.engine.sequences import SequenceSession

pytestmark = pytest.mark.anyio

# Sums what it gets, per sequence, and logs every flag it sees; -1 makes it fail, and NaN asks for the log.
CODE = """
def initialize(self, args):
    self.sums, self.log = {}, []

def execute(self, requests):
    answers = []
    for request in requests:
        key, number = int(value(request, "CORRID").flat[0]), float(value(request, "X").flat[0])
        start, end = int(value(request, "START").flat[0]), int(value(request, "END").flat[0])
        self.log.append((key, start, end, number))
        if start:
            self.sums[key] = 0.0
        if number == -1:
            answers.append(pb_utils.InferenceResponse([], pb_utils.TritonError("minus one")))
            continue
        self.sums[key] += number
        flags = sum(s for k, s, e, n in self.log if k == key) * 100 + sum(e for k, s, e, n in self.log if k == key)
        answers.append(answer(Y=np.array([[self.sums[key], flags]], dtype=np.float32)))
    return answers
"""


def control(name: str, kind: str, **values: object) -> dict[str, object]:
    return {"name": name, "control": [{"kind": f"CONTROL_SEQUENCE_{kind}", **values}]}


@pytest.fixture
async def accumulator(adapter: TritonAdapter) -> AsyncIterator[str]:
    """A model with state."""
    async with loaded(
        adapter,
        "accumulator",
        inputs=[tensor("X", "TYPE_FP32", 1)],
        outputs=[tensor("Y", "TYPE_FP32", 2)],
        code=CODE,
        max_batch_size=1,
        sequence_batching={
            "max_sequence_idle_microseconds": 60_000_000,
            # With the default, a second sequence would wait for the first one's slot.
            "oldest": {"max_candidate_sequences": 4},
            "control_input": [
                control("START", "START", int32_false_true=[0, 1]),
                control("END", "END", int32_false_true=[0, 1]),
                control("CORRID", "CORRID", data_type="TYPE_UINT64"),
            ],
        },
    ):
        yield "accumulator"


def number(value: float) -> tuple[Tensor, ...]:
    return (Tensor.from_numpy("X", np.array([[value]], dtype=np.float32)),)


def result(response: InferResponse) -> tuple[float, int, int]:
    """Return the sum, and how many starts and ends the model has seen of this sequence."""
    total, flags = response["Y"].to_numpy().ravel().tolist()
    return total, int(flags) // 100, int(flags) % 100


@pytest.mark.live
async def test_a_sequence_keeps_its_state_from_start_to_end(adapter: TritonAdapter, accumulator: str) -> None:
    async with adapter.sequence(accumulator) as sequence:
        first = await sequence.infer(number(1))
        second = await sequence.infer(number(2))
        third = await sequence.infer(number(3), end=True)
        with pytest.raises(InvalidRequest, match="has ended"):
            await sequence.infer(number(4))

    assert [result(response) for response in (first, second, third)] == [(1, 1, 0), (3, 1, 0), (6, 1, 1)]


@pytest.mark.live
async def test_leaving_a_sequence_ends_it_once(adapter: TritonAdapter, accumulator: str) -> None:
    async with adapter.sequence(accumulator, id=77) as sequence:
        await sequence.infer(number(5))
    async with adapter.sequence(accumulator, id=77) as again:
        response = await again.infer(number(1))

    assert result(response) == (1, 2, 1), "two starts and one end: the state was given up in between"


@pytest.mark.live
async def test_an_error_in_the_middle_repeats_no_flag(adapter: TritonAdapter, accumulator: str) -> None:
    async with adapter.sequence(accumulator) as sequence:
        with pytest.raises(EngineFailed, match="minus one"):
            await sequence.infer(number(-1))
        response = await sequence.infer(number(2), end=True)

    assert result(response) == (2, 1, 1)


@pytest.mark.live
async def test_requests_of_one_sequence_go_in_the_order_they_came(adapter: TritonAdapter, accumulator: str) -> None:
    sums: list[float] = []
    async with adapter.sequence(accumulator) as sequence:
        await sequence.infer(number(0))

        async def add(value: float) -> None:
            sums.append(result(await sequence.infer(number(value)))[0])

        async with anyio.create_task_group() as group:
            for value in (1, 2, 4, 8, 16):
                group.start_soon(add, value)

    assert sums == [1, 3, 7, 15, 31]


@pytest.mark.live
async def test_two_sequences_at_once_keep_apart(adapter: TritonAdapter, accumulator: str) -> None:
    async with adapter.sequence(accumulator, id=1001) as one, adapter.sequence(accumulator, id=1002) as two:
        await one.infer(number(1))
        await two.infer(number(10))

        assert result(await one.infer(number(1)))[0] == 2
        assert result(await two.infer(number(10)))[0] == 20


@pytest.mark.live
async def test_a_sequence_that_the_server_does_not_know_is_told(adapter: TritonAdapter, accumulator: str) -> None:
    request = InferRequest(model=accumulator, inputs=number(1), sequence=Sequence(id=4242))

    with pytest.raises(InvalidRequest, match="START flag"):
        await adapter.infer(request)


async def test_a_request_that_provably_never_left_starts_the_sequence_again() -> None:
    sent: list[Sequence | None] = []

    async def send(request: InferRequest) -> InferResponse:
        sent.append(request.sequence)
        if len(sent) == 1:
            raise ConnectFailed("nobody there")
        return InferResponse(model=request.model)

    async with SequenceSession(send, "m", id="s") as sequence:
        with pytest.raises(ConnectFailed):
            await sequence.infer(())
        await sequence.infer(())

    assert sent == [
        Sequence(id="s", start=True),
        Sequence(id="s", start=True),
        Sequence(id="s", end=True),
    ]


async def test_a_sequence_that_never_began_is_not_ended() -> None:
    async def send(request: InferRequest) -> InferResponse:
        raise AssertionError("nothing should be sent")

    async with SequenceSession(send, "m"):
        pass


@pytest.mark.parametrize("id", [0, ""])
async def test_an_id_that_means_none_is_refused(id: int | str) -> None:
    async def send(request: InferRequest) -> InferResponse:
        raise AssertionError("nothing should be sent")

    with pytest.raises(InvalidRequest, match="id"):
        SequenceSession(send, "m", id=id)

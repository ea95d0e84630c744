"""Large answers are read where they lie: the same as a copy of them would say."""

from __future__ import annotations

import random

import pytest

from adapter_api import ProtocolViolation
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.contents import split_off_contents
from triton_adapter.wire.reply import parse_reply

pytestmark = pytest.mark.spec("ORCH-3072-001")


def answer(*sizes: int) -> bytes:
    message = v2.ModelInferResponse(model_name="m", model_version="3", id="x" * 200)
    for number, size in enumerate(sizes):
        message.outputs.add(name=f"out{number}", datatype="UINT8", shape=[size])
        message.raw_output_contents.append(random.Random(number).randbytes(size))
    message.parameters["n"].int64_param = -1
    message.parameters["d"].double_param = 2.5
    return message.SerializeToString()


@pytest.mark.parametrize("sizes", [(), (0,), (5,), (100_000,), (5, 70_000, 0, 200_000)])
def test_an_answer_says_the_same_as_a_view(sizes: tuple[int, ...]) -> None:
    data = answer(*sizes)

    assert parse_reply(memoryview(data)) == parse_reply(data)


def test_large_contents_are_not_copied_and_small_ones_keep_nothing_alive() -> None:
    data = memoryview(answer(10, 100_000))
    _, (small, large) = split_off_contents(data)

    assert isinstance(small, bytes)
    assert isinstance(large, memoryview)
    assert large.obj is data.obj


def test_an_answer_that_is_cut_off_anywhere_is_a_violation_or_what_protobuf_makes_of_it() -> None:
    data = answer(3, 4)
    for size in range(len(data)):
        try:
            expected = parse_reply(data[:size])
        except ProtocolViolation:
            with pytest.raises(ProtocolViolation):
                parse_reply(memoryview(data)[:size])
        else:
            assert parse_reply(memoryview(data)[:size]) == expected


def test_fields_that_are_not_known_are_passed_over_and_wire_types_that_are_not_are_refused() -> None:
    known = answer(70_000)
    unknown = b"\xa2\x06\x03abc" + b"\xa8\x06\x7f" + b"\xad\x06abcd" + b"\xa9\x06abcdefgh"

    assert parse_reply(memoryview(unknown + known)) == parse_reply(known)
    with pytest.raises(ProtocolViolation):
        parse_reply(memoryview(known + b"\xaf\x06"))

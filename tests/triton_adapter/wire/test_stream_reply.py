"""The stream reader's short way must say exactly what the full parse says."""

from __future__ import annotations

from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from adapter_api import ProtocolViolation
from triton_adapter.schema import Reply
from triton_adapter.wire import stream_reply
from triton_adapter.wire.reply import parse_stream_reply
from triton_adapter.wire.stream_reply import StreamReplyReader

CONTENTS = st.one_of(st.binary(max_size=12), st.binary(min_size=120, max_size=300), st.just(b"2\0" * 70))


def message(*contents: bytes, final: bool = False, id: str = "j", shape: int = 1, error: str = "") -> bytes:
    made = service_pb2.ModelStreamInferResponse(error_message=error)
    response = made.infer_response
    response.model_name, response.model_version, response.id = "m", "3", id
    response.parameters["triton_final_response"].bool_param = final
    for index, content in enumerate(contents):
        response.outputs.add(name=f"out{index}", datatype="BYTES", shape=[shape])
        response.raw_output_contents.append(content)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def said(reply: Reply) -> tuple[object, ...]:
    return reply.outputs, reply.parameters, reply.final, reply.model_version, reply.error


@given(
    st.lists(
        st.tuples(st.lists(CONTENTS, max_size=3), st.booleans(), st.sampled_from([1, 2]), st.sampled_from(["", "bad"])),
        min_size=1,
        max_size=6,
    )
)
def test_a_stream_of_any_messages_reads_as_each_message_alone(
    stream: list[tuple[list[bytes], bool, int, str]],
) -> None:
    reader = StreamReplyReader()

    for contents, final, shape, error in stream:
        data = message(*contents, final=final, shape=shape, error=error)
        assert said(reader.parse(data)) == said(parse_stream_reply(data))


@given(st.lists(CONTENTS, min_size=1, max_size=3), st.data())
def test_a_message_cut_off_or_changed_anywhere_reads_as_it_does_alone(
    contents: list[bytes], draw: st.DataObject
) -> None:
    reader = StreamReplyReader()
    whole = message(*contents)
    for _ in range(2):  # the second is learnt from
        reader.parse(whole)
    at = draw.draw(st.integers(0, len(whole) - 1))
    cut = draw.draw(st.sampled_from([whole[:at], whole[:at] + draw.draw(st.binary(max_size=3)) + whole[at + 1 :]]))

    def outcome(parse: object) -> object:
        assert callable(parse)
        try:
            return said(parse(cut))
        except ProtocolViolation as exc:
            return exc.message

    assert outcome(reader.parse) == outcome(parse_stream_reply)


def test_typed_contents_are_read_in_full_every_time() -> None:
    made = service_pb2.ModelStreamInferResponse()
    output = made.infer_response.outputs.add(name="X", datatype="INT32", shape=[1])
    reader = StreamReplyReader()

    for value in (1, 2):
        output.contents.int_contents[:] = [value]
        reply = reader.parse(made.SerializeToString())
        assert reply.outputs["X"].data == bytes([value, 0, 0, 0])


def test_a_message_that_is_no_message_is_a_violation_in_the_middle_of_a_stream() -> None:
    reader = StreamReplyReader()
    for text in (b"a", b"b", b"c"):
        reader.parse(message(text))

    with pytest.raises(ProtocolViolation, match="does not parse"):
        reader.parse(b"\xff\xff\xff\xff")


def test_messages_that_differ_in_their_contents_only_are_parsed_in_full_but_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = StreamReplyReader()
    for text in (b"a", b"b"):
        reader.parse(message(text, b"1"))

    def in_full(data: bytes) -> NoReturn:
        raise AssertionError("this one needs no parsing")

    monkeypatch.setattr(stream_reply, "stream_message", in_full)
    read = [reader.parse(message(text, count)).outputs for text, count in ((b"c", b"1"), (b"d" * 300, b"22"))]

    assert [[tensor.data for tensor in outputs.values()] for outputs in read] == [[b"c", b"1"], [b"d" * 300, b"22"]]

"""The stream reader's short way must say exactly what the full parse says."""

from __future__ import annotations

from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from adapter_api import ProtocolViolation
from triton_adapter.schema import RawTensor, Reply, Run
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


TEXTS = st.one_of(
    st.text(max_size=12), st.text(min_size=100, max_size=300), st.sampled_from(["", "tok", "\u00e9", "\x00"])
)
STREAMS = st.lists(
    st.tuples(
        TEXTS,
        st.sampled_from([(), (b"1",), (b"2", b"None")]),
        st.booleans(),
        st.sampled_from(["", "bad"]),
        st.sampled_from(["j", "k"]),
    ),
    max_size=24,
)


def framed(*texts: bytes) -> bytes:
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def spelt_out(found: list[Reply | Run]) -> list[tuple[object, ...]]:
    """Return what runs stand for as the replies that they are."""
    replies: list[Reply] = []
    for each in found:
        if isinstance(each, Reply):
            replies.append(each)
            continue
        like = replies[-1]
        assert like.final is not True
        assert like.error is None
        name, first = next(iter(like.outputs.items()))
        for text in each.texts:
            outputs = {**like.outputs, name: RawTensor(first.datatype, first.shape, framed(text))}
            replies.append(Reply(outputs, like.parameters, like.final, like.model_version))
    return [said(reply) for reply in replies]


@given(STREAMS, st.data())
def test_bursts_say_what_their_messages_say_one_by_one_however_they_are_cut(
    stream: list[tuple[str, tuple[bytes, ...], bool, str, str]], draw: st.DataObject
) -> None:
    reader = StreamReplyReader()
    messages = [
        message(
            framed(text.encode()),
            *others,
            final=final and not number % 5,
            id=id,
            error=error if number % 7 == 6 else "",
        )
        for number, (text, others, final, error, id) in enumerate(stream)
    ]
    found: list[Reply | Run] = []
    left = messages
    while left:
        size = draw.draw(st.integers(1, len(left)))
        found += reader.parse_all(left[:size])
        left = left[size:]

    assert spelt_out(found) == [said(parse_stream_reply(data)) for data in messages]


@given(st.lists(st.binary(max_size=9), min_size=4, max_size=12))
def test_contents_that_are_no_text_are_never_taken_for_one(contents: list[bytes]) -> None:
    reader = StreamReplyReader()
    messages = [message(content) for content in contents]

    assert spelt_out(reader.parse_all(messages)) == [said(parse_stream_reply(data)) for data in messages]


@given(st.integers(0, 400), st.binary(min_size=1, max_size=2))
def test_a_byte_changed_anywhere_in_a_burst_changes_what_is_read(at: int, by: bytes) -> None:
    plain = message(framed(b"0123456789"), b"1")
    at %= len(plain)
    changed = plain[:at] + by + plain[at + len(by) :]
    reader = StreamReplyReader()
    reader.parse_all([plain] * 4)

    def outcome(parse: object) -> object:
        assert callable(parse)
        try:
            return parse()
        except ProtocolViolation as exc:
            return exc.message

    like = reader.parse(plain)
    assert outcome(lambda: spelt_out([like, *reader.parse_all([changed])])[1:]) == outcome(
        lambda: [said(parse_stream_reply(changed))]
    )


def test_a_burst_of_tokens_is_one_run_once_their_lengths_are_known() -> None:
    reader = StreamReplyReader()
    reader.parse_all([message(framed(b"abc"), b"1") for _ in range(3)])

    found = reader.parse_all([message(framed(text), b"1") for text in (b"xyz", b"uvw", b"rst")])

    assert [each.texts for each in found if isinstance(each, Run)] == [[b"xyz", b"uvw", b"rst"]]
    assert len(found) == 1


def test_what_is_kept_of_lengths_is_bounded() -> None:
    reader = StreamReplyReader()
    reader.parse_all([message(framed(b"x" * size)) for size in range(1000)])

    assert len(reader._same) <= stream_reply._MOST_LENGTHS

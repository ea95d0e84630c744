"""What is learnt from the first message of one stream must make no other stream's say anything else."""

from __future__ import annotations

from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from adapter_api import ProtocolViolation
from triton_adapter.schema import Reply
from triton_adapter.wire import first_reply
from triton_adapter.wire.first_reply import FirstReplies, FirstReplyReader
from triton_adapter.wire.reply import parse_stream_reply

CONTENTS = st.one_of(st.binary(max_size=12), st.binary(min_size=120, max_size=300), st.just(b"2\0" * 70))
IDS = st.sampled_from(["", "j", "k", "x" * 200, "\x1a\x01j", "ü"])


def message(
    *contents: bytes,
    final: bool = True,
    id: str = "j",
    shape: int = 1,
    error: str = "",
    model: str = "m",
    out: str = "o",
) -> bytes:
    made = service_pb2.ModelStreamInferResponse(error_message=error)
    response = made.infer_response
    response.model_name, response.model_version, response.id = "m", "3", id
    response.parameters["triton_final_response"].bool_param = final
    for index, content in enumerate(contents):
        response.outputs.add(name=f"{out}{index}", datatype="BYTES", shape=[shape])
        response.raw_output_contents.append(content)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def said(reply: Reply) -> tuple[object, ...]:
    return reply.outputs, reply.parameters, reply.final, reply.model_version, reply.error


@given(
    st.lists(
        st.tuples(
            st.lists(CONTENTS, max_size=3), st.booleans(), st.sampled_from([1, 2]), st.sampled_from(["", "bad"]),
            IDS, IDS, st.sampled_from(["o", "\x1a\x01j"]),
        ),
        min_size=1,
        max_size=8,
    )
)  # fmt: skip
def test_first_messages_of_any_streams_read_as_each_alone(
    streams: list[tuple[list[bytes], bool, int, str, str, str, str]],
) -> None:
    reader = FirstReplyReader()

    for contents, final, shape, error, id, asked, out in streams:
        data = message(*contents, final=final, shape=shape, error=error, id=id, out=out)
        assert said(reader.parse(data, asked)) == said(parse_stream_reply(data))


@given(st.lists(CONTENTS, min_size=1, max_size=3), st.sampled_from(["", "j"]), st.data())
def test_a_message_cut_off_or_changed_anywhere_reads_as_it_does_alone(
    contents: list[bytes], id: str, draw: st.DataObject
) -> None:
    reader = FirstReplyReader()
    whole = message(*contents, id=id)
    reader.parse(whole, "j")
    at = draw.draw(st.integers(0, len(whole) - 1))
    cut = draw.draw(st.sampled_from([whole[:at], whole[:at] + draw.draw(st.binary(max_size=3)) + whole[at + 1 :]]))

    def outcome(parse: object, *more: str) -> object:
        assert callable(parse)
        try:
            return said(parse(cut, *more))
        except ProtocolViolation as exc:
            return exc.message

    assert outcome(reader.parse, "j") == outcome(parse_stream_reply)


@pytest.mark.parametrize("ids", [("a", "b"), ("a", "b" * 200), ("", "")])
def test_the_second_stream_of_a_model_needs_no_full_parse(
    monkeypatch: pytest.MonkeyPatch, ids: tuple[str, str]
) -> None:
    readers = FirstReplies()
    readers.of("m").parse(message(b"\1\0\0\0a", id=ids[0]), ids[0])

    def never(data: bytes) -> NoReturn:
        raise AssertionError("parsed in full")

    monkeypatch.setattr(first_reply, "stream_message", never)
    second = readers.of("m").parse(message(b"\3\0\0\0bcd", id=ids[1]), ids[1])

    assert (second.outputs["o0"].data, second.final) == (b"\3\0\0\0bcd", True)
    with pytest.raises(AssertionError, match="parsed in full"):
        readers.of("other").parse(message(b"\1\0\0\0a"), "j")


def test_messages_that_are_all_different_are_not_learnt_from_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[bytes] = []
    monkeypatch.setattr(FirstReplyReader, "_learn", lambda self, data, *more: learnt.append(data))
    reader = FirstReplyReader()

    for number in range(200):
        reader.parse(message(b"\1\0\0\0a", out=f"o{number}"), "j")

    assert 0 < len(learnt) < 10


def test_of_many_models_the_oldest_are_forgotten() -> None:
    readers = FirstReplies()

    for number in range(1000):
        readers.of(f"m{number}")

    assert len(readers._readers) <= 64

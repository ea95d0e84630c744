"""Frames, split out of a byte stream however it was cut."""

from __future__ import annotations

import pytest

from triton_adapter.testing.frames import (
    PREFACE,
    ErrorCode,
    Frame,
    FrameSplitter,
    FrameType,
    MessageCounter,
    go_away,
    rst_stream,
)


def data_frame(stream_id: int, payload: bytes, *, end: bool = False) -> Frame:
    header = len(payload).to_bytes(3, "big") + bytes([FrameType.DATA, int(end)]) + stream_id.to_bytes(4, "big")
    return Frame(header + payload)


def grpc_message(size: int) -> bytes:
    return b"\0" + size.to_bytes(4, "big") + b"x" * size


@pytest.mark.parametrize("cut", range(1, 60))
def test_frames_come_out_whole_wherever_the_bytes_were_cut(cut: int) -> None:
    frames = [rst_stream(5, ErrorCode.CANCEL), go_away(7, ErrorCode.NO_ERROR, b"bye"), data_frame(1, b"abc")]
    wire = PREFACE + b"".join(frame.wire for frame in frames)
    splitter = FrameSplitter(len(PREFACE))

    parts = [splitter.feed(part) for part in (wire[:cut], wire[cut:])]

    assert b"".join(preface for preface, _ in parts) == PREFACE
    assert [frame for _, found in parts for frame in found] == frames


def test_our_own_frames_read_back() -> None:
    reset, bye = rst_stream(5, ErrorCode.REFUSED_STREAM), go_away(7, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")

    assert (reset.kind, reset.stream_id, bytes(reset.payload)) == (FrameType.RST_STREAM, 5, b"\0\0\0\x07")
    assert reset.ends_stream
    assert (bye.kind, bye.stream_id) == (FrameType.GOAWAY, 0)
    assert bytes(bye.payload) == b"\0\0\0\x07\0\0\0\x0btoo_many_pings"


def test_messages_are_counted_across_frames_and_streams() -> None:
    counter = MessageCounter()
    message = grpc_message(10)

    counter.feed(data_frame(1, message[:3]))
    counter.feed(data_frame(3, message + message))
    counts = [counter.count]
    counter.feed(data_frame(1, message[3:] + message[:9]))
    counts.append(counter.count)

    assert counts == [2, 3]


def test_the_rest_of_a_message_is_forgotten_with_its_stream() -> None:
    counter = MessageCounter()

    counter.feed(data_frame(1, grpc_message(10)[:9], end=True))
    counter.feed(data_frame(1, grpc_message(0)))

    assert counter.count == 1

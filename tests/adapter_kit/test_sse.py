"""Server-sent events by the rules of their standard, however their bytes are cut."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_api import ProtocolViolation
from adapter_kit.sse import SseEvent, SseReader

Told = tuple[str, str, str]


def told(*parts: bytes) -> list[Told]:
    reader = SseReader()
    return [(event.event, event.text, event.id) for part in parts for event in reader.feed(part)]


def by_the_standard(stream: bytes) -> list[Told]:
    """Follow the standard's own words, line by line, with the whole stream at hand."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    events, data, kind, last_id = [], "", "", ""
    for line in text.split("\n")[:-1]:
        if not line:
            if data:
                events.append((kind or "message", data.removesuffix("\n"), last_id))
            data, kind = "", ""
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data += value + "\n"
            elif name == "event":
                kind = value
            elif name == "id" and "\0" not in value:
                last_id = value
    return events


STREAM = (
    "\ufeff: hello\n\ndata: {\"a\": \"ü€😀\"}\n\nevent: error\r\nid: 7\r\ndata: one\r\ndata:two\r\n\r\n"
    "data\n\ndata\ndata\n\nretry: 1500\n\n"
    "id\ndata:  spaced\r\rdata: x\n: in between\ndata\n\nevent: unused\n\ndata: [DONE]\n\n\n\ndata: cut"
).encode()  # fmt: skip


@pytest.mark.spec("ORCH-3068-020")
def test_a_stream_is_read_as_the_standard_has_it() -> None:
    assert told(STREAM) == by_the_standard(STREAM) == [
        ("message", '{"a": "ü€😀"}', ""),
        ("error", "one\ntwo", "7"),
        ("message", "", "7"),
        ("message", "\n", "7"),
        ("message", " spaced", ""),
        ("message", "x\n", ""),
        ("message", "[DONE]", ""),
    ]  # fmt: skip


@pytest.mark.spec("ORCH-3068-019")
def test_events_are_the_same_wherever_the_bytes_are_cut() -> None:
    whole = told(STREAM)

    assert told(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == whole
    for first in range(len(STREAM)):
        for second in range(first, min(first + 4, len(STREAM))):
            assert told(STREAM[:first], STREAM[first:second], STREAM[second:]) == whole


LINES = st.sampled_from([
    b"data: x", b"data:", b"data", b"data:  y", b"event: e", b"event", b"id: 1", b"id", b"id: \0", b": c", b"", b"",
    b"", b"retry: 5", b"retry: x", b"other: z", b"data: \xff\xfe", "data: ü€".encode(),
    b"\xef\xbb\xbfdata: m", b" data: s",
])  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])


@pytest.mark.spec("ORCH-3068-019", "ORCH-3068-020")
@given(st.lists(st.tuples(LINES, ENDS), max_size=12), st.lists(st.integers(0, 150), max_size=6))
def test_any_lines_cut_anywhere_are_read_by_the_standard(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in lines)
    at = [0, *sorted(cuts), len(stream)]

    assert told(*(stream[begin:end] for begin, end in pairwise(at))) == by_the_standard(stream)


@pytest.mark.long
@pytest.mark.spec("ORCH-3068-019", "ORCH-3068-020")
def test_a_hundred_thousand_random_streams_are_read_by_the_standard() -> None:
    chance = random.Random(3068)
    alphabet = [
        b"data",
        b"event",
        b"id",
        b":",
        b": ",
        b"\n",
        b"\r",
        b"\r\n",
        b"x",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\xbc",
    ]
    for _ in range(100_000):
        parts = [chance.choice(alphabet) for _ in range(chance.randrange(40))]
        stream = b"".join(parts)
        assert told(*parts) == told(stream) == by_the_standard(stream), parts


@pytest.mark.spec("ORCH-3068-020")
def test_when_to_come_back_and_the_last_id_are_remembered_and_what_is_unfinished_is_told() -> None:
    reader = SseReader()
    reader.feed(b"id: 9\nretry: 250\n\nretry: soon\n\n: a comment")
    assert (reader.last_event_id, reader.retry_ms, reader.unfinished) == ("9", 250, False)

    reader.feed(b"\ndata: begun")
    assert reader.unfinished
    assert reader.feed(b"\n\n") == [SseEvent(b"begun", "message", "9")]
    assert not reader.unfinished


@pytest.mark.spec("ORCH-3068-021")
@pytest.mark.parametrize(
    "piece", [b"data: " + b"x" * 60_000, b"x" * 60_000, b"data: x\n" * 8000, b": " + b"x" * 60_000]
)
def test_an_event_or_a_line_without_an_end_is_given_up_after_what_one_may_have(piece: bytes) -> None:
    reader, fed = SseReader(max_event_bytes=1_000_000), 0

    def feed_for_ever() -> None:
        nonlocal fed
        while fed < 100_000_000:
            reader.feed(piece)
            fed += len(piece)

    tracemalloc.start()
    with pytest.raises(ProtocolViolation, match="larger than 1000000 bytes"):
        feed_for_ever()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert fed <= 1_000_000
    assert peak < 4_000_000
    with pytest.raises(ProtocolViolation):
        SseReader(max_event_bytes=10).feed(b"data: a longer one\n\n")


@pytest.mark.spec("ORCH-3068-021")
def test_comments_that_come_for_days_are_not_kept() -> None:
    reader = SseReader(max_event_bytes=1000)
    for _ in range(1000):
        assert reader.feed(b": still here\n") == []

    assert reader.feed(b"data: x\n\n") == [SseEvent(b"x")]

"""The bytes of a stream's messages as `Reply`s, fast where only the contents change from one to the next."""

from __future__ import annotations

from collections.abc import Sequence

from triton_adapter.schema import RawTensor, Reply, Run
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.reply import stream_message, stream_reply
from triton_adapter.wire.varint import read_varint, varint

_REPLY_TAG = 0x12  # ModelStreamInferResponse.infer_response: field 2, length-delimited
_RAW_TAG = 0x32  # ModelInferResponse.raw_output_contents: field 6, length-delimited
_RAW_TAG_BYTE = bytes((_RAW_TAG,))
_TEXT_PREFIX = 4
"""Bytes of the length in front of a BYTES element."""
_MOST_LENGTHS = 128
"""Of messages, whose like is known by their lengths."""
# Shared, and never changed: most readers have but one message to read.
_NOTHING: dict[str, RawTensor] = {}
_NO_LENGTH: dict[int, tuple[bytes, int, bytes, int]] = {}


class StreamReplyReader:
    """Parses the messages of one stream, in order; `begun` says that somebody else has read the first.

    A token's message is a head (names, shapes, parameters) and the raw contents of its outputs. While the head is byte
    for byte that of the message before, its meaning is known and only the contents are read, which takes a fifth of the
    time; and while all is the same but the text of the first output, only that. Any other message is parsed in full.
    """

    __slots__ = ("_begun", "_first", "_head", "_known", "_others", "_rest", "_rest_data", "_same")

    def __init__(self, *, begun: bool = False) -> None:
        self._begun = begun
        self._head = b""
        """All of a message between its length and the length of the first output's contents."""
        self._first: tuple[str, str, tuple[int, ...]] = ("", "", ())
        self._others: Sequence[tuple[str, str, tuple[int, ...]]] = ()
        self._rest_data = b""
        self._rest = _NOTHING
        """What came after the first output in the last message, and what it means."""
        self._known: Reply | None = None
        self._same = _NO_LENGTH
        """By the length of a message: what it begins with, up to the first output's text, and ends with, after that, if
        it is else the same as the last reply."""

    def parse_all(self, messages: Sequence[bytes | memoryview]) -> list[Reply | Run]:
        """Return what messages say that came together; raises as `parse` does."""
        found: list[Reply | Run] = []
        same = self._same
        texts: list[bytes] | None = None
        for data in messages:
            # A token: one comparison against what its length makes of the message before.
            known = same.get(len(data))
            if known is not None and isinstance(data, bytes) and data.startswith(known[0]) and data.endswith(known[2]):
                if texts is None:
                    texts = []
                    found.append(Run(texts))
                texts.append(data[known[1] : known[3]])
            else:
                texts = None
                found.append(self.parse(bytes(data)))
                same = self._same
        return found

    def parse(self, data: bytes) -> Reply:
        """Return the reply in a ModelStreamInferResponse; raises `ProtocolViolation` when it is none."""
        known, end = self._known, len(data)
        if known is None or end < 3 or data[0] != _REPLY_TAG:
            return self._parse_in_full(data)
        # Lengths of one and of two bytes are read on the spot: those of a token are no longer.
        size, at = data[1], 2
        if size > 0x7F:
            size, at = (size & 0x7F | data[2] << 7, 3) if data[2] < 0x80 else read_varint(data, 1)
        if at + size != end or not data.startswith(self._head, at):
            return self._parse_in_full(data)
        at += len(self._head)
        if at >= end:
            return self._parse_in_full(data)
        size, at = (data[at], at + 1) if data[at] < 0x80 else read_varint(data, at)
        stop = at + size
        rest = data[stop:]
        if stop > end or (rest != self._rest_data and not self._learn_rest(rest)):
            return self._parse_in_full(data)
        name, datatype, shape = self._first
        outputs = {name: RawTensor(datatype, shape, data[at:stop])}
        if datatype == "BYTES" and known.final is not True and len(self._same) < _MOST_LENGTHS:
            text = at + _TEXT_PREFIX
            if text <= stop and int.from_bytes(data[at:text], "little") == stop - text:
                if self._same is _NO_LENGTH:
                    self._same = {}
                self._same[end] = data[:text], text, rest, stop
        if rest:
            outputs.update(self._rest)
        return Reply(outputs, known.parameters, known.final, known.model_version)

    def _parse_in_full(self, data: bytes) -> Reply:
        message = stream_message(data)
        reply = stream_reply(message)
        # Not from the first: many tasks have but one message, and to learn from it costs more than to read it.
        if self._begun:
            self._learn(data, message, reply)
        self._begun = True
        return reply

    def _learn_rest(self, data: bytes) -> bool:
        """Read the outputs after the first. They seldom change: counts of one, a finish reason that is none yet."""
        at, end = 0, len(data)
        outputs: dict[str, RawTensor] = {}
        for name, datatype, shape in self._others:
            if at + 2 > end or data[at] != _RAW_TAG:
                return False
            size, at = read_varint(data, at + 1)
            outputs[name] = RawTensor(datatype, shape, data[at : at + size])
            at += size
        if at != end:
            return False
        self._same = _NO_LENGTH
        self._rest_data, self._rest = data, outputs
        return True

    def _learn(self, data: bytes, message: v2.ModelStreamInferResponse, reply: Reply) -> None:
        """Remember the head of a message that ends with the contents of all its outputs, and nothing else."""
        self._known = None
        self._same = _NO_LENGTH
        raw, outputs = message.infer_response.raw_output_contents, message.infer_response.outputs
        if message.error_message or not raw or len(raw) != len(reply.outputs) or data[0] != _REPLY_TAG:
            return
        tail = b"".join([part for content in raw for part in (_RAW_TAG_BYTE, varint(len(content)), content)])
        size, start = read_varint(data, 1)
        if start + size == len(data) and size > len(tail) and data.endswith(tail):
            self._head = data[start : len(data) - len(tail)] + _RAW_TAG_BYTE
            self._first, *self._others = [(t.name, t.datatype, tuple(t.shape)) for t in outputs]
            self._rest_data = tail[1 + len(varint(len(raw[0]))) + len(raw[0]) :]
            self._rest = {t.name: reply.outputs[t.name] for t in outputs[1:]}
            self._known = reply

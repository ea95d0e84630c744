"""The first message of a stream as a `Reply`, fast where it is like that of the stream before, of the same model.

Many tasks are answered by one message, which no stream can have learnt from. What it says beside its contents is the
same from task to task but for the request's id, which Triton repeats.
"""

from __future__ import annotations

from collections.abc import Sequence

from triton_adapter.schema import RawTensor, Reply
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.reply import stream_message, stream_reply
from triton_adapter.wire.varint import read_varint, varint

_REPLY_TAG = 0x12  # ModelStreamInferResponse.infer_response: field 2, length-delimited
_RAW_TAG = 0x32  # ModelInferResponse.raw_output_contents: field 6, length-delimited
_RAW_TAG_BYTE = bytes((_RAW_TAG,))
_BEFORE_THE_ID = (0x0A, 0x12)  # ModelInferResponse.model_name and model_version: fields 1 and 2
_ID_TAG = b"\x1a"  # ModelInferResponse.id: field 3, length-delimited
_MODELS = 64
_IN_VAIN = 4
"""So often a model's message is learnt from that is not like the one before; then every so many."""
_NOW_AND_THEN = 64


class FirstReplies:
    """Reads the first messages of the streams of many models; what it learns of one bears on that one only."""

    __slots__ = ("_readers",)

    def __init__(self) -> None:
        self._readers: dict[str, FirstReplyReader] = {}

    def of(self, model: str) -> FirstReplyReader:
        """Return the reader for a model."""
        reader = self._readers.get(model)
        if reader is None:
            if len(self._readers) >= _MODELS:
                del self._readers[next(iter(self._readers))]
            reader = self._readers[model] = FirstReplyReader()
        return reader


class FirstReplyReader:
    """Parses one message of each of many streams of a model.

    A message that is, byte for byte, like the last that was learnt from, but for the id and the contents of its
    outputs, says what that one said. Any other message is parsed in full.
    """

    __slots__ = ("_after", "_before", "_id_said", "_known", "_missed", "_specs")

    def __init__(self) -> None:
        self._known: Reply | None = None
        self._before = self._after = b""
        """All between the message's length and the id, and between that and the contents."""
        self._id_said = False
        self._specs: Sequence[tuple[str, str, tuple[int, ...]]] = ()
        self._missed = 0
        """Messages in a row that were parsed in full."""

    def parse(self, data: bytes, request_id: str) -> Reply:
        """Return the reply in a ModelStreamInferResponse to a request; raises `ProtocolViolation` when it is none."""
        outputs = self._outputs(data, request_id)
        if outputs is None:
            return self._parse_in_full(data, request_id)
        known = self._known
        assert known is not None
        self._missed = 0
        return Reply(outputs, known.parameters, known.final, known.model_version)

    def _outputs(self, data: bytes, request_id: str) -> dict[str, RawTensor] | None:
        """Return what the message holds, if all else of it is known."""
        end = len(data)
        if self._known is None or end < 3 or data[0] != _REPLY_TAG:
            return None
        size, at = (data[1], 2) if data[1] < 0x80 else read_varint(data, 1)
        before, after = self._before, self._after
        if at + size != end or not data.startswith(before, at):
            return None
        at += len(before)
        if self._id_said:
            field = _id_field(request_id)
            if not data.startswith(field, at):
                return None
            at += len(field)
            if not data.startswith(after, at):
                return None
            at += len(after)
        outputs: dict[str, RawTensor] = {}
        for name, datatype, shape in self._specs:
            if at + 2 > end or data[at] != _RAW_TAG:
                return None
            size = data[at + 1]
            size, at = (size, at + 2) if size < 0x80 else read_varint(data, at + 1)
            stop = at + size
            outputs[name] = RawTensor(datatype, shape, data[at:stop])
            at = stop
        return outputs if at == end else None

    def _parse_in_full(self, data: bytes, request_id: str) -> Reply:
        message = stream_message(data)
        reply = stream_reply(message)
        self._missed += 1
        if self._missed <= _IN_VAIN or self._missed % _NOW_AND_THEN == 0:
            self._learn(data, message, reply, request_id)
        return reply

    def _learn(self, data: bytes, message: v2.ModelStreamInferResponse, reply: Reply, request_id: str) -> None:
        """Remember all but the id and the contents of a message that ends with those of all its outputs."""
        self._known = None
        response = message.infer_response
        raw, outputs = response.raw_output_contents, response.outputs
        if message.error_message or not raw or len(raw) != len(reply.outputs) or data[0] != _REPLY_TAG:
            return
        tail = b"".join([part for content in raw for part in (_RAW_TAG_BYTE, varint(len(content)), content)])
        size, start = read_varint(data, 1)
        if start + size != len(data) or size <= len(tail) or not data.endswith(tail):
            return
        head = data[start : len(data) - len(tail)]
        self._id_said = bool(response.id)
        if self._id_said:
            at, field = _start_of_id(head), _id_field(request_id)
            if not head.startswith(field, at):
                return  # it is another's, or none
            head, self._after = head[:at], head[at + len(field) :]
        self._before = head
        self._specs = [(t.name, t.datatype, tuple(t.shape)) for t in outputs]
        self._known = reply


def _id_field(request_id: str) -> bytes:
    name = request_id.encode()
    return _ID_TAG + varint(len(name)) + name


def _start_of_id(head: bytes) -> int:
    """Return where the field after the model's name and version begins."""
    at = 0
    while at < len(head) and head[at] in _BEFORE_THE_ID:
        size, at = read_varint(head, at + 1)
        at += size
    return at

"""The bytes of a stream's messages as `Reply`s, fast where only the contents change from one to the next."""

from __future__ import annotations

from triton_adapter.schema import RawTensor, Reply
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.reply import stream_message, stream_reply
from triton_adapter.wire.varint import read_varint, varint

_REPLY_TAG = 0x12  # ModelStreamInferResponse.infer_response: field 2, length-delimited
_RAW_TAG = 0x32  # ModelInferResponse.raw_output_contents: field 6, length-delimited
_RAW_TAG_BYTE = bytes((_RAW_TAG,))
# What a named tuple's own `__new__` does, at half its price.
_new_tuple = tuple.__new__


class StreamReplyReader:
    """Parses the messages of one stream, in order.

    A token's message is a head (names, shapes, parameters) and the raw contents of its outputs. While the head is byte
    for byte that of the message before, its meaning is known and only the contents are read, which takes a fifth of the
    time. Any other message is parsed in full.
    """

    __slots__ = ("_head", "_known", "_rest", "_rest_data", "_tensors")

    def __init__(self) -> None:
        self._head = b""
        self._tensors: list[tuple[str, str, tuple[int, ...]]] = []
        self._rest_data = b""
        self._rest: dict[str, RawTensor] = {}
        """What came after the first output in the last message, and what it means."""
        self._known: Reply | None = None

    def parse(self, data: bytes) -> Reply:
        """Return the reply in a ModelStreamInferResponse; raises `ProtocolViolation` when it is none."""
        known = self._known
        if known is not None:
            outputs = self._contents(data)
            if outputs is not None:
                return Reply(outputs, parameters=known.parameters, final=known.final, model_version=known.model_version)
        message = stream_message(data)
        reply = stream_reply(message)
        self._learn(data, message, reply)
        return reply

    def _contents(self, data: bytes) -> dict[str, RawTensor] | None:
        """Return the outputs of a message with the known head; `None` when it is not exactly that."""
        end = len(data)
        if end < 2 or data[0] != _REPLY_TAG:
            return None
        size, at = data[1], 2
        if size > 0x7F:
            size, at = read_varint(data, 1)
        if at + size != end or not data.startswith(self._head, at):
            return None
        at += len(self._head)
        if at + 2 > end or data[at] != _RAW_TAG:
            return None
        name, datatype, shape = self._tensors[0]
        size, at = (data[at + 1], at + 2) if data[at + 1] < 0x80 else read_varint(data, at + 1)
        first = _new_tuple(RawTensor, (datatype, shape, data[at : at + size]))
        at += size
        if data[at:] != self._rest_data:
            rest = self._others(data, at)
            if rest is None:
                return None
            self._rest_data, self._rest = data[at:], rest
        elif at > end:
            return None
        return {name: first, **self._rest}

    def _others(self, data: bytes, at: int) -> dict[str, RawTensor] | None:
        """Return the outputs after the first. They seldom change: counts of one, a finish reason that is none yet."""
        end = len(data)
        outputs: dict[str, RawTensor] = {}
        for name, datatype, shape in self._tensors[1:]:
            if at + 2 > end or data[at] != _RAW_TAG:
                return None
            size, at = read_varint(data, at + 1)
            outputs[name] = RawTensor(datatype, shape, data[at : at + size])
            at += size
        return outputs if at == end else None

    def _learn(self, data: bytes, message: v2.ModelStreamInferResponse, reply: Reply) -> None:
        """Remember the head of a message that ends with the contents of all its outputs, and nothing else."""
        self._known = None
        raw, outputs = message.infer_response.raw_output_contents, message.infer_response.outputs
        if message.error_message or not raw or len(raw) != len(reply.outputs) or data[0] != _REPLY_TAG:
            return
        tail = b"".join([part for content in raw for part in (_RAW_TAG_BYTE, varint(len(content)), content)])
        size, start = read_varint(data, 1)
        if start + size == len(data) and size > len(tail) and data.endswith(tail):
            self._head = data[start : len(data) - len(tail)]
            self._tensors = [(t.name, t.datatype, tuple(t.shape)) for t in outputs]
            self._rest_data = tail[1 + len(varint(len(raw[0]))) + len(raw[0]) :]
            self._rest = {t.name: reply.outputs[t.name] for t in outputs[1:]}
            self._known = reply

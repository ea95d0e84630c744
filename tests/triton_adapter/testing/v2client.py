"""The v2 protocol by hand: plain grpc with tritonclient's messages, so that nothing rests on our own wire code."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
EMPTY_FINAL = {"triton_enable_empty_final_response": True}
WAIT_S = 10.0
# A connection of its own each: one that was refused would hold up the next to the same address.
_OPTIONS = [
    ("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1),
]  # fmt: skip


class Status(NamedTuple):
    """How a call ended, if not well."""

    code: str
    text: str


def bytes_of(*elements: bytes | str) -> bytes:
    encoded = [element.encode() if isinstance(element, str) else element for element in elements]
    return b"".join(struct.pack("<I", len(element)) + element for element in encoded)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def infer_request(
    model: str,
    inputs: Iterable[tuple[str, str, list[int], bytes | None]] = (),
    *,
    parameters: Mapping[str, Any] | None = None,
    outputs: Iterable[str] = (),
    request_id: str = "r1",
    version: str = "",
) -> Any:
    """Return a ModelInferRequest; an input's data of `None` is left out."""
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    for name, datatype, shape, data in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        if data is not None:
            request.raw_input_contents.append(data)
    for key, value in (parameters or {}).items():
        _set(request.parameters[key], value)
    for output in outputs:
        request.outputs.add(name=output)
    return request


def text_request(model: str, prompt: str = "Hi", **kwargs: Any) -> Any:
    return infer_request(model, [("text_input", "BYTES", [1], bytes_of(prompt))], **kwargs)


def _set(parameter: Any, value: Any) -> None:
    if isinstance(value, tuple):
        setattr(parameter, *value)
    elif isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


class V2Client:
    """Blocking calls; every one has a deadline."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def call(self, name: str, request: Any, *, metadata: Mapping[str, str] | None = None) -> Any:
        """Return the response, or how the call ended."""
        method = self._channel.unary_unary(
            SERVICE + name, type(request).SerializeToString, getattr(pb, _response_of(name)).FromString
        )
        try:
            return method(request, timeout=WAIT_S, metadata=tuple((metadata or {}).items()))
        except grpc.RpcError as error:
            return Status(error.code().name, error.details())

    def infer(self, request: Any) -> Any:
        return self.call("ModelInfer", request)

    def open_stream(self, *requests: Any, metadata: Mapping[str, str] | None = None, timeout_s: float = WAIT_S) -> Any:
        """Return the running call: iterable, with `cancel()`."""
        return self.open_stream_of(iter(requests), metadata=metadata, timeout_s=timeout_s)

    def open_stream_of(
        self, requests: Iterator[Any], *, metadata: Mapping[str, str] | None = None, timeout_s: float = WAIT_S
    ) -> Any:
        """Do the same with requests that come when they come."""
        method = self._channel.stream_stream(
            SERVICE + "ModelStreamInfer",
            pb.ModelInferRequest.SerializeToString,
            pb.ModelStreamInferResponse.FromString,
        )
        return method(requests, timeout=timeout_s, metadata=tuple((metadata or {}).items()))

    def stream(
        self, *requests: Any, metadata: Mapping[str, str] | None = None, timeout_s: float = WAIT_S
    ) -> tuple[list[Any], Status | None]:
        """Return all messages of the stream, and how it ended if not well."""
        messages = []
        try:
            for message in self.open_stream(*requests, metadata=metadata, timeout_s=timeout_s):
                messages.append(message)
        except grpc.RpcError as error:
            return messages, Status(error.code().name, error.details())
        return messages, None


@contextmanager
def connect(address: str, credentials: grpc.ChannelCredentials | None = None) -> Iterator[V2Client]:
    """Connect to `HOST:PORT` or a grpc:// URL of it."""
    target = address.partition("://")[2] or address
    if credentials is None:
        channel = grpc.insecure_channel(target, options=_OPTIONS)
    else:
        channel = grpc.secure_channel(target, credentials, options=_OPTIONS)
    with channel:
        yield V2Client(channel)


def texts_of(messages: Iterable[Any]) -> list[bytes]:
    """Return the first element of `text_output` of each message that has one."""
    found = []
    for message in messages:
        response = message.infer_response
        for index, output in enumerate(response.outputs):
            if output.name == "text_output":
                found.append(response.raw_output_contents[index][4:])
    return found


def is_final(message: Any) -> bool | None:
    parameters = message.infer_response.parameters
    return parameters["triton_final_response"].bool_param if "triton_final_response" in parameters else None


def _response_of(name: str) -> str:
    return "ModelInferResponse" if name == "ModelInfer" else f"{name}Response"

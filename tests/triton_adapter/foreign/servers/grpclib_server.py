"""A server by grpclib that says what `peer.go` says; run by a Python that has it. It prints its port, and ends with its
standard input.
"""

import asyncio
import ssl
import sys

from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server

SERVICE = "/inference.GRPCInferenceService/"


class Raw(CodecBase):
    """Hands bytes through: the messages are few and small enough to write by hand."""

    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def field(number, value):
    size, head = len(value), bytes((number << 3 | 2,))
    while size > 127:
        head, size = head + bytes((size & 127 | 128,)), size >> 7
    return head + bytes((size,)) + value


def model_name(request):
    """Read field 1, which our requests say first."""
    size, at = varint(request, 1)
    return request[at : at + size].decode()


async def live(stream):
    await stream.recv_message()
    await stream.send_message(b"\x08\x01")


async def infer(stream):
    name = model_name(await stream.recv_message())
    if name == "no":
        raise GRPCError(Status.INVALID_ARGUMENT, "not ünderstood\n100%")
    await stream.send_message(field(1, name.encode()))


async def count(stream):
    async for request in stream:
        for number in range(int(model_name(request))):
            await stream.send_message(field(2, field(3, str(number).encode())))
            await asyncio.sleep(0)  # else it hears of no cancel


class Inference:
    """What a service of grpclib is."""

    def __mapping__(self):
        one, many = Cardinality.UNARY_UNARY, Cardinality.STREAM_STREAM
        return {
            SERVICE + "ServerLive": Handler(live, one, bytes, bytes),
            SERVICE + "ModelInfer": Handler(infer, one, bytes, bytes),
            SERVICE + "ModelStreamInfer": Handler(count, many, bytes, bytes),
        }


async def main(chain="", key=""):
    context = None
    if chain:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        context.set_alpn_protocols(["h2"])
    server = Server([Inference()], codec=Raw())
    await server.start("127.0.0.1", 0, ssl=context)
    print(server._server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    await server.wait_closed()


asyncio.run(main(*sys.argv[1:]))

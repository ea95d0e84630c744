"""Our own HTTP/2 and servers that other people wrote: grpc's own, in the clear and over TLS, and nginx between."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import grpc
import grpc.aio
import pytest
import trustme

from adapter_api import InvalidRequest
from triton_adapter import TritonSettings
from triton_adapter.schema import Reply
from triton_adapter.transports.h2.transport import H2Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import MODEL_INFER, MODEL_STREAM_INFER, SERVER_LIVE

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3072-001")]

NGINX = shutil.which("nginx")


class Server(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Says that it lives, echoes inferences, and streams as many replies as the request's name of a model says."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == SERVER_LIVE.path:
            return grpc.unary_unary_rpc_method_handler(self._live)
        if details.method == MODEL_INFER:
            return grpc.unary_unary_rpc_method_handler(self._infer)
        if details.method == MODEL_STREAM_INFER:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return None

    async def _live(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return v2.ServerLiveResponse(live=True).SerializeToString()

    async def _infer(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        asked = v2.ModelInferRequest.FromString(request)
        if asked.model_name == "no":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not ünderstood\n100%")
        answer = v2.ModelInferResponse(model_name=asked.model_name)
        answer.parameters["size"].int64_param = len(request)
        answer.parameters["back"].string_param = asked.parameters["long"].string_param
        return answer.SerializeToString()

    async def _stream(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for request in requests:
            asked = v2.ModelInferRequest.FromString(request)
            for number in range(int(asked.model_name)):
                reply = v2.ModelStreamInferResponse(infer_response=v2.ModelInferResponse(id=str(number)))
                yield reply.SerializeToString()


@contextmanager
def nginx(target: int, folder: Path) -> Iterator[int]:
    """Run nginx in front of a gRPC server; return its port."""
    assert NGINX is not None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        "client_max_body_size 64m; grpc_buffer_size 64k;\n"
        f"server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://127.0.0.1:{target}; }} }} }}\n"
    )
    process = subprocess.Popen(
        [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"], stderr=subprocess.DEVNULL
    )
    try:
        ends = monotonic() + 10
        while True:  # nginx tells of no event
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "nginx ended"
                assert monotonic() < ends, "nginx does not listen"
                sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["plain", "tls", pytest.param("nginx", marks=pytest.mark.long)])
async def transport(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[H2Transport]:
    """A transport to grpc's own server."""
    server = grpc.aio.server(handlers=(Server(),), options=[("grpc.max_receive_message_length", -1)])
    options: dict[str, object] = {}
    if request.param == "tls":
        ca = trustme.CA()
        ours, theirs = ca.issue_cert("client"), ca.issue_cert("127.0.0.1")
        credentials = grpc.ssl_server_credentials(
            [(theirs.private_key_pem.bytes(), theirs.cert_chain_pems[0].bytes())], ca.cert_pem.bytes(), True
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        for name, pem in (("ca", ca.cert_pem), ("cert", ours.cert_chain_pems[0]), ("key", ours.private_key_pem)):
            pem.write_to_path(tmp_path / name)
        options = {"tls": {f"{name}_file": tmp_path / name for name in ("ca", "cert", "key")}}
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    if request.param == "nginx" and NGINX is None:
        pytest.skip("nginx is not installed: apt install nginx")
    between = nginx(port, tmp_path) if request.param == "nginx" else None
    if between is not None:
        port = await asyncio.to_thread(between.__enter__)
    scheme = "grpcs" if options else "grpc"
    transport = H2Transport(TritonSettings.model_validate({"url": f"{scheme}://127.0.0.1:{port}"} | options))
    try:
        yield transport
    finally:
        await transport.aclose()
        if between is not None:
            await asyncio.to_thread(between.__exit__, None, None, None)
        await server.stop(None)


async def count(transport: H2Transport, number: int) -> list[Reply]:
    call = await transport.stream(WireRequest(str(number), ()), timeout_s=20)
    found: list[Reply] = []
    try:
        while replies := await call.read():
            found += replies
    finally:
        call.cancel()
    return found


async def test_calls_of_all_kinds_go_through_at_once(transport: H2Transport) -> None:
    async with asyncio.timeout(60):
        live = transport.control(SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=20)
        streams = [count(transport, number) for number in (0, 1, 500, 3000)]
        infers = [
            transport.infer(WireRequest("m", (), parameters={"long": "x" * size}), timeout_s=20)
            for size in (0, 1000, 20_000, 3_000_000)
        ]
        answered, counted, inferred = await asyncio.gather(live, asyncio.gather(*streams), asyncio.gather(*infers))
    assert answered.live
    assert [len(each) for each in counted] == [0, 1, 500, 3000]
    assert len(inferred) == 4


async def test_a_status_is_told_in_the_servers_words(transport: H2Transport) -> None:
    with pytest.raises(InvalidRequest, match="not ünderstood"):
        await transport.infer(WireRequest("no", ()), timeout_s=20)


async def test_streams_that_are_cancelled_disturb_no_other(transport: H2Transport) -> None:
    async def leave() -> None:
        call = await transport.stream(WireRequest("100000", ()), timeout_s=20)
        await call.read()
        call.cancel()

    async with asyncio.timeout(60):
        whole, _ = await asyncio.gather(count(transport, 2000), asyncio.gather(*(leave() for _ in range(40))))
    assert len(whole) == 2000

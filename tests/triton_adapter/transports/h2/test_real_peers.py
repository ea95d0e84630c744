"""Our own HTTP/2 and what others wrote: servers of grpc in Python and Go, in the clear and over TLS, proxies."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
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
def running(command: Sequence[str | Path], port: int) -> Iterator[int]:
    """Run a server until the block ends; enter it once something listens on its port."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ends = monotonic() + 10
        while True:  # none of them tells when it listens
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, f"{command[0]} ended"
                assert monotonic() < ends, f"{command[0]} does not listen"
                sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def nginx(program: str, target: int, folder: Path) -> AbstractContextManager[int]:
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        "client_max_body_size 64m; grpc_buffer_size 64k;\n"
        f"server {{ listen 127.0.0.1:{port} http2; location / {{ grpc_pass grpc://127.0.0.1:{target}; }} }} }}\n"
    )
    return running((program, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"), port)


def haproxy(program: str, target: int, folder: Path) -> AbstractContextManager[int]:
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f"listen between\n bind 127.0.0.1:{port} proto h2\n server one 127.0.0.1:{target} proto h2\n"
    )
    return running((program, "-db", "-f", folder / "haproxy.cfg"), port)


def nghttpx(program: str, target: int, folder: Path) -> AbstractContextManager[int]:
    port = free_port()
    (folder / "nghttpx.conf").touch()  # else it reads the machine's
    return running(
        (
            program,
            f"--conf={folder / 'nghttpx.conf'}",
            f"--frontend=127.0.0.1,{port};no-tls",
            f"--backend=127.0.0.1,{target};;proto=h2",
            "--workers=1",
            "--single-process",
        ),
        port,
    )


PROXIES: dict[str, tuple[str, Callable[[str, int, Path], AbstractContextManager[int]]]] = {
    "nginx": ("nginx", nginx),
    "haproxy": ("haproxy", haproxy),
    "nghttpx": ("nghttp2-proxy", nghttpx),
}
"""By program: the package that has it, and what runs it in front of a gRPC server."""


@pytest.fixture(scope="session")
def go_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the server of `peer.go`; return the program."""
    go, sources = shutil.which("go"), Path("/usr/share/gocode")
    if go is None or not (sources / "src/google.golang.org/grpc").is_dir():
        pytest.skip("grpc-go is not installed: apt install golang-go golang-google-grpc-dev")
    folder = tmp_path_factory.mktemp("go")
    variables = os.environ | {"GO111MODULE": "off", "GOPATH": str(sources), "GOCACHE": str(folder / "cache")}
    source = Path(__file__).with_name("peer.go")
    subprocess.run([go, "build", "-o", folder / "peer", source], cwd=folder, env=variables, check=True, timeout=300)
    return folder / "peer"


@asynccontextmanager
async def grpc_go(program: Path) -> AsyncIterator[int]:
    """Run grpc-go's server; enter its port."""
    process = await asyncio.create_subprocess_exec(program, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(await asyncio.wait_for(process.stdout.readline(), 20))
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)


@asynccontextmanager
async def grpc_python(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[int]:
    """Run grpc's own server; enter its port."""
    server = grpc.aio.server(handlers=(Server(),), options=[("grpc.max_receive_message_length", -1)])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def rough_network(target: int) -> AsyncIterator[int]:
    """Relay to a port, in pieces of any size, up to 15 ms late each: what a long line with losses makes of a stream."""
    chance = random.Random(5)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                at = 0
                while at < len(data):
                    size = chance.choice((1, 9, 700, 1500, 20_000, 1 << 16))
                    writer.write(data[at : at + size])
                    await writer.drain()
                    at += size
                    await asyncio.sleep(chance.random() * 0.015)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        for way in (pump(reader, far_writer), pump(far_reader, writer)):
            tasks.add(asyncio.create_task(way))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(
    params=["plain", "tls", *(pytest.param(name, marks=pytest.mark.long) for name in ("grpc-go", "rough", *PROXIES))]
)
async def transport(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[H2Transport]:
    """A transport to a server of the grpc project, some by way of a proxy."""
    options: dict[str, object] = {}
    async with AsyncExitStack() as stack:
        if request.param == "grpc-go":
            port = await stack.enter_async_context(grpc_go(request.getfixturevalue("go_server")))
        elif request.param == "tls":
            ca = trustme.CA()
            ours, theirs = ca.issue_cert("client"), ca.issue_cert("127.0.0.1")
            credentials = grpc.ssl_server_credentials(
                [(theirs.private_key_pem.bytes(), theirs.cert_chain_pems[0].bytes())], ca.cert_pem.bytes(), True
            )
            for name, pem in (("ca", ca.cert_pem), ("cert", ours.cert_chain_pems[0]), ("key", ours.private_key_pem)):
                pem.write_to_path(tmp_path / name)
            options = {"tls": {f"{name}_file": tmp_path / name for name in ("ca", "cert", "key")}}
            port = await stack.enter_async_context(grpc_python(credentials))
        else:
            port = await stack.enter_async_context(grpc_python())
        if request.param == "rough":
            port = await stack.enter_async_context(rough_network(port))
        if request.param in PROXIES:
            package, run = PROXIES[request.param]
            program = shutil.which(request.param, path=f"{os.environ['PATH']}:/usr/sbin")
            if program is None:
                pytest.skip(f"{request.param} is not installed: apt install {package}")
            proxy = run(program, port, tmp_path)
            port = await asyncio.to_thread(proxy.__enter__)
            stack.push_async_callback(asyncio.to_thread, proxy.__exit__, None, None, None)
        scheme = "grpcs" if options else "grpc"
        transport = H2Transport(TritonSettings.model_validate({"url": f"{scheme}://127.0.0.1:{port}"} | options))
        stack.push_async_callback(transport.aclose)
        yield transport


async def count(transport: H2Transport, number: int) -> list[Reply]:
    call = await transport.stream(WireRequest(str(number), ()), timeout_s=90)
    found: list[Reply] = []
    try:
        while replies := await call.read():
            found += replies
    finally:
        call.cancel()
    return found


async def test_calls_of_all_kinds_go_through_at_once(transport: H2Transport) -> None:
    async with asyncio.timeout(100):
        live = transport.control(SERVER_LIVE, v2.ServerLiveRequest(), timeout_s=90)
        streams = [count(transport, number) for number in (0, 1, 500, 3000)]
        infers = [
            transport.infer(WireRequest("m", (), parameters={"long": "x" * size}), timeout_s=90)
            for size in (0, 1000, 20_000, 3_000_000)
        ]
        answered, counted, inferred = await asyncio.gather(live, asyncio.gather(*streams), asyncio.gather(*infers))
    assert answered.live
    assert [len(each) for each in counted] == [0, 1, 500, 3000]
    assert len(inferred) == 4


async def test_a_status_is_told_in_the_servers_words(transport: H2Transport) -> None:
    with pytest.raises(InvalidRequest, match="not ünderstood"):
        await transport.infer(WireRequest("no", ()), timeout_s=90)


async def test_streams_that_are_cancelled_disturb_no_other(transport: H2Transport) -> None:
    async def leave() -> None:
        call = await transport.stream(WireRequest("100000", ()), timeout_s=90)
        await call.read()
        call.cancel()

    async with asyncio.timeout(100):
        whole, _ = await asyncio.gather(count(transport, 2000), asyncio.gather(*(leave() for _ in range(40))))
    assert len(whole) == 2000

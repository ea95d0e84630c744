"""Our own HTTP/2 and what others wrote: gRPC servers in C, Go and Python, and proxies; plain and over TLS."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme
from whole_runs import run_whole

from adapter_api import InvalidRequest
from tests.triton_adapter.transports.h2.proxies import PROXIES, Certificate, installed
from triton_adapter import TritonSettings
from triton_adapter.schema import Reply
from triton_adapter.transports.h2.transport import H2Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import WireRequest
from triton_adapter.wire.rpcs import MODEL_INFER, MODEL_STREAM_INFER, SERVER_LIVE

_BUILD_S = 300.0
GRPCLIB_SERVER = Path(__file__).parents[2] / "foreign" / "servers" / "grpclib_server.py"

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


@pytest.fixture(scope="session")
def go_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the server of `peer.go`; return the program."""
    go, sources = shutil.which("go"), Path("/usr/share/gocode")
    if go is None or not (sources / "src/google.golang.org/grpc").is_dir():
        pytest.skip("grpc-go is not installed: apt install golang-go golang-google-grpc-dev")
    program, source = tmp_path_factory.mktemp("go") / "peer", Path(__file__).with_name("peer.go")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worker-adapter" / "go"
    cache.mkdir(parents=True, exist_ok=True)
    variables = os.environ | {"GO111MODULE": "off", "GOPATH": str(sources), "GOCACHE": str(cache), "GOMAXPROCS": "2"}
    command: list[str | Path] = [go, "build", "-p", "2", "-o", program, source]
    began = time.monotonic()
    try:
        # The processes that share the tests want it at once: one compiles all of grpc-go, the others find it compiled.
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            limit_s = max(_BUILD_S - (time.monotonic() - began), _BUILD_S / 5)
            run_whole(command, limit_s=limit_s, cwd=program.parent, env=variables)
    except RuntimeError as exc:
        pytest.fail(f"{source.name} cannot be built: {exc}", pytrace=False)
    return program


@asynccontextmanager
async def spoken(*command: str | Path) -> AsyncIterator[int]:
    """Run a server that prints its port and ends with its standard input; enter the port."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
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


class InThreads(grpc.GenericRpcHandler):  # type: ignore[misc]
    """What `Server` does, as functions that a server with threads calls."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == SERVER_LIVE.path:
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: v2.ServerLiveResponse(live=True).SerializeToString()
            )
        if details.method == MODEL_INFER:
            return grpc.unary_unary_rpc_method_handler(self._infer)
        if details.method == MODEL_STREAM_INFER:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return None

    def _infer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        asked = v2.ModelInferRequest.FromString(request)
        if asked.model_name == "no":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not ünderstood\n100%")
        return v2.ModelInferResponse(model_name=asked.model_name).SerializeToString()

    def _stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            for number in range(int(v2.ModelInferRequest.FromString(request).model_name)):
                reply = v2.ModelStreamInferResponse(infer_response=v2.ModelInferResponse(id=str(number)))
                yield reply.SerializeToString()


@asynccontextmanager
async def grpc_threads() -> AsyncIterator[int]:
    """Run grpc's own server with threads; enter its port."""
    server = grpc.server(
        ThreadPoolExecutor(16), handlers=(InThreads(),), options=[("grpc.max_receive_message_length", -1)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        await asyncio.to_thread(server.stop(None).wait, 10)


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


OTHERS = ("grpc-go", "grpc-threads", "grpclib", "grpclib tls", "rough")


def shown_over_tls(folder: Path) -> tuple[Certificate, dict[str, object]]:
    """Return a certificate for a proxy, and the settings that trust it."""
    ca = trustme.CA()
    theirs = ca.issue_cert("127.0.0.1")
    certificate = Certificate(folder / "chain.pem", folder / "key.pem")
    theirs.cert_chain_pems[0].write_to_path(certificate.chain)
    theirs.private_key_pem.write_to_path(certificate.key)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    return certificate, {"tls": {"ca_file": folder / "ca.pem"}}


@pytest.fixture(
    params=[
        "plain",
        "tls",
        *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS),
        *(pytest.param(name, marks=pytest.mark.long) for name in PROXIES),
        *(pytest.param(f"{name} tls", marks=pytest.mark.long) for name in PROXIES),
    ]
)
async def transport(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[H2Transport]:
    """A transport to a server of the grpc project, some by way of a proxy."""
    options: dict[str, object] = {}
    async with AsyncExitStack() as stack:
        name, _, over_tls = request.param.partition(" ")
        certificate = None
        if over_tls:
            certificate, options = shown_over_tls(tmp_path)
        if name == "grpc-go":
            port = await stack.enter_async_context(spoken(request.getfixturevalue("go_server")))
        elif name == "grpclib":
            python = installed("grpclib") / "python"
            port = await stack.enter_async_context(spoken(python, GRPCLIB_SERVER, *(certificate or ())))
        elif name == "grpc-threads":
            port = await stack.enter_async_context(grpc_threads())
        elif name == "tls":
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
        if name == "rough":
            port = await stack.enter_async_context(rough_network(port))
        if name in PROXIES:
            proxy = PROXIES[name].run(PROXIES[name].program(name), port, tmp_path, certificate)
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

"""`FakeTriton`: a Triton server for tests, on the real wire, with models that do what a test tells them to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import anyio.to_thread
import grpc
import grpc.aio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from adapter_api.errors import AdapterClosed

from .changes import Changes
from .core import Core, Protocol
from .failure import Code
from .grpc_service import GrpcService
from .http_api import HttpApi
from .http_server import LOOPBACK, HttpServer
from .model import FakeModel
from .proxy import FaultProxy
from .records import RecordedCall, RecordedRequest
from .serving import Serving

_UNLIMITED = -1


class ServerTls(NamedTuple):
    """PEM files for gRPC over TLS; with `client_ca` a client must show a certificate of that authority."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class FakeTriton:
    """A server that speaks Triton's v2 protocol over gRPC and HTTP, as a context manager, `with` or `async with`.

        with FakeTriton() as fake:
            fake.model("llama").respond_with_text("Hello there!")
            ...  # talk to fake.grpc_url
            assert fake.requests[0].text() == "Hi"

    It runs on an event loop in a thread of its own, on free ports of the loopback interface, and everything here may be
    called from any thread. Refusals are worded as by Triton 2.51. In front of both ports stands a `FaultProxy`:
    `proxy` for gRPC and `http_proxy`.

    What it does not have: shared memory, classification, idle timeouts of sequences, and settings that can be changed.

    Args:
        version: Of Triton, as it tells it.
        tls: Makes gRPC a TLS port; HTTP has none, as with Triton.
    """

    def __init__(self, *, version: str = "2.51.0", tls: ServerTls | None = None) -> None:
        self._changes = Changes()
        self._core = Core(version, self._changes.ring)
        self._tls = tls
        self._models: dict[str, FakeModel] = {}
        self._core.add_model = self.model
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._proxy: FaultProxy | None = None
        self._http_proxy: FaultProxy | None = None

    # ---- life

    def start(self) -> Self:
        """Open the ports. Nothing happens when it runs already."""
        if self._portal is None:
            with ExitStack() as stack:
                portal = stack.enter_context(start_blocking_portal())
                self._proxy, self._http_proxy = self._open_ports(portal, stack)
                self._portal = portal
                self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """End every call and close the ports. Nothing happens when it does not run."""
        self._portal = None
        self._stack.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await anyio.to_thread.run_sync(self.start)

    async def __aexit__(self, *exc_info: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    @property
    def grpc_url(self) -> str:
        """As `grpc://127.0.0.1:PORT`, or `grpcs://` with TLS."""
        return f"{'grpcs' if self._tls else 'grpc'}://{self.proxy.address}"

    @property
    def http_url(self) -> str:
        return f"http://{self.http_proxy.address}"

    @property
    def proxy(self) -> FaultProxy:
        """The way every gRPC connection takes."""
        return _running(self._proxy)

    @property
    def http_proxy(self) -> FaultProxy:
        """The way every HTTP connection takes."""
        return _running(self._http_proxy)

    # ---- models

    def model(self, name: str) -> FakeModel:
        """Return the model of that name, which is loaded from its first mention on."""
        if name not in self._models:
            serving = Serving(name, self._changes.ring)
            self._models[name] = FakeModel(serving, self._changes.ring, self._on_loop)
            self._core.servings[name] = serving
        return self._models[name]

    # ---- the server as a whole

    def set_health(self, *, live: bool = True, ready: bool | None = None) -> None:
        """Say so when asked; for `None` readiness follows from the models, as with Triton's strict readiness."""
        self._core.live, self._core.ready = live, ready

    def drain(self) -> None:
        """Behave as after SIGTERM: HTTP is closed, gRPC refuses new requests, running ones go on."""
        self._core.is_draining = True
        self.http_proxy.refuse()

    def die(self) -> None:
        """Be gone at once, as after SIGKILL: connections end and connecting is refused."""
        for proxy in (self.proxy, self.http_proxy):
            proxy.refuse()
            proxy.cut(reset=False)

    def revive(self) -> None:
        """Be there again, on the same ports, after `die` or `drain`."""
        self._core.is_draining = False
        for proxy in (self.proxy, self.http_proxy):
            proxy.heal()

    def restrict(self, *protocols: Protocol, key: str, value: str) -> None:
        """Serve these groups of calls only to those who send the header `key` with this value."""
        self._core.restricted |= dict.fromkeys(protocols, (key, value))

    def act_as(
        self,
        name: str,
        *,
        without: Collection[str] = (),
        lists_models: bool = True,
        refuses_unknown: Code | None = None,
        flags_ends: bool = True,
        extensions: Collection[str] | None = None,
    ) -> None:
        """Be another server that speaks the protocol with holes.

            fake.act_as("mlserver", without=["ModelConfig", "ModelStatistics"], refuses_unknown="UNKNOWN")

        Args:
            name: What it calls itself.
            without: Calls that it does not have, by gRPC's names; it answers UNIMPLEMENTED.
            lists_models: Whether its repository index has the models that it serves.
            refuses_unknown: With which status it answers whether a model is ready that it does not have; `None` as
                Triton, that it is not.
            flags_ends: Whether streamed messages say which is the last; otherwise the end of the call says so.
            extensions: What it lists among its extensions; Triton's for `None`. Without `binary_tensor_data` a client
                should not send binary tensors, which the fake takes all the same.
        """
        core = self._core
        core.name, core.missing, core.lists_models = name, set(without), lists_models
        core.refuses_unknown, core.flags_ends = refuses_unknown, flags_ends
        if extensions is not None:
            core.extensions = tuple(extensions)

    def set_model_control(self, mode: Literal["explicit", "none"]) -> None:
        """Allow clients to load and unload models, or not."""
        self._core.model_control = mode

    def fail_next(self, call: str, code: Code, text: str, *, times: int = 1) -> None:
        """Answer the next calls of this kind with a status, such as ("ModelConfig", "UNAVAILABLE", "try later").

        The names are gRPC's; HTTP calls without a gRPC counterpart are "generate" and "generate_stream".
        """
        self._core.fail_next(call, code, text, times)

    # ---- what happened

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """Every inference request in the order of arrival, also those that were refused."""
        return tuple(self._core.requests)

    @property
    def calls(self) -> tuple[RecordedCall, ...]:
        """Every call of any kind in the order of arrival."""
        return tuple(self._core.calls)

    @property
    def running(self) -> int:
        """How many requests hold a slot now, over all models."""
        return sum(model.running for model in self._models.values())

    def check(self) -> None:
        """Raise `AssertionError` if a request was not as expected, or an expected one did not come."""
        problems = []
        for name, serving in self._core.servings.items():
            problems += serving.problems
            if serving.expectations and not serving.requests:
                problems.append(f"model {name!r}: a request was expected, but none came")
        if problems:
            raise AssertionError("FakeTriton: " + "\n".join(problems))

    def wait_until(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        """Return once `predicate()` is true; it is asked again whenever something happens at the fake.

        Raises:
            TimeoutError: It was not true within `timeout_s`.
        """
        self._changes.wait_until(predicate, timeout_s)

    async def until(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        """`wait_until` for a test that runs on an event loop."""
        await anyio.to_thread.run_sync(self.wait_until, predicate, timeout_s)

    # ---- inside

    def _open_ports(self, portal: BlockingPortal, stack: ExitStack) -> tuple[FaultProxy, FaultProxy]:
        http_server = HttpServer(HttpApi(self._core))
        portal.call(http_server.start)
        stack.callback(portal.call, http_server.stop)
        stack.callback(portal.call, self._end_runs)
        http_proxy = self._proxy_to(http_server.port, portal, stack)
        # The gRPC server wants to know its proxy, which wants to know the server's port.
        server = portal.call(self._make_grpc_server)
        port = self._bind(server)
        proxy = FaultProxy(f"{LOOPBACK}:{port}", portal=portal, changes=self._changes)
        proxy.start()
        server.add_generic_rpc_handlers((GrpcService(self._core, proxy.relay),))
        portal.call(server.start)
        stack.callback(portal.call, server.stop, None)
        stack.callback(proxy.stop)
        return proxy, http_proxy

    def _proxy_to(self, port: int, portal: BlockingPortal, stack: ExitStack) -> FaultProxy:
        proxy = FaultProxy(f"{LOOPBACK}:{port}", portal=portal, changes=self._changes)
        proxy.start()
        stack.callback(proxy.stop)
        return proxy

    async def _make_grpc_server(self) -> grpc.aio.Server:
        sizes = [(f"grpc.max_{way}_message_length", _UNLIMITED) for way in ("send", "receive")]
        asyncio.get_running_loop().set_exception_handler(_tell_unless_a_call_ended)
        return grpc.aio.server(options=[*sizes, ("grpc.so_reuseport", 0)])

    def _bind(self, server: grpc.aio.Server) -> int:
        if self._tls is None:
            return int(server.add_insecure_port(f"{LOOPBACK}:0"))
        pair = (self._tls.key.read_bytes(), self._tls.certificate.read_bytes())
        client_ca = self._tls.client_ca.read_bytes() if self._tls.client_ca else None
        credentials = grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)
        return int(server.add_secure_port(f"{LOOPBACK}:0", credentials))

    async def _end_runs(self) -> None:
        for serving in self._core.servings.values():
            for run in list(serving.runs):
                run.task.cancel()
                with suppress(BaseException):
                    await run.task

    def _on_loop(self, change: Callable[[], None]) -> None:
        if self._portal is None:
            change()
        else:
            self._portal.start_task_soon(_call, change).result()


def _tell_unless_a_call_ended(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Pass over what grpc's server raises in a task of its own when a call ends while a message or its status is on
    the way: connections are cut here, and the server is stopped, with calls open. Nobody awaits that task."""
    if not isinstance(context.get("exception"), grpc.aio.InternalError):
        loop.default_exception_handler(context)


async def _call(change: Callable[[], None]) -> None:
    change()


def _running(proxy: FaultProxy | None) -> FaultProxy:
    if proxy is None:
        raise AdapterClosed("the FakeTriton does not run; start it first")
    return proxy

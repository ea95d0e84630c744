"""What all tasks of one adapter share: the transport, what is known of the engine, and what went wrong lately."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple, Protocol

from adapter_api import (
    AdapterError,
    CancelMode,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    Unsupported,
)
from triton_adapter.engine.cancellation import cancel_mode
from triton_adapter.engine.metadata import CACHE_SIZE, SchemaCache
from triton_adapter.engine.offers import Offers
from triton_adapter.engine.recent import Recent
from triton_adapter.engine.sequences import SequenceOrder
from triton_adapter.engine.sharing import shared
from triton_adapter.engine.shm import SharedMemory
from triton_adapter.engine.slots import Slots
from triton_adapter.schema import ModelSchema
from triton_adapter.settings import ModelOverride, TritonSettings
from triton_adapter.transports.base import Follow, Transport
from triton_adapter.transports.cancel_limiter import CancelLimiter
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.request import Constant
from triton_adapter.wire.rpcs import SERVER_METADATA

DISTRUST_S = 30.0
_SHAPES = 64

_NO_OVERRIDE = ModelOverride()


class Server(NamedTuple):
    """Who answers; nothing of it is known where the server does not say."""

    name: str
    version: str
    extensions: tuple[str, ...]


class Failure(NamedTuple):
    """Why a model is not trusted although the server calls it ready, and until when."""

    reason: str
    until: float


class Running(Protocol):
    """A task that holds a slot, for who cancels it."""

    @property
    def sent(self) -> bool:
        """Whether the engine may have it."""

    @property
    def mode(self) -> CancelMode:
        """What cancelling it can do."""

    def stop_too(self) -> None:
        """Have the engine asked to stop it also by other means than closing its call."""


class Engine:
    """One Triton, as the adapter knows it."""

    def __init__(
        self, settings: TritonSettings, transport: Transport, *, wanted: Callable[[], frozenset[str]] = frozenset
    ) -> None:
        self.settings = settings
        self.transport = transport
        self.offers = Offers(transport, ttl_s=settings.metadata_ttl_s, timeout_s=settings.control_timeout_s)
        self.schemas = SchemaCache(
            transport, ttl_s=settings.metadata_ttl_s, timeout_s=settings.control_timeout_s, offers=self.offers,
            server_version=self._server_version,
        )  # fmt: skip
        self._wanted = wanted
        self.slots = Slots(drain_timeout_s=settings.drain_timeout_s)
        self.cancels = CancelLimiter(settings.max_concurrent_cancels)
        self.sequences = SequenceOrder()
        self.shared_memory = SharedMemory(transport, settings)
        self.running: dict[str, Running] = {}
        """Tasks that hold a slot, by their `job_id`."""
        self._failures: dict[str, Failure] = {}
        """Models whose last request died or hung."""
        self._sees_images: dict[str, bool] = {}
        """Of models that declare an image input whatever they are: what came of the last task with an image."""
        self._server: tuple[float, Server] | None = None
        self._asking: asyncio.Task[Server] | None = None
        self._version: tuple[Server, ModelSchema, str | None] | None = None
        """What the last task was told, and of what that was made."""
        self._cancels_like: tuple[ModelSchema, CancelMode] | None = None
        """What cancelling does, of the model that was asked about last."""
        self.shapes: Recent[Any] = Recent(_SHAPES)
        """What tasks that differ in their prompts only have in common (`tasks/plan.py`)."""
        self.messages: Recent[Constant] = Recent(_SHAPES)
        """What inferences that differ in their tensors' data only have in common (`tensors/inference.py`)."""

    def what(self, model: str) -> str:
        """Return how messages call a model here."""
        return f"model {model!r} on {self.transport.where}"

    @property
    def wanted_models(self) -> frozenset[str]:
        """Models that the host wants to use; they need not be there."""
        return self._wanted()

    @property
    def named_models(self) -> set[str]:
        """Models that are there whatever the repository index says: tasks used them, or the settings name them."""
        default = {self.settings.model} if self.settings.model is not None else set()
        return {*self.schemas.names, *self.settings.models, *default}

    def override(self, model: str) -> ModelOverride:
        """Return what the settings say about a model."""
        override: ModelOverride = self.settings.models.get(model, _NO_OVERRIDE)
        return override

    def cancel_mode(self, schema: ModelSchema) -> CancelMode:
        """Return what cancelling a call to a model does."""
        if self._cancels_like is None or self._cancels_like[0] is not schema:
            self._cancels_like = schema, cancel_mode(schema, self.transport.traits)
        return self._cancels_like[1]

    def follow(self, schema: ModelSchema) -> Follow | None:
        """Return what takes over a call for one answer that nobody waits for any more, where cancelling would only hide
        it: its slot counts as busy until the engine is done."""
        return self.slots.follow if self.cancel_mode(schema) == "client_only" else None

    async def server(self) -> Server:
        """Return who answers; asked once in a while, however many want to know. Raises what a control call raises."""
        if self._server is not None and self._server[0] >= monotonic():
            return self._server[1]
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask_server())
            self._asking.add_done_callback(self._asked)
        return await shared(self._asking)

    async def _ask_server(self) -> Server:
        answer = await self.offers.ask(SERVER_METADATA, v2.ServerMetadataRequest())
        server = Server("", "", ()) if answer is None else Server(answer.name, answer.version, tuple(answer.extensions))
        self._server = (monotonic() + self.settings.metadata_ttl_s, server)
        return server

    def _asked(self, task: asyncio.Task[Server]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # seen, should nobody wait for it any more

    async def _server_version(self) -> str:
        try:
            return (await self.server()).version
        except AdapterError:
            return ""

    async def ends_by_flag(self) -> bool:
        """Return whether the server says of every streamed message if it is the last, as Triton does.

        Others, Dynamo above all, just end the call.
        """
        try:
            return (await self.server()).name == "triton"
        except AdapterError:
            return True

    async def version(self, schema: ModelSchema | None = None) -> str | None:
        """Return the server's version and its backend's, as in `triton 2.51.0, vllm 0.6.3`, if it says."""
        try:
            server = await self.server()
        except AdapterError:
            return None
        version = engine_version(server, backend_versions(schema) if schema else ())
        if schema is not None:
            self._version = server, schema, version
        return version

    def known_version(self, schema: ModelSchema) -> str | None:
        """Return what `version` returns, if that was asked last; `None` if it has to be asked."""
        known = self._version
        if known is None or known[1] is not schema or self._server is None or known[0] is not self._server[1]:
            return None
        return known[2] if self._server[0] >= monotonic() else None

    def note_failure(self, model: str, error: AdapterError) -> None:
        """Learn from a failed request: what is known may be outdated, or the model's process may be dead."""
        if isinstance(error, InvalidRequest | ModelNotFound | NotReady | Unsupported):
            self.schemas.forget(model)
        if isinstance(error, ConnectFailed | ConnectionLost):
            self.note_disconnect()
        hung = isinstance(error, DeadlineExceeded) and error.stage in ("first_token", "inter_token")
        died = isinstance(error, EngineFailed) and error.dead
        if hung or died:
            self._failures[model] = Failure(error.message, monotonic() + DISTRUST_S)

    def note_success(self, model: str) -> None:
        """Learn from a request that worked, or that the model was loaded anew: it is trusted."""
        if self._failures:
            self._failures.pop(model, None)

    def note_images(self, model: str, *, seen: bool) -> None:
        """Learn whether a model looks at images, where only a try can tell."""
        if model in self._sees_images or len(self._sees_images) < CACHE_SIZE:
            self._sees_images[model] = seen

    def sees_images(self, model: str) -> bool | None:
        """Return what the settings or the last try say of a model and images; `None` when neither says anything."""
        return True if "images" in self.override(model).inputs else self._sees_images.get(model)

    def note_disconnect(self) -> None:
        """Learn from a lost connection: another server may answer next."""
        self._server = None
        self._sees_images.clear()
        self.offers.forget()
        self._failures.clear()
        self.schemas.forget()

    def failure_of(self, model: str) -> str | None:
        """Return why the model is not trusted although the server calls it ready; `None` when it is.

        The distrust ends by itself after `DISTRUST_S`: a host sends a model that is not ready no request that could
        prove it well again, and it may have been slow once, or been mended by somebody else.
        """
        failure = self._failures.get(model)
        if failure is not None and failure.until <= monotonic():
            del self._failures[model]
            return None
        return None if failure is None else failure.reason

    async def aclose(self) -> None:
        """Release everything."""
        self.cancels.flush()
        if self._asking is not None:
            self._asking.cancel()
        await self.slots.aclose()
        await self.schemas.aclose()
        await self.shared_memory.aclose()
        await self.transport.aclose()


def engine_version(server: Server, backends: Iterable[str] = ()) -> str | None:
    """Return the versions of a server and its backends in one text; `None` when nothing is known of any."""
    return ", ".join(filter(None, (f"{server.name} {server.version}".strip(), *backends))) or None


def backend_versions(schema: ModelSchema) -> tuple[str, ...]:
    """Return the versions that a model's configuration names, as in `trtllm 0.16.0`."""
    return tuple(
        f"{key.lower().removesuffix('_version')} {value}"
        for key, value in sorted(schema.parameters.items())
        if key.lower().endswith("_version") and value and len(value) < 64
    )

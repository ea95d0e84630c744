"""One worker's place in a cluster: the only file that knows Dynamo's runtime."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from adapter_api import ConfigurationError
from adapter_kit.installing import install_extra
from dynamo_worker.faults import fault_of
from dynamo_worker.following import Registered
from dynamo_worker.handlers import HEALTH_PAYLOAD, Handler
from dynamo_worker.settings import WorkerSettings

_STOP_S = 10.0
_WATCH_S, _MISSED_S = 0.3, 3.0
_MARK = "worker_adapter"
"""Under which a card of ours says since when its worker is there."""


class Cluster:
    """Endpoints and cards of this worker. Must be made where an event loop runs.

    Raises:
        ConfigurationError: Dynamo's runtime is not installed, or cannot reach its discovery.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        try:
            from dynamo import llm
            from dynamo.runtime import DistributedRuntime
        except ImportError as exc:
            raise ConfigurationError(
                f"Dynamo's runtime is missing ({exc}); install it with {install_extra('dynamo')}"
            ) from exc
        self._llm: Any = llm
        self._settings = settings
        try:
            self._runtime: Any = DistributedRuntime(
                asyncio.get_running_loop(), settings.discovery, settings.request_plane
            )
        except Exception as exc:
            raise ConfigurationError(
                f"cannot join a cluster by {settings.discovery} discovery and the {settings.request_plane} plane: "
                f"{exc}; look at ETCD_ENDPOINTS, NATS_SERVER and DYN_FILE_KV, whichever they need"
            ) from exc
        self.lost = asyncio.Event()
        """Set when Dynamo has ended what is served here by itself, as when etcd was away for longer than its lease
        lasts, or has forgotten it. Nothing of this membership can be used then; a new one can be made."""
        self._leaving = False
        self._since = time.time()
        self._endpoints: dict[str, Any] = {}
        self._serving: set[asyncio.Future[None]] = set()

    def serve(self, name: str, handler: Handler) -> None:
        """Answer what comes to the endpoint of that name, until the end."""
        endpoint = self._endpoints[name] = self._runtime.endpoint(
            f"{self._settings.namespace}.{self._settings.component}.{name}"
        )
        # With a payload, `/health` is that of the endpoints, which only Dynamo's canary sets: without the canary they
        # would be well for ever. Without one it is what `say_healthy` says.
        payload = dict(HEALTH_PAYLOAD) if self._settings.canary else None
        serving = asyncio.ensure_future(endpoint.serve_endpoint(handler.__call__, health_check_payload=payload))
        self._serving.add(serving)
        serving.add_done_callback(self._ended)

    def _ended(self, serving: asyncio.Future[None]) -> None:
        self._serving.discard(serving)
        if not self._leaving:
            self.lost.set()

    async def publish_tensors(self, name: str, model: str, config: Mapping[str, Any]) -> None:
        """Tell frontends that the endpoint serves a model for tensors."""
        await self._publish(name, model, self._llm.ModelInput.Tensor, self._llm.ModelType.TensorBased,
                            tensor_model_config=dict(config), user_data={_MARK: {"since": self._since}})  # fmt: skip

    async def publish_text(
        self, name: str, model: str, *, chat: bool, completions: bool, tensors: Mapping[str, Any]
    ) -> None:
        """Tell frontends that the endpoint serves a model for chats, completions, or both.

        `tensors` is what the model is registered with for tensors, where it is. Asked for a model's metadata, the
        KServe frontend takes any card of that name, and tells of text tensors of its own unless the card has others.
        """
        kinds = self._llm.ModelType
        kind = kinds.Chat | kinds.Completions if chat and completions else kinds.Chat if chat else kinds.Completions
        more = {"tensor_model_config": dict(tensors)} if tensors else {}
        kind = kind | kinds.TensorBased if tensors else kind
        await self._publish(name, model, self._llm.ModelInput.Text, kind, skip_model_assets=True, **more)

    async def _publish(self, name: str, model: str, input: Any, kind: Any, **more: Any) -> None:
        worker = self._llm.WorkerType.Aggregated
        await self._llm.register_model(input, kind, self._endpoints[name], model, model, worker_type=worker, **more)

    async def withdraw(self, name: str) -> None:
        """Tell frontends that the endpoint serves nothing now. What runs there goes on."""
        await self._llm.unregister_model(self._endpoints[name])

    async def look_up(self, name: str, *, expected: bool) -> Registered:
        """Return what discovery has of an endpoint. Takes a moment: it is watched for that long only, because a watch
        on files is one of the few that a user of a machine may have.

        Args:
            name: Of the endpoint.
            expected: Whether our own card should be there, which is then waited for.
        """
        watch, ours = self._llm.FpmEventSubscriber(self._endpoints[name]), self._endpoints[name].connection_id()
        began = time.monotonic()
        try:
            watch.start_tracking()
            await asyncio.sleep(_WATCH_S)
            cards = {int(worker): json.loads(text) for worker, text in watch.get_model_cards().items()}
            while expected and ours not in cards and time.monotonic() - began < _MISSED_S:
                await asyncio.sleep(_WATCH_S)
                cards = {int(worker): json.loads(text) for worker, text in watch.get_model_cards().items()}
        finally:
            watch.shutdown()
        others = []
        for worker, card in cards.items():
            config = card.get("tensor_model_config")
            if worker != ours and isinstance(config, Mapping):
                # One that is none of ours does not say since when it is there, and goes first.
                since = ((card.get("user_data") or {}).get(_MARK) or {}).get("since") or 0.0
                others.append(((since, worker) < (self._since, ours), config))
        return Registered(ours in cards, others)

    def say_healthy(self, healthy: bool) -> None:
        """Set what `/health` and `/live` of this process say."""
        self._runtime.set_health_status(healthy)

    def exception(self, code: str, message: str) -> Exception:
        """Return what an error of the contract is raised as."""
        return exception_of(code, message)

    async def run_frontend(self, kind: str, *, host: str, port: int, metrics_port: int | None = None) -> None:
        """Run a frontend in this process until cancelled: `grpc`, which listens on all addresses, or `http`."""
        llm = self._llm
        more = {} if metrics_port is None else {"http_metrics_port": metrics_port}
        arguments = llm.EntrypointArgs(llm.EngineType.Dynamic, http_host=host, http_port=port, **more)
        await llm.run_input(self._runtime, kind, await llm.make_engine(self._runtime, arguments))

    async def aclose(self) -> None:
        """Leave the cluster."""
        self._leaving = True
        self._runtime.shutdown()
        if self._serving:
            await asyncio.wait(self._serving, timeout=_STOP_S)


def exception_of(code: str, message: str) -> Exception:
    """Return what an error of the contract is raised as, by the table of `faults`."""
    from dynamo.llm import HttpError, exceptions

    fault = fault_of(code)
    if fault.status is not None:
        made: Exception = HttpError(fault.status, message)
    else:
        made = getattr(exceptions, fault.exception)(message)
    return made

"""What models declare, read from the engine and kept for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from time import monotonic
from types import MappingProxyType

from adapter_api import AdapterError, ModelNotFound, NotReady, Unsupported
from triton_adapter.engine.offers import Offers
from triton_adapter.engine.sharing import shared
from triton_adapter.schema import ModelSchema, Scheduling, TensorSpec
from triton_adapter.transports.base import Transport
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import MODEL_CONFIG, MODEL_METADATA, REPOSITORY_INDEX
from triton_adapter.wire.status import clean

CACHE_SIZE = 256
_NAMED_AT_MOST = 10

_SCHEDULING: Mapping[str | None, Scheduling] = {
    None: "none",
    "dynamic_batching": "dynamic_batching",
    "sequence_batching": "sequence_batching",
    "ensemble_scheduling": "ensemble",
}


class SchemaCache:
    """Reads each model's schema once, however many tasks ask at the same time, and again after `ttl_s` or `forget`."""

    def __init__(
        self,
        transport: Transport,
        *,
        ttl_s: float,
        timeout_s: float,
        offers: Offers | None = None,
        server_version: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._transport = transport
        self._offers = offers or Offers(transport, ttl_s=ttl_s, timeout_s=timeout_s)
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._server_version = server_version
        self._known: OrderedDict[tuple[str, str], tuple[float, ModelSchema]] = OrderedDict()
        self._reading: dict[tuple[str, str], asyncio.Task[ModelSchema]] = {}
        self._tasks: set[asyncio.Task[ModelSchema]] = set()

    async def get(self, model: str, version: str | None = None) -> ModelSchema:
        """Return what the model declares.

        Raises:
            ModelNotFound: There is no such model or version; the message names those there are.
            NotReady: It is there, but not loaded; the message says in which state it is and why.
            AdapterError: The engine cannot be asked.
        """
        if (known := self.known(model, version)) is not None:
            return known
        key = (model, version or "")
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.get_running_loop().create_task(self._read(*key))
            self._tasks.add(reading)
            reading.add_done_callback(lambda task: self._keep(key, task))
        return await shared(reading)

    def known(self, model: str, version: str | None = None) -> ModelSchema | None:
        """Return what `get` returns, if that is at hand."""
        key = (model, version or "")
        found = self._known.get(key)
        if found is None or found[0] <= monotonic():
            return None
        self._known.move_to_end(key)
        return found[1]

    @property
    def names(self) -> set[str]:
        """Models that are known. The repository index does not list those that were loaded with files of their own."""
        return {model for model, _ in self._known}

    def forget(self, model: str | None = None, *, changed: bool = False) -> None:
        """Read again what is asked for next: one model, or all.

        What is being read at the moment counts as new, unless the model has certainly `changed` just now.
        """
        for kept in (self._known, self._reading) if changed else (self._known,):
            for key in [key for key in kept if model is None or key[0] == model]:
                del kept[key]

    async def aclose(self) -> None:
        """Stop reading."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, key: tuple[str, str], task: asyncio.Task[ModelSchema]) -> None:
        self._tasks.discard(task)
        failed = task.cancelled() or task.exception() is not None
        if self._reading.get(key) is not task:
            return  # forgotten meanwhile: it is not known to be so any more
        del self._reading[key]
        if failed:
            self._known.pop(key, None)
            return
        self._known[key] = (monotonic() + self._ttl_s, task.result())
        self._known.move_to_end(key)
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)

    async def _read(self, model: str, version: str) -> ModelSchema:
        try:
            metadata, config = await asyncio.gather(self._metadata(model, version), self._config(model, version))
        except (ModelNotFound, NotReady) as exc:
            raise await self._explain(exc, model, version) from exc
        if metadata is None and config is None:
            raise Unsupported(f"model {model!r} on {self._transport.where}: the server tells nothing of what it takes")
        schema = schema_from(metadata or v2.ModelMetadataResponse(), config, name=model)
        if schema.backend == "vllm" and self._server_version is not None:
            # What it takes depends on its release, and it does not tell that itself.
            schema = replace(schema, server_version=await self._server_version())
        return schema

    async def _metadata(self, model: str, version: str) -> v2.ModelMetadataResponse | None:
        request = v2.ModelMetadataRequest(name=model, version=version)
        return await self._offers.ask(MODEL_METADATA, request, what=f"model {model!r}")

    async def config_of(self, model: str) -> bytes | None:
        """Return a model's configuration as the server tells it now, serialized; `None` where it tells none."""
        config = await self._config(model, "")
        return None if config is None else config.SerializeToString(deterministic=True)

    async def declared(self, model: str, version: str | None = None) -> v2.ModelConfig | None:
        """Return a model's configuration as the server tells it now; `None` where it tells none.

        Raises like `get`.
        """
        try:
            return await self._config(model, version or "")
        except (ModelNotFound, NotReady) as exc:
            raise await self._explain(exc, model, version or "") from exc

    async def _config(self, model: str, version: str) -> v2.ModelConfig | None:
        request = v2.ModelConfigRequest(name=model, version=version)
        response = await self._offers.ask(MODEL_CONFIG, request, what=f"model {model!r}")
        # Without it, as at most servers that are no Triton, metadata is all there is.
        return None if response is None else response.config

    async def _explain(self, error: AdapterError, model: str, version: str) -> AdapterError:
        """Tell "no such model" from loading, unloading, failed and never loaded, which Triton answers alike."""
        try:
            index = await self._offers.ask(REPOSITORY_INDEX, v2.RepositoryIndexRequest())
        except AdapterError:
            return error
        if index is None or not index.models:
            return error  # a server that does not list its models has not said that there are none
        return explain_absence(index.models, model, version, where=self._transport.where) or error


def explain_absence(
    index: Iterable[v2.RepositoryIndexResponse.ModelIndex], model: str, version: str, *, where: str
) -> AdapterError | None:
    """Return why a model does not answer, from the repository index; `None` when the index says it is ready."""
    entries = list(index)
    mine = [entry for entry in entries if entry.name == model]
    if not mine:
        names = sorted({entry.name for entry in entries if state_of(entry) == "READY"})
        shown = ", ".join(names[:_NAMED_AT_MOST]) + (", …" if len(names) > _NAMED_AT_MOST else "")
        return ModelNotFound(f"no model {model!r} on {where}; there {'are: ' + shown if names else 'is none'}")
    states = {state_of(entry) for entry in mine}
    if "READY" in states:
        ready = [entry.version for entry in mine if state_of(entry) == "READY"]
        if version and version not in ready:
            shown = ", ".join(filter(None, ready)) or "only one without a number"
            return ModelNotFound(f"model {model!r} on {where} has no version {version!r}; there are: {shown}")
        return None
    if states & {"LOADING", "UNLOADING"}:
        state = "loading" if "LOADING" in states else "unloading"
        return NotReady(f"model {model!r} on {where} is {state}; try another replica or again later")
    reasons = sorted({clean(entry.reason) for entry in mine if entry.reason})
    why = f": {'; '.join(reasons)}" if reasons else ""
    return NotReady(
        f"model {model!r} on {where} is in the repository but not loaded{why}; "
        f"load it with `worker-adapter models load {model}` or use another replica"
    )


def state_of(entry: v2.RepositoryIndexResponse.ModelIndex) -> str:
    """Return the state of an entry of the index by its bare name; MLServer writes `State.READY`."""
    return entry.state.rpartition(".")[2]


def schema_from(metadata: v2.ModelMetadataResponse, config: v2.ModelConfig | None, *, name: str = "") -> ModelSchema:
    """Return the schema in a model's metadata and, where the server has it, its configuration.

    Args:
        metadata: As the server answered.
        config: As the server answered; `None` when it has none.
        name: How the model was asked for, which is what requests have to call it.
    """
    versions = tuple(metadata.versions)
    default = max(versions, key=_by_number, default=None)
    if config is None:
        return ModelSchema(
            name=name or metadata.name,
            inputs=_specs(TensorSpec(t.name, t.datatype, tuple(t.shape), optional=None) for t in metadata.inputs),
            outputs=_specs(TensorSpec(t.name, t.datatype, tuple(t.shape), optional=None) for t in metadata.outputs),
            version=default,
            versions=versions,
            platform=metadata.platform,
            configured=False,
        )
    said = {tensor.name: tensor.datatype for tensor in (*metadata.inputs, *metadata.outputs)}
    batching = config.dynamic_batching
    policy = batching.default_queue_policy
    return ModelSchema(
        name=name or config.name or metadata.name,
        inputs=_specs(TensorSpec(t.name, _datatype(t, said), tuple(t.dims), t.optional) for t in config.input),
        outputs=_specs(TensorSpec(t.name, _datatype(t, said), tuple(t.dims)) for t in config.output),
        version=default,
        versions=versions,
        platform=config.platform or metadata.platform,
        backend=config.backend,
        max_batch_size=max(config.max_batch_size, 0),
        decoupled=config.model_transaction_policy.decoupled,
        scheduling=_SCHEDULING[config.WhichOneof("scheduling_choice")],
        parameters=MappingProxyType({key: value.string_value for key, value in config.parameters.items()}),
        allow_timeout_override=policy.allow_timeout_override,
        priority_levels=batching.priority_levels,
        max_queue_size=policy.max_queue_size,
        preserve_ordering=batching.preserve_ordering,
        ensemble_steps=tuple(step.model_name for step in config.ensemble_scheduling.step),
        instance_count=sum(max(group.count, 1) * max(len(group.gpus), 1) for group in config.instance_group) or 1,
        instances_told=bool(config.instance_group),
    )


def _specs(tensors: Iterable[TensorSpec]) -> Mapping[str, TensorSpec]:
    return MappingProxyType({tensor.name: tensor for tensor in tensors})


def _datatype(declared: v2.ModelInput | v2.ModelOutput, said: Mapping[str, str]) -> str:
    """Return the datatype's name, for one that is newer than we are as the metadata spells it."""
    # Over HTTP it comes by its name, which is dropped when we do not have it.
    known = v2.DataType.DESCRIPTOR.values_by_number.get(declared.data_type) if declared.data_type else None
    if known is None:
        return said.get(declared.name) or f"datatype {declared.data_type}"
    name = known.name.removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def _by_number(version: str) -> tuple[int, str]:
    """Return what sorts versions by their number, whatever its length; what is no number comes first."""
    digits = version.lstrip("0")
    return (len(digits), digits) if version.isascii() and version.isdecimal() else (-1, version)

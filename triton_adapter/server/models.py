"""The server's model repository, statistics and settings, as typed values."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from adapter_api import (
    AdapterError,
    ConfigurationError,
    EngineFailed,
    InvalidRequest,
    ModelHealth,
    ModelNotFound,
    NotReady,
)
from triton_adapter.engine.engine import Engine
from triton_adapter.schema import ModelSchema
from triton_adapter.server.health import models_of
from triton_adapter.wire import rpcs
from triton_adapter.wire import v2_pb2 as v2

SettingValue = bool | int | str
"""What a log setting holds."""


class Duration(msgspec.Struct, frozen=True):
    """How often something happened and how long it took in all, in nanoseconds."""

    count: int = 0
    ns: int = 0


class ModelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one version of a model has done since it was loaded.

    For a model that streams from a thread of its own, Triton stops its clocks when the thread starts: the durations
    are then not those of the answers. `batches` counts executions by batch size.
    """

    name: str
    version: str
    inference_count: int
    execution_count: int
    last_inference_ms: int
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration
    batches: dict[int, int] = {}


class Loaded(NamedTuple):
    """A model that is loaded."""

    schema: ModelSchema
    started: bool | None
    """Whether the server started it now: false for one that was loaded before and is left as it is; `None` when it was
    loaded before and had done nothing by which that could be told."""
    answered: bool = True
    """Whether one that was loaded before has answered since; false where no request can be made up for it."""


class Models:
    """Control of one server's models. Every method raises the contract's errors and is bounded in time."""

    def __init__(self, engine: Engine, ask: Callable[[str], Awaitable[bool]]) -> None:
        self._engine = engine
        self._ask = ask
        """Has a model answer something, and returns whether it could be asked; raises when nobody answers."""

    async def index(self, *, ready_only: bool = False) -> tuple[ModelHealth, ...]:
        """Return every version of every model in the repository, with its state and why it is not ready."""
        answer = await self._call(rpcs.REPOSITORY_INDEX, v2.RepositoryIndexRequest(ready=ready_only))
        # With `ready`, some servers send entries that are not.
        return tuple(model for model in models_of(answer) if model.ready or not ready_only)

    async def load(
        self, model: str, *, config: Mapping[str, Any] | str | None = None, files: Mapping[str, bytes] | None = None
    ) -> ModelSchema:
        """Load a model and return what it declares now, once it is ready. Takes as long as loading takes.

        A model that is loaded, and that nothing changed, Triton leaves as it is: to have it started anew, as after its
        process died, `unload` it first. It is then asked for a text, or for an inference of zeros made up from what it
        declares, lest a dead one be called loaded.

        Args:
            model: Its name in the repository.
            config: A whole configuration to use instead of the repository's: a mapping, or JSON text.
            files: The model's files by path (`1/model.onnx`), instead of the repository's; they need `config`.

        Raises:
            ConfigurationError: `config` is no JSON, or `files` come without it.
            ModelNotFound: The repository has no such model.
            InvalidRequest: Its configuration is not valid.
            EngineFailed: It does not load, and the message has the model's own reason; or it was loaded already and
                does not answer.
            NotReady: The server took the call, and does not call the model ready.
            Unsupported: The server was not started with --model-control-mode=explicit.
        """
        return (await self.bring_up(model, config=config, files=files)).schema

    async def bring_up(
        self, model: str, *, config: Mapping[str, Any] | str | None = None, files: Mapping[str, bytes] | None = None
    ) -> Loaded:
        """As `load`, and tell what became of a model that was loaded already."""
        request = v2.RepositoryModelLoadRequest(model_name=model)
        if files and config is None:
            raise ConfigurationError("files of a model need its configuration as well: give `config`")
        if config is not None:
            request.parameters["config"].string_param = _json_text(config)
        for path, content in (files or {}).items():
            request.parameters[f"file:{path}"].bytes_param = content
        before = None if config is not None else await self._work_of(model)
        try:
            await self._call(rpcs.MODEL_LOAD, request, model=model, timeout_s=self._engine.settings.load_timeout_s)
        except ModelNotFound as exc:
            raise await self._explain_load(exc, model, overridden=config is not None) from exc
        started = before is None or await self._began_anew(model, before)
        self._engine.schemas.forget(model, changed=True)
        if started:
            self._engine.note_success(model)
        schema = await self._engine.schemas.get(model)
        if not started:
            return Loaded(schema, started, answered=await self._ask_if_it_lives(model))
        if not await self.ready(model):
            raise NotReady(f"{self._engine.what(model)} was loaded, and the server does not call it ready")
        return Loaded(schema, started)

    async def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unload a model: it takes nothing new, what runs may finish. Unloading what is not loaded does nothing.

        Args:
            model: Its name.
            dependents: Also unload the members of an ensemble.
        """
        request = v2.RepositoryModelUnloadRequest(model_name=model)
        if dependents:
            request.parameters["unload_dependents"].bool_param = True
        await self._call(rpcs.MODEL_UNLOAD, request, model=model, timeout_s=self._engine.settings.load_timeout_s)
        self._forget(model)

    async def config(self, model: str, *, version: str | None = None) -> dict[str, Any]:
        """Return a model's configuration as the server completed it, in the names of `config.pbtxt`."""
        answer = await self._call(
            rpcs.MODEL_CONFIG, v2.ModelConfigRequest(name=model, version=version or ""), model=model
        )
        return plain(answer.config)

    async def schema(self, model: str, *, version: str | None = None) -> ModelSchema:
        """Return what a model declares."""
        return await self._engine.schemas.get(model, version)

    async def ready(self, model: str, *, version: str | None = None) -> bool:
        """Return whether a model takes work; an unknown one does not. False too after its process died under us."""
        try:
            answer = await self._call(rpcs.MODEL_READY, v2.ModelReadyRequest(name=model, version=version or ""))
        except ModelNotFound:
            return False  # Triton says so itself; other servers refuse the question
        return answer.ready and self._engine.failure_of(model) is None

    async def statistics(self, model: str | None = None, *, version: str | None = None) -> tuple[ModelStatistics, ...]:
        """Return the statistics of one model, or of all."""
        try:
            answer = await self._call(
                rpcs.MODEL_STATISTICS,
                v2.ModelStatisticsRequest(name=model or "", version=version or ""),
                model=model,
            )
        except AdapterError:
            if model is not None:
                # Triton calls this an invalid argument, whatever the reason: the schema's error says it better.
                await self._engine.schemas.get(model, version)
            raise
        return tuple(_statistics(entry) for entry in answer.model_stats)

    async def trace_settings(
        self, settings: Mapping[str, str | Sequence[str] | None] | None = None, *, model: str | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Change trace settings, of one model or the server's, and return all of them; `None` resets one."""
        request = v2.TraceSettingRequest(model_name=model or "")
        for key, value in (settings or {}).items():
            entry = request.settings[key]
            if value is not None:
                entry.value.extend([value] if isinstance(value, str) else value)
        answer = await self._call(rpcs.TRACE_SETTING, request, model=model)
        return {key: tuple(entry.value) for key, entry in sorted(answer.settings.items())}

    async def log_settings(self, settings: Mapping[str, SettingValue] | None = None) -> dict[str, SettingValue]:
        """Change log settings and return all of them."""
        request = v2.LogSettingsRequest()
        for key, value in (settings or {}).items():
            entry = request.settings[key]
            if isinstance(value, bool):
                entry.bool_param = value
            elif isinstance(value, int):
                entry.uint32_param = value
            else:
                entry.string_param = value
        answer = await self._call(rpcs.LOG_SETTINGS, request)
        return {
            key: getattr(entry, choice)
            for key, entry in sorted(answer.settings.items())
            if (choice := entry.WhichOneof("choice"))
        }

    async def _call(
        self,
        rpc: rpcs.Rpc[rpcs.RequestT, rpcs.ResponseT],
        request: rpcs.RequestT,
        *,
        model: str | None = None,
        timeout_s: float | None = None,
    ) -> rpcs.ResponseT:
        engine = self._engine
        return await engine.transport.control(
            rpc,
            request,
            timeout_s=engine.settings.control_timeout_s if timeout_s is None else timeout_s,
            what="" if model is None else f"model {model!r}",
        )

    async def _work_of(self, model: str) -> tuple[int, ...] | None:
        """Return what a loaded model has done; `None` when it is not loaded, or cannot be asked."""
        try:
            if not await self.ready(model) and self._engine.failure_of(model) is None:
                return None
            found = await self.statistics(model)
        except AdapterError:
            return None
        return tuple(count for one in found for count in (one.success.count, one.fail.count, one.last_inference_ms))

    async def _began_anew(self, model: str, before: tuple[int, ...]) -> bool | None:
        """Return whether a model has been started since it had done `before`: its figures begin anew with it."""
        if not any(before):
            return None
        after = await self._work_of(model)
        if after is None or len(after) != len(before):
            return None
        return any(now < then for now, then in zip(after, before, strict=True))

    async def _ask_if_it_lives(self, model: str) -> bool:
        """Have a model that was loaded already answer; return whether it could be asked."""
        advice = "it was loaded already, and Triton leaves such a model as it is: unload it, then load it"
        failure = self._engine.failure_of(model)
        if failure is not None:
            raise EngineFailed(f"{self._engine.what(model)} does not work: {failure}; {advice}")
        try:
            return await self._ask(model)
        except AdapterError as exc:
            raise EngineFailed(f"{exc.message}; {advice}") from exc

    async def _explain_load(self, error: ModelNotFound, model: str, *, overridden: bool) -> AdapterError:
        """Tell a model there is not from one that does not take its configuration: Triton answers both alike."""
        if not overridden and all(entry.name != model for entry in await self.index()):
            return error
        return InvalidRequest(
            f"model {model!r} on {self._engine.transport.where}: its configuration is not valid, or it has no version "
            "to load; the server's log has the reason"
        )

    def _forget(self, model: str) -> None:
        self._engine.schemas.forget(model, changed=True)
        self._engine.note_success(model)


def plain(message: Message) -> dict[str, Any]:
    """Return a message as mappings, lists and scalars under the protocol's own names; what is not set is left out."""
    return {field.name: _plain_field(field, value) for field, value in message.ListFields()}


def _plain_field(field: FieldDescriptor, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        entry = kind.fields_by_name["value"]
        return {str(key): _plain_value(entry, value[key]) for key in sorted(value)}
    return [_plain_value(field, each) for each in value] if field.is_repeated else _plain_value(field, value)


def _plain_value(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    return field.enum_type.values_by_number[value].name if field.enum_type is not None else value


def _json_text(config: Mapping[str, Any] | str) -> str:
    if not isinstance(config, str):
        return json.dumps(config)
    try:
        json.loads(config)
    except ValueError as exc:
        raise ConfigurationError(f"the configuration to load with is not JSON: {exc}") from exc
    return config


def _statistics(entry: v2.ModelStatistics) -> ModelStatistics:
    stats = entry.inference_stats
    return ModelStatistics(
        name=entry.name,
        version=entry.version,
        inference_count=entry.inference_count,
        execution_count=entry.execution_count,
        last_inference_ms=entry.last_inference,
        success=_duration(stats.success),
        fail=_duration(stats.fail),
        queue=_duration(stats.queue),
        compute_input=_duration(stats.compute_input),
        compute_infer=_duration(stats.compute_infer),
        compute_output=_duration(stats.compute_output),
        cache_hit=_duration(stats.cache_hit),
        cache_miss=_duration(stats.cache_miss),
        batches={batch.batch_size: batch.compute_infer.count for batch in entry.batch_stats},
    )


def _duration(duration: v2.StatisticDuration) -> Duration:
    return Duration(duration.count, duration.ns)

"""What the engine is: its version, its models, what each of them speaks and what can be promised."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from adapter_api import AdapterError, Capability, ConfigurationError, EngineProps, Finding, ModelProps, Unsupported
from adapter_api import TensorSpec as Declared
from triton_adapter.dialects import choose_dialect
from triton_adapter.engine.cancellation import cancel_mode
from triton_adapter.engine.engine import Engine, backend_versions
from triton_adapter.engine.metadata import state_of
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.server.findings import model_findings, server_findings
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import REPOSITORY_INDEX

_AT_ONCE = 8


async def describe(engine: Engine) -> EngineProps:
    """Return the engine's properties; raises what its control calls raise."""
    server = await engine.server()
    names = await _ready_models(engine)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> tuple[ModelProps, ModelSchema | None]:
        async with limit:
            try:
                schema = await engine.schemas.get(name)
            except AdapterError as exc:
                return ModelProps(name=name, ready=False, dialect_reason=exc.message), None
        return describe_model(engine, schema, server.version), schema

    found = await asyncio.gather(*(one(name) for name in names))
    backends = sorted({version for _, schema in found if schema is not None for version in backend_versions(schema)})
    # What a model can do is declared where a model has it; these two are the server's own.
    capabilities: set[Capability] = set()
    if "model_repository" in server.extensions:
        capabilities.add(Capability.MODEL_CONTROL)
    if "system_shared_memory" in server.extensions and engine.settings.shared_memory:
        capabilities.add(Capability.SHARED_MEMORY)
    slots_total = _slots(model for model, _ in found)
    return EngineProps(
        engine="triton",
        engine_version=", ".join((f"{server.name} {server.version}".strip(), *backends)),
        capabilities=frozenset(capabilities.union(*(model.capabilities for model, _ in found))),
        models=tuple(model for model, _ in found),
        slots_total=slots_total,
        slots_free=None if slots_total is None else max(0, slots_total - engine.slots.in_flight),
        extensions=server.extensions,
        findings=server_findings(
            server.name, server.version, engine.settings, certificate_expires_at=engine.transport.certificate_expires_at
        ),
        certificate_expires_at=engine.transport.certificate_expires_at,
    )


def describe_model(engine: Engine, schema: ModelSchema, server_version: str = "") -> ModelProps:
    """Return what is known of one model: its dialect, why that one, and what it can do."""
    capabilities = {Capability.TENSORS, Capability.TENSOR_STREAM}
    if schema.scheduling == "sequence_batching":
        capabilities.add(Capability.SEQUENCES)
    dialect_name: str | None = None
    faults: tuple[Finding, ...] = ()
    uncertain: frozenset[Capability] = frozenset()
    try:
        choice = choose_dialect(schema, engine.override(schema.name))
    except Unsupported as exc:
        reason = exc.message
    except ConfigurationError as exc:
        # One model's wrong override must not hide the others.
        reason = exc.message
        faults = (Finding(severity="error", topic="model", message=reason, advice="correct the adapter's settings"),)
    else:
        dialect_name, reason = choice.dialect.name, choice.reason
        capabilities |= choice.dialect.capabilities(schema)
        uncertain = choice.dialect.uncertain(schema)
        sees = engine.sees_images(schema.name)
        if Capability.IMAGES in uncertain and sees is not None:
            uncertain -= {Capability.IMAGES}
            capabilities |= {Capability.IMAGES} if sees else set()
    capabilities.discard(Capability.CANCEL_HARD)
    mode = cancel_mode(schema)
    if mode == "hard":
        capabilities.add(Capability.CANCEL_HARD)
    failure = engine.failure_of(schema.name)
    return ModelProps(
        name=schema.name,
        versions=schema.versions,
        ready=failure is None,
        dialect=dialect_name,
        dialect_reason=reason,
        capabilities=frozenset(capabilities),
        uncertain=uncertain,
        cancel_mode=mode,
        max_batch_size=schema.max_batch_size or None,
        slots=schema.slots,
        inputs=tuple(_declared(spec, schema) for spec in schema.inputs.values()),
        outputs=tuple(_declared(spec, schema) for spec in schema.outputs.values()),
        findings=faults
        + model_findings(
            schema,
            frozenset(capabilities),
            server_version,
            reason=reason,
            failure=failure,
        ),
    )


def _slots(models: Iterable[ModelProps]) -> int | None:
    """Return the slots of all models together; `None` when one's are not known: it may take any number."""
    each = [model.slots for model in models if model.ready is not False]
    return sum(slots for slots in each if slots is not None) if each and None not in each else None


def _declared(spec: TensorSpec, schema: ModelSchema) -> Declared:
    shape = (-1, *spec.dims) if schema.batched else spec.dims
    return Declared(spec.name, spec.datatype, shape, spec.optional)


async def _ready_models(engine: Engine) -> list[str]:
    try:
        index = await engine.transport.control(
            REPOSITORY_INDEX, v2.RepositoryIndexRequest(ready=True), timeout_s=engine.settings.control_timeout_s
        )
    except AdapterError:
        return sorted(engine.named_models)  # restricted, or a v2 server that is no Triton
    return sorted({entry.name for entry in index.models if state_of(entry) in ("READY", "")} | engine.named_models)

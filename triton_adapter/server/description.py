"""What the engine is: its version, its models, what each of them speaks and what can be promised."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic

from adapter_api import (
    AccessError,
    AdapterError,
    Capability,
    ConfigurationError,
    EngineProps,
    Finding,
    ModelProps,
    Unsupported,
)
from adapter_api import TensorSpec as Declared
from triton_adapter.dialects import choose_dialect
from triton_adapter.engine.engine import Engine, Server, backend_versions, engine_version
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.server.findings import listing_findings, model_findings, server_findings
from triton_adapter.server.listing import list_models
from triton_adapter.wire.rpcs import SERVER_METADATA

DESCRIBED_AT_MOST = 100
"""Models that are asked what they declare; of more only the names are told."""
_AT_ONCE = 8
_SHARE = 0.6
"""How much of the time for control calls the asking may take, so that there is an answer at all."""


async def describe(engine: Engine) -> EngineProps:
    """Return the engine's properties; raises what its control calls raise."""
    until = monotonic() + engine.settings.control_timeout_s * _SHARE
    server = await engine.server()
    listing = await list_models(engine)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> tuple[ModelProps, ModelSchema] | None:
        async with limit:
            try:
                async with asyncio.timeout(max(until - monotonic(), 0)):
                    schema = await engine.schemas.get(name)
            except TimeoutError:
                return None
            except AdapterError as exc:
                return _undescribed(name, exc.message, ready=False), ModelSchema(name, {}, {})
        return describe_model(engine, schema, server), schema

    chosen = listing.first(DESCRIBED_AT_MOST)
    found = dict(zip(chosen, await asyncio.gather(*(one(name) for name in chosen)), strict=True))
    described = [each for each in found.values() if each is not None]
    if chosen and not described:
        # The engine answers who it is, and nothing about any of its models: that is no description.
        await engine.schemas.get(chosen[0])
    left_out = [name for name in listing.names if found.get(name) is None]
    why = "not asked what it declares: the server has too many models for that"
    models = [each for each, _ in described]
    models += [_undescribed(name, why, ready=name in listing.ready or None) for name in left_out]
    backends = sorted({version for _, schema in described for version in backend_versions(schema)})
    # What a model can do is declared where a model has it; these two are the server's own.
    capabilities: set[Capability] = set()
    if "model_repository" in server.extensions:
        capabilities.add(Capability.MODEL_CONTROL)
    if "system_shared_memory" in server.extensions and engine.settings.shared_memory:
        capabilities.add(Capability.SHARED_MEMORY)
    # Of an engine that may have other models the sum says nothing.
    slots_total = _slots(models) if listing.complete else None
    return EngineProps(
        engine="triton",
        engine_version=engine_version(server, backends),
        capabilities=frozenset(capabilities.union(*(model.capabilities for model in models))),
        models=tuple(sorted(models, key=lambda model: model.name)),
        models_listed=listing.complete,
        slots_total=slots_total,
        slots_free=None if slots_total is None else max(0, slots_total - engine.slots.in_flight),
        extensions=server.extensions,
        findings=(
            *server_findings(
                server.name,
                server.version,
                engine.settings,
                refusal=_refusal(engine),
                certificate_expires_at=engine.transport.certificate_expires_at,
                carried_by=engine.transport.kind,
            ),
            *listing_findings(listing.why_not, empty=listing.empty, asked=len(listing.names), described=len(described)),
        ),
        transport=engine.transport.kind,
        certificate_expires_at=engine.transport.certificate_expires_at,
    )


async def describe_one(engine: Engine, model: str) -> ModelProps:
    """Return what is known of one model, asked for by name. Raises what asking it raises."""
    schema = await engine.schemas.get(model)
    return describe_model(engine, schema, await engine.server())


def describe_model(engine: Engine, schema: ModelSchema, server: Server) -> ModelProps:
    """Return what is known of one model: its dialect, why that one, and what it can do."""
    capabilities = {Capability.TENSORS}
    if schema.configured:
        # Servers that tell no configuration answer once, whatever the model.
        capabilities.add(Capability.TENSOR_STREAM)
    if schema.scheduling == "sequence_batching" and not (
        schema.decoupled and Capability.TENSOR_STREAM in engine.transport.traits.lacks
    ):
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
        capabilities |= choice.capabilities(schema)
        uncertain = choice.dialect.uncertain(schema)
        sees = engine.sees_images(schema.name)
        if Capability.IMAGES in uncertain and sees is not None:
            uncertain -= {Capability.IMAGES}
            capabilities |= {Capability.IMAGES} if sees else set()
    capabilities -= engine.transport.traits.lacks.keys() | {Capability.CANCEL_HARD}
    mode = engine.cancel_mode(schema)
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
        # The convention of ultralytics, whose own client reads it too; Triton's backends copy no metadata of a file.
        metadata=schema.parameters.get("metadata") or None,
        inputs=tuple(_declared(spec, schema) for spec in schema.inputs.values()),
        outputs=tuple(_declared(spec, schema) for spec in schema.outputs.values()),
        findings=faults
        + model_findings(
            schema,
            frozenset(capabilities),
            server.version if server.name == "triton" else "",
            reason=reason,
            failure=failure,
            mode=mode,
            traits=engine.transport.traits,
            shares_memory=engine.settings.shared_memory,
            override=engine.override(schema.name),
        ),
    )


def _slots(models: Iterable[ModelProps]) -> int | None:
    """Return the slots of all models together; `None` when one's are not known: it may take any number."""
    each = [model.slots for model in models if model.ready is not False]
    return sum(slots for slots in each if slots is not None) if each and None not in each else None


def _refusal(engine: Engine) -> str:
    refusal = engine.offers.why_not(SERVER_METADATA)
    return refusal.message if isinstance(refusal, AccessError) else ""


def _undescribed(name: str, why: str, *, ready: bool | None) -> ModelProps:
    return ModelProps(name=name, ready=ready, dialect_reason=why)


def _declared(spec: TensorSpec, schema: ModelSchema) -> Declared:
    shape = (-1, *spec.dims) if schema.batched else spec.dims
    return Declared(spec.name, spec.datatype, shape, spec.optional)

"""Looking at settings without serving: would everything in them be accepted?"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

import anyio
import msgspec
from pydantic import BaseModel, ValidationError

from adapter_api import AdapterError, AdapterPlugin, ConfigurationError, PluginHost, WorkerAdapter
from adapter_kit.chat_template import Template, read_chat_template
from adapter_kit.installing import install_extra
from adapter_kit.told_apart import calls_told, thoughts_told
from orchestrator.config import Loaded, ServerSettings, TlsSettings, TracingSettings
from orchestrator.config.settings import PoolSettings, ReplicaSettings
from orchestrator.pools.embedding import embeddings_fault
from orchestrator.pools.fleet import plugin_for
from orchestrator.pools.names import Names

_ASKED_S = 10.0
_SHOWN = 20
_NONE_IN_PARTICULAR = {"id": "r0", "adapter": "none"}
"""A replica that stands in where a part of a pool is looked at that has nothing to do with any."""


_Settings = TypeVar("_Settings", bound=BaseModel)


class ReplicaSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One replica that the settings describe; `options` are the names of its options, not their values."""

    pool_id: str
    replica_id: str
    adapter: str
    options: str
    served_as: dict[str, tuple[str, ...]]
    """The names of the engine's models here, by the engine's own."""


class PoolSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One pool that the settings describe. `traffic_percent` is its share of what all pools could serve alike."""

    pool_id: str
    weight: int
    traffic_percent: float
    shadow_of: str | None
    shadow_percent: float | None
    models: tuple[str, ...]
    tool_calls: str | None
    """How tool calls are told from text, and why so; `None` where the pool makes no prompts."""
    thoughts: str | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a host with these settings would be."""

    path: str | None
    host: str
    port: int
    access: str
    pools: tuple[PoolSummary, ...]
    replicas: tuple[ReplicaSummary, ...]


def check_settings(loaded: Loaded, plugins: PluginHost) -> Summary:
    """Return what the settings describe; nothing is opened, and no engine is asked.

    Raises:
        ConfigurationError: An adapter, its options, a template or a certificate cannot be had; all faults at once.
    """
    settings, faults, replicas = loaded.settings, [], []
    for pool in settings.pools:
        faults += _template_faults(pool)
        for replica in pool.replicas:
            found = _replica_faults(plugins, pool, replica, settings.read_environment)
            faults += found
            if not found:
                replicas.append(_replica(pool, replica, plugin_for(plugins, pool, replica).name))
    faults += [*_tls_faults(settings.server.tls), *_tracing_faults(settings.tracing)]
    if faults:
        raise ConfigurationError("the settings cannot be served:\n  " + "\n  ".join(faults))
    return Summary(
        path=str(loaded.path) if loaded.path else None,
        host=settings.server.host,
        port=settings.server.port,
        access=_access(settings.server),
        pools=tuple(_pools(settings.pools)),
        replicas=tuple(replicas),
    )


def faults_beside(fields: Mapping[str, Any], plugins: PluginHost) -> list[str]:
    """Return what `check_settings` would find in those parts of settings that are right in themselves, where others are
    not: they were refused as they are, and `fields` is what was read."""
    reads_environment = fields.get("read_environment") is not False
    faults: list[str] = []
    for pool in _tables(fields.get("pools")):
        part = _only(pool, "id", "chat_template", "chat_template_kwargs")
        if (described := _valid(PoolSettings, {**part, "replicas": [_NONE_IN_PARTICULAR]})) is not None:
            faults += _template_faults(described)
        for replica in _tables(pool.get("replicas")):
            part = {**_only(pool, "id", "adapter"), "replicas": [replica]}
            if (described := _valid(PoolSettings, part)) is not None:
                faults += _replica_faults(plugins, described, described.replicas[0], reads_environment)
    server = next(_tables([fields.get("server")]), {})
    faults += _tls_faults(_valid(TlsSettings, server.get("tls")))
    if (tracing := _valid(TracingSettings, fields.get("tracing"))) is not None:
        faults += _tracing_faults(tracing)
    return faults


def _tables(values: object) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in (values if isinstance(values, list) else ()) if isinstance(each, dict))


def _only(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: table[key] for key in keys if key in table}


def _valid(kind: type[_Settings], fields: object) -> _Settings | None:
    try:
        return kind.model_validate(fields)
    except ValidationError:
        return None


async def engine_faults(loaded: Loaded, plugins: PluginHost) -> list[str]:
    """Return what the settings say of engines that these deny, each of which is asked: that it answers, has the tensors
    that `embeddings` names, and that each of a pool's `models` is one of an engine's."""
    faults: list[str] = []
    settings = loaded.settings
    for pool in settings.pools:
        told: list[set[str]] = []
        for replica in pool.replicas:
            place = f"replica {replica.id!r} of pool {pool.id!r}"
            try:
                adapter = _create(plugin_for(plugins, pool, replica), replica, settings.read_environment)
                with anyio.fail_after(_ASKED_S):
                    async with adapter:
                        props = Names(pool.served_as, replica.served_as).props(await adapter.props())
            except AdapterError as exc:
                faults.append(f"{place}: {exc.message}")
                continue
            except TimeoutError:
                faults.append(f"{place}: it did not answer within {_ASKED_S:g} s")
                continue
            told.append({model.name for model in props.models})
            served = [model for model in props.models if not pool.models or model.name in pool.models]
            if (fault := embeddings_fault(served, pool.embeddings)) is not None:
                faults.append(f"{place}, embeddings: {fault}")
        if len(told) == len(pool.replicas) and all(told):  # an engine that lists no models may have any
            known = set().union(*told)
            if missing := [name for name in pool.models if name not in known]:
                lacking = ", ".join(missing)
                faults.append(f"pool {pool.id!r}, models: no replica has {lacking}; there are {_some(known)}")
    return faults


def _some(names: set[str]) -> str:
    known = sorted(names)
    return ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")


def _create(plugin: AdapterPlugin, replica: ReplicaSettings, read_environment: bool) -> WorkerAdapter:
    return plugin.create(replica.adapter_options, environ=os.environ if read_environment else None)


def _template(pool: PoolSettings) -> Template:
    return read_chat_template(pool.chat_template, pool.chat_template_kwargs)


def _pools(pools: tuple[PoolSettings, ...]) -> Iterator[PoolSummary]:
    total = sum(pool.weight for pool in pools if pool.shadow_of is None)
    for pool in pools:
        shadows = pool.shadow_of is not None
        template = None if pool.chat_template is None else _template(pool)
        yield PoolSummary(
            pool_id=pool.id,
            weight=pool.weight,
            traffic_percent=0.0 if shadows or not total else 100 * pool.weight / total,
            shadow_of=pool.shadow_of,
            shadow_percent=pool.shadow_percent if shadows else None,
            models=pool.models,
            tool_calls=None if template is None else str(calls_told(pool.tool_parser, template)),
            thoughts=None if template is None else str(thoughts_told(pool.reasoning_parser, template)),
        )


def _replica(pool: PoolSettings, replica: ReplicaSettings, adapter: str) -> ReplicaSummary:
    names = Names(pool.served_as, replica.served_as)
    return ReplicaSummary(
        pool_id=pool.id,
        replica_id=replica.id,
        adapter=adapter,
        options=", ".join(sorted(replica.adapter_options)),
        served_as={own: names.public(own) for own in sorted({*names.given.values()})},
    )


def _access(server: ServerSettings) -> str:
    where = "this machine only" if server.is_loopback else "other machines too"
    keys = {0: "no API keys", 1: "1 API key"}.get(len(server.api_keys), f"{len(server.api_keys)} API keys")
    return f"{where}, {keys}, {'TLS' if server.tls else 'no TLS'}"


def _template_faults(pool: PoolSettings) -> list[str]:
    try:
        _template(pool)
    except AdapterError as exc:
        return [f"pool {pool.id!r}, chat_template: {exc.message}"]
    return []


def _replica_faults(
    plugins: PluginHost, pool: PoolSettings, replica: ReplicaSettings, read_environment: bool
) -> list[str]:
    place = f"replica {replica.id!r} of pool {pool.id!r}"
    try:
        _create(plugin_for(plugins, pool, replica), replica, read_environment)
    except AdapterError as exc:
        return [exc.message if exc.message.startswith(place) else f"{place}: {exc.message}"]
    return []


def _tls_faults(tls: TlsSettings | None) -> list[str]:
    if tls is None:
        return []
    files = {"certificate": tls.certificate, "key": tls.key}
    unread = {name: path for name, path in files.items() if not os.access(path, os.R_OK)}
    if unread:
        return [f"server.tls.{name}: {path} is no file that can be read" for name, path in unread.items()]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
    except OSError as exc:  # ssl.SSLError is one
        return [f"server.tls: the certificate or key cannot be used: {exc.strerror or exc}"]
    return []


def _tracing_faults(tracing: TracingSettings) -> list[str]:
    if not tracing.enabled:
        return []
    try:
        import_module("orchestrator.observability.tracing")
    except ImportError as exc:
        return [f"tracing.enabled needs {exc.name}, which is not installed: run `{install_extra('otel')}`"]
    return []

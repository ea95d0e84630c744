"""What an entry point would name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from adapter_api import AdapterPlugin, Capability, hookimpl

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

RECORD = AdapterPlugin(
    name="reference",
    adapter="conformance_tests.reference.adapter:ReferenceAdapter",
    settings="conformance_tests.reference.adapter:ReferenceSettings",
    api_version="1.0",
    summary="an adapter that keeps every requirement, without an engine",
    capabilities=frozenset(Capability),
    harness="conformance_tests.reference.harness:ReferenceHarness",
)


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return RECORD


@hookimpl
def worker_adapter_collectors() -> Iterable[Collector]:
    from prometheus_client import Counter

    return [Counter("reference_tasks", "Tasks sent to the engine.", ["engine", "model_id"], registry=None)]

"""Its metrics have a label without bound."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter
from prometheus_client.registry import Collector

from adapter_api import hookimpl
from conformance_tests.reference.plugin import worker_adapter_register

__all__ = ["worker_adapter_collectors", "worker_adapter_register"]


@hookimpl
def worker_adapter_collectors() -> Iterable[Collector]:
    return [Counter("reference_tasks", "Tasks sent to the engine.", ["engine", "job_id"], registry=None)]

"""Its metrics have the labels that they may have, and the name of each task for a value."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter
from prometheus_client.registry import Collector

from adapter_api import hookimpl
from conformance_tests.reference.plugin import worker_adapter_register

__all__ = ["TASKS", "worker_adapter_collectors", "worker_adapter_register"]

TASKS = Counter("reference_tasks", "Tasks sent to the engine.", ["engine", "model_id"], registry=None)


@hookimpl
def worker_adapter_collectors() -> Iterable[Collector]:
    return [TASKS]

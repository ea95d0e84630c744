"""The engines' own Prometheus metrics, fetched, given our labels, and exported beside ours.

They are fetched when ours are read, so that nothing runs when nobody looks. An engine that does not answer, or answers
nonsense, costs `TIMEOUT_S` at most and is told by `worker_adapter_engine_metrics_up`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self

import anyio
import httpx
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from orchestrator.metrics import PREFIX, REPLICA_LABELS
from orchestrator.pools import Pool
from orchestrator.replica import Replica

_log = logging.getLogger("orchestrator.metrics")

TIMEOUT_S = 1.0
MAX_BYTES = 4 * 2**20
MAX_SAMPLES = 5000
"""Series taken from one replica; an engine with more is cut short, and the log says so."""
_MODEL_LABELS = ("model", "model_name")
_KEPT = frozenset({"le", "quantile", "reason", "gpu_uuid"})
"""Labels of the engine that stay, besides those that end in `_type`: closed sets, or the machine's hardware."""
_MAX_VALUE = 128

Labels = Mapping[str, str]


class EngineMetrics(Collector):
    """Collects what `fetch` found last. Open it before use; `fetch` is called by whoever reads the metrics."""

    def __init__(self) -> None:
        self._families: dict[tuple[str, str], list[Metric]] = {}
        self._up: dict[tuple[str, ...], bool] = {}
        self._client: httpx.AsyncClient | None = None
        self._fetching = anyio.Lock()

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def fetch(self, pools: Iterable[Pool]) -> None:
        """Ask every replica that has a `metrics_url`, all at once. Never raises."""
        asked = [(pool, replica) for pool in pools for replica in pool.replicas.values() if replica.settings.metrics_url]
        async with self._fetching:
            self._families, self._up = {}, {}
            if self._client is None:
                return
            async with anyio.create_task_group() as group:
                for pool, replica in asked:
                    group.start_soon(self._fetch_one, self._client, pool, replica)

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            f"{PREFIX}_engine_metrics_up", "1 when the engine's own metrics were read", labels=REPLICA_LABELS
        )
        for labels, is_up in self._up.items():
            up.add_metric(labels, float(is_up))
        yield up
        yield from _joined(self._families.values())

    async def _fetch_one(self, client: httpx.AsyncClient, pool: Pool, replica: Replica) -> None:
        labels = dict(
            zip(REPLICA_LABELS, (replica.engine, replica.engine_version or "", pool.id, replica.id), strict=True)
        )
        url = replica.settings.metrics_url
        assert url is not None
        try:
            with anyio.fail_after(TIMEOUT_S):
                text = await _read(client, url)
            self._families[pool.id, replica.id] = list(relabelled(text, labels, pool.models))
        except (httpx.HTTPError, TimeoutError, ValueError) as exc:
            # By its type alone: the URL may hold a password.
            _log.warning("the metrics of replica %s/%s cannot be read: %s", pool.id, replica.id, type(exc).__name__)
        self._up[tuple(labels.values())] = (pool.id, replica.id) in self._families


def relabelled(text: str, labels: Labels, models: Iterable[str]) -> Iterator[Metric]:
    """Yield an engine's metric families with our labels; raises `ValueError` when `text` holds none.

    The engine's name of a model becomes `model_id`, when a replica has that model. Labels that nobody bounds are left
    out, and series that are the same without them are added up.
    """
    known, left = frozenset(models), MAX_SAMPLES
    for family in text_string_to_metric_families(text):
        sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for sample in family.samples:
            key = (sample.name, tuple(_bounded(sample.labels, labels, known).items()))
            before = sums.get(key)
            if before is None:
                sums[key] = sample.value
            else:  # quantiles cannot be added: the worse one is told
                sums[key] = max(before, sample.value) if "quantile" in sample.labels else before + sample.value
        left -= len(sums)
        if left < 0:
            _log.warning("replica %s/%s exports more than %d series", labels["pool_id"], labels["replica_id"], MAX_SAMPLES)
            return
        # Engines name counters without `_total`, which our text form would put there: such a series has no type.
        kind = "unknown" if family.type == "counter" else family.type
        relabelled_family = Metric(family.name, family.documentation, kind)
        relabelled_family.samples = [Sample(name, dict(pairs), value) for (name, pairs), value in sums.items()]
        yield relabelled_family


def _bounded(found: Labels, ours: Labels, models: frozenset[str]) -> dict[str, str]:
    bounded = dict(ours)
    for name in _MODEL_LABELS:
        if name in found:
            bounded["model_id"] = found[name] if found[name] in models else ""
    for name, value in found.items():
        if name in _KEPT or name.endswith("_type"):
            bounded[name] = value[:_MAX_VALUE]
    return bounded


def _joined(replicas: Iterable[list[Metric]]) -> Iterator[Metric]:
    """Bring the families of several replicas together: each may be exported once only."""
    families: dict[str, Metric] = {}
    for family in (family for found in replicas for family in found):
        if family.name.startswith(PREFIX):
            continue  # an engine behind another orchestrator: its series would pass for ours
        joined = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        joined.samples += family.samples
    yield from families.values()


async def _read(client: httpx.AsyncClient, url: str) -> str:
    body = bytearray()
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > MAX_BYTES:
                raise ValueError("too long")
    return body.decode()

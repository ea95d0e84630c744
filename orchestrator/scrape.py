"""The engines' own metrics, exported beside ours under the same labels."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from time import monotonic
from urllib.error import URLError
from urllib.request import urlopen

import anyio
import anyio.to_thread
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from orchestrator.replica import Replica

_log = logging.getLogger("orchestrator.scrape")

FETCH_S = 5.0
FETCH_LIMIT = 8 * 2**20
_OURS = ("engine", "engine_version", "pool_id", "replica_id", "model_id")
_TRTLLM = re.compile(r"(?:trtllm|tensorrt.?llm)\s+([\w.+-]+)", re.IGNORECASE)


class EngineMetrics(Collector):
    """Reads replicas' metrics from time to time and exports what was read last; what is too old is left out."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._read: dict[Replica, tuple[float, list[Metric]]] = {}

    def describe(self) -> Iterable[Metric]:
        """Nothing is known of them in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        oldest = monotonic() - 3 * self._interval_s - FETCH_S
        for read_at, metrics in self._read.values():
            for metric in metrics if read_at >= oldest else ():
                family = families.get(metric.name)
                if family is None:
                    family = families[metric.name] = Metric(metric.name, metric.documentation, metric.type)
                family.samples.extend(metric.samples)
        return iter(families.values())

    async def watch(self, replica: Replica, url: str) -> None:
        """Read `url` until the replica retires. An engine that cannot be read is left out, and nothing else."""
        told = False
        with anyio.move_on_after(self._interval_s):
            await replica.probed.wait()  # which tells the version that is among the labels
        try:
            while not replica.retired.is_set():
                try:
                    text = await anyio.to_thread.run_sync(_fetch, url, abandon_on_cancel=True)
                    self._read[replica] = (monotonic(), list(relabelled(text, replica)))
                    told = False
                except (OSError, URLError, HTTPException, ValueError) as exc:
                    if not told:
                        _log.warning(
                            "cannot read the metrics of replica %s/%s: %s", replica.pool_id, replica.id,
                            type(exc).__name__,
                        )  # fmt: skip
                    told = True
                with anyio.move_on_after(self._interval_s):
                    await replica.retired.wait()
        finally:
            self._read.pop(replica, None)


def relabelled(text: str, replica: Replica) -> Iterator[Metric]:
    """Yield the metrics of an exposition under our labels: `model` becomes `model_id`; its other labels stay.

    Raises:
        ValueError: It is no exposition of Prometheus metrics.
    """
    version = replica.engine_version or ""
    ours = {"engine": replica.engine, "engine_version": version, "pool_id": replica.pool_id, "replica_id": replica.id}
    trtllm = _TRTLLM.search(version)
    for family in text_string_to_metric_families(text):
        more = {"trtllm_version": trtllm[1]} if trtllm and family.name.startswith("nv_trt_llm") else {}
        # Triton's counters do not end in `_total`: the parser makes them, and they would not be found under their name.
        bare = family.type == "counter" and f"{family.name}_total" not in text
        metric = Metric(family.name, family.documentation, "unknown" if bare else family.type)
        metric.samples = [
            Sample(family.name if bare else sample.name, {**_renamed(sample.labels), **ours, **more}, sample.value)
            for sample in family.samples
        ]
        yield metric


def _renamed(labels: dict[str, str]) -> dict[str, str]:
    renamed = {f"exported_{name}" if name in _OURS else name: value for name, value in labels.items()}
    if "model" in renamed:
        renamed["model_id"] = renamed.pop("model")
    return renamed


def _fetch(url: str) -> str:
    with urlopen(url, timeout=FETCH_S) as response:
        body: bytes = response.read(FETCH_LIMIT)
    return body.decode(errors="replace")

"""The engines' own metrics, read from time to time and exported beside ours; `relabel.py` says under which labels."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from time import monotonic
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import anyio
import anyio.to_thread
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator.observability.relabel import Origin, Relabelled, relabelled
from orchestrator.pools.replica import Replica

_log = logging.getLogger("orchestrator.observability.scrape")

FETCH_S = 5.0
"""How long an engine may take to tell its metrics."""
FETCH_LIMIT = 8 * 2**20
_CHUNK = 2**16


class EngineMetrics(Collector):
    """Reads replicas' metrics from time to time and exports what was read last; what is too old is left out."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._read: dict[Replica, tuple[float, Relabelled]] = {}

    def describe(self) -> Iterable[Metric]:
        """Nothing is known of them in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        left_out = GaugeMetricFamily(
            "worker_adapter_engine_series_left_out", "Series of an engine's own metrics that are not exported",
            labels=("pool_id", "replica_id", "reason"),
        )  # fmt: skip
        oldest = monotonic() - 3 * self._interval_s - 2 * FETCH_S
        for replica, (read_at, read) in self._read.items():
            if read_at < oldest:
                continue
            for metric in read.metrics:
                family = families.get(metric.name)
                if family is None:
                    family = families[metric.name] = Metric(metric.name, metric.documentation, metric.type)
                family.samples.extend(metric.samples)
            for reason, count in read.left_out.items():
                left_out.add_metric((replica.pool_id, replica.id, reason), count)
        if left_out.samples:
            yield left_out
        yield from families.values()

    async def watch(self, replica: Replica, url: str) -> None:
        """Read `url` until the replica retires. An engine that cannot be read is left out, and nothing else."""
        told: str | None = None
        failed, where = False, f"replica {replica.pool_id}/{replica.id}"
        # The first probe tells the version and the models that are among the labels: without it these would be others.
        while not (replica.probed.is_set() or replica.retired.is_set()):
            with anyio.move_on_after(self._interval_s):
                await replica.probed.wait()
        try:
            while not replica.retired.is_set():
                try:
                    # Parsing too: a large engine's metrics would hold up every task for a second.
                    read = await anyio.to_thread.run_sync(_read, url, _origin(replica), abandon_on_cancel=True)
                except (OSError, URLError, HTTPException, ValueError) as exc:
                    news = f"cannot read the metrics of {where}: {_why(exc)} (look at its metrics_url)"
                    failed = True
                else:
                    self._read[replica] = (monotonic(), read)
                    replica.waiting_in_engine = read.waiting
                    news = _left_out(replica, read)
                    if failed:
                        _log.info("the metrics of %s are read again", where)
                    failed = False
                if news and news != told:
                    _log.warning("%s", news)
                told = news
                with anyio.move_on_after(self._interval_s):
                    await replica.retired.wait()
        finally:
            self._read.pop(replica, None)


def _why(exc: Exception) -> str:
    """Return why metrics could not be read, without the URL, which may hold a secret."""
    if isinstance(exc, HTTPError):
        return f"it answers {exc.code}"
    cause = exc.reason if isinstance(exc, URLError) else exc
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return text or type(exc).__name__


def _origin(replica: Replica) -> Origin:
    return Origin(
        engine=replica.engine,
        engine_version=replica.engine_version or "",
        pool_id=replica.pool_id,
        replica_id=replica.id,
        models=frozenset(replica.models),
        names=replica.names.by_own,
    )


def _left_out(replica: Replica, read: Relabelled) -> str:
    """Return a sentence about what is not exported; empty when everything is. It names no counts, which change."""
    if not read.left_out:
        return ""
    reasons = {
        "model": "are of models that it does not have", "name": "are named like the host's own",
        "limit": "are more than one replica may have", "twice": "are told twice",
        "label": "have labels that are not passed on" + "".join(f" {name!r}" for name in read.unknown_labels),
    }  # fmt: skip
    why = ", or ".join(reasons[reason] for reason in sorted(read.left_out))
    return f"metrics of replica {replica.pool_id}/{replica.id} are left out: some {why}"


def _read(url: str, origin: Origin) -> Relabelled:
    try:
        text = _fetch(url)
    except HTTPError as exc:
        exc.close()  # it is the answer, too
        raise
    try:
        return relabelled(text, origin)
    except ValueError as exc:  # its own text quotes what was read
        raise ValueError("what is told there are no metrics") from exc


def _fetch(url: str) -> str:
    ends, chunks, size = monotonic() + FETCH_S, [], 0
    with urlopen(url, timeout=FETCH_S) as response:
        while chunk := response.read1(_CHUNK):
            size += len(chunk)
            if size > FETCH_LIMIT:
                raise ValueError(f"more than {FETCH_LIMIT} bytes")
            if monotonic() > ends:
                raise TimeoutError(f"not told within {FETCH_S:g} s")
            chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace")

"""An engine's own metrics under the host's labels, within a budget. No I/O.

An engine may have any labels with any values, a request's name among them; each new value is a series that a
Prometheus keeps for weeks. So only labels are passed on whose values are few in the engines there are, models must be
those that the replica has, and the number of series is limited. What is left out is counted by reason.

A label that has the name of one of ours is renamed as Prometheus does it: `engine` becomes `exported_engine`, so that
series that differ in nothing else stay apart
(https://prometheus.io/docs/prometheus/latest/configuration/configuration/#scrape_config, `honor_labels`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from math import isfinite

import msgspec
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

SERIES_LIMIT = 10_000
"""Series of one replica that are passed on at most."""
VALUE_LIMIT = 256
"""Characters of a label's value at most."""

OURS = ("engine", "engine_version", "pool_id", "replica_id", "model_id")
PASSED_ON = frozenset({
    "version", "gpu_uuid", "reason", "le", "quantile",  # Triton's
    "request_type", "memory_type", "kv_cache_block_type", "inflight_batcher_specific_metric", "v1_specific_metric",
    "general_type", "disaggregated_serving_type", "response_metric_type",  # of its TensorRT-LLM backend
    "finished_reason",  # vLLM's
})  # fmt: skip
"""Labels of engines that are passed on, beside the model's name."""
_MODEL = ("model", "model_name")
"""Labels that name the model; the first that a series has becomes `model_id`."""
_WAITING: Mapping[str, Mapping[str, str]] = {
    "nv_inference_pending_request_count": {},
    "nv_trt_llm_request_metrics": {"request_type": "waiting"},
    "vllm:num_requests_waiting": {},
    "llamacpp:requests_deferred": {},
    "tgi_queue_size": {},
}
"""Gauges of the requests that wait in an engine, and the labels of the series that counts them."""
_EXPORTED = "exported_"
_OWN_PREFIX = "worker_adapter_"
_TRTLLM = re.compile(r"(?:trtllm|tensorrt.?llm)\s+([\w.+-]+)", re.IGNORECASE)


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where metrics come from."""

    engine: str
    engine_version: str
    pool_id: str
    replica_id: str
    models: frozenset[str]
    """The models that the replica has; empty when it does not tell, and then any model is passed on."""
    names: Mapping[str, str] = {}
    """What the host calls models that the engine calls otherwise; empty for one that it offers under no name."""


class Relabelled(msgspec.Struct, frozen=True, kw_only=True):
    """What is passed on, and how many series are not: `label`, `model`, `name`, `twice`, `limit` say why."""

    metrics: tuple[Metric, ...]
    left_out: dict[str, int]
    waiting: int | None
    """Requests that wait in the engine; `None` where it has no gauge of them that is known here."""
    unknown_labels: tuple[str, ...]
    """Some of the labels because of which series were left out."""


def relabelled(text: str, origin: Origin, *, limit: int = SERIES_LIMIT) -> Relabelled:
    """Return the metrics of an exposition under our labels: `model` becomes `model_id`.

    Raises:
        ValueError: It is no exposition of Prometheus metrics.
    """
    left_out: Counter[str] = Counter()
    unknown: dict[str, None] = {}
    metrics, series = [], 0
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    waiting: int | None = None
    for family in text_string_to_metric_families(text):
        if (wanted := _WAITING.get(family.name)) is not None:
            told = [sample.value for sample in family.samples if wanted.items() <= sample.labels.items()]
            waiting = (waiting or 0) + sum(int(value) for value in told if isfinite(value) and value >= 0)
        if family.name.startswith(_OWN_PREFIX):
            left_out["name"] += len(family.samples)
            continue
        # Triton's counters do not end in `_total`: the parser makes them, and they would not be found under their name.
        bare = family.type == "counter" and f"{family.name}_total" not in text
        metric = Metric(family.name, family.documentation, "unknown" if bare else family.type)
        more = _more(origin, family.name)
        for sample in family.samples:
            theirs = _as_offered(sample.labels, origin.names)
            labels = _labels(theirs, more)
            key = (sample.name, frozenset(labels.items()))
            reason = _why_not(theirs, origin.models, unknown)
            reason = reason or ("twice" if key in seen else "limit" if series >= limit else "")
            if reason:
                left_out[reason] += 1
                continue
            seen.add(key)
            series += 1
            metric.samples.append(Sample(family.name if bare else sample.name, labels, sample.value))
        if metric.samples:
            metrics.append(metric)
    return Relabelled(
        metrics=tuple(metrics), left_out=dict(left_out), waiting=waiting, unknown_labels=tuple(_few(unknown))
    )


def _as_offered(labels: dict[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Return a series' labels with its model called as the host calls it."""
    named = _model_label(labels) if names else None
    return labels if named is None else {**labels, named: names.get(labels[named], labels[named])}


def _why_not(labels: Mapping[str, str], models: Collection[str], unknown: dict[str, None]) -> str:
    """Return why a series is left out; empty when it is passed on."""
    named = _model_label(labels)
    for name, value in labels.items():
        if name == named or name in _MODEL:
            if models and value not in models:
                return "model"
        elif name not in PASSED_ON and _original(name) not in OURS:
            unknown[name] = None
            return "label"
        if len(value) > VALUE_LIMIT:
            return "label"
    return ""


def _labels(theirs: Mapping[str, str], more: dict[str, str]) -> dict[str, str]:
    """Return a series' labels and ours; theirs make way where the names are the same."""
    ours, named = dict(more), _model_label(theirs)
    if named is not None:
        ours["model_id"] = theirs[named]
    rest = {name: value for name, value in theirs.items() if name != named}
    taken = {*ours, *rest}
    # The shorter first, as Prometheus does it: `engine` makes way for ours before `exported_engine` would for `engine`.
    for name in sorted((name for name in rest if name in ours or name in _MODEL), key=len):
        renamed = "model_id" if name in _MODEL else name
        while renamed in taken:
            renamed = _EXPORTED + renamed
        taken.add(renamed)
        rest[renamed] = rest.pop(name)
    return {**rest, **ours}


def _model_label(labels: Mapping[str, str]) -> str | None:
    return next((name for name in (*_MODEL, "model_id") if name in labels), None)


def _original(name: str) -> str:
    while name.startswith(_EXPORTED):
        name = name.removeprefix(_EXPORTED)
    return name


def _more(origin: Origin, family: str) -> dict[str, str]:
    labels = {
        "engine": origin.engine, "engine_version": origin.engine_version, "pool_id": origin.pool_id,
        "replica_id": origin.replica_id,
    }  # fmt: skip
    if family.startswith("nv_trt_llm") and (trtllm := _TRTLLM.search(origin.engine_version)):
        labels["trtllm_version"] = trtllm[1]
    return labels


def _few(names: dict[str, None]) -> Iterator[str]:
    for name, _ in zip(names, range(5), strict=False):
        yield name[:VALUE_LIMIT]

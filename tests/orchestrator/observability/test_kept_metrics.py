"""What is kept without the client library's children reads as if it were theirs."""

from __future__ import annotations

import re
from random import Random

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from orchestrator.observability.kept_metrics import Counters, Histograms

no_spec = "how what other requirements count is kept"

BOUNDS = (0.001, 0.5, 1, 2.5)
CREATED = re.compile(r"^(\w+_created(?:{[^}]*})?) .*$", re.MULTILINE)


def without_times(page: bytes) -> str:
    return CREATED.sub(r"\1", page.decode())


def test_pages_are_those_of_the_client_library() -> None:
    ours, theirs, random = CollectorRegistry(), CollectorRegistry(), Random(7)
    counters = Counters(ours, "a_count", 'Says "how" often', ("pool", "outcome"))
    histograms = Histograms(ours, "a_time", "How long", ("pool",), BOUNDS)
    counter = Counter("a_count", 'Says "how" often', ("pool", "outcome"), registry=theirs)
    histogram = Histogram("a_time", "How long", ("pool",), registry=theirs, buckets=BOUNDS)
    assert without_times(generate_latest(ours)) == without_times(generate_latest(theirs))

    for _ in range(500):
        pool, outcome = random.choice(('p"1\n', "p2")), random.choice(("stop", "length"))
        more, value = random.randrange(4), random.choice((*BOUNDS, 0.0, 7.25, random.random()))
        counters.add((pool, outcome), more)
        counter.labels(pool, outcome).inc(more)
        histograms.observe((pool,), value)
        histogram.labels(pool).observe(value)

    for generate in (generate_latest, generate_openmetrics):
        assert without_times(generate(ours)) == without_times(generate(theirs))
    assert ours.get_sample_value("a_time_count", {"pool": "p2"}) == theirs.get_sample_value(
        "a_time_count", {"pool": "p2"}
    )


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    Counters(registry, "a_count", "", ())
    try:
        Counter("a_count", "", registry=registry)
    except ValueError:
        return
    raise AssertionError("two metrics of one name were taken")

"""What is wrong with an engine or a model, or will surprise somebody, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_api import Capability, Finding
from openai_adapter.engine.engine import Engine
from openai_adapter.engine.facts import Facts
from openai_adapter.engine.listing import Listing


def engine_findings(engine: Engine, listing: Listing, facts: Facts) -> tuple[Finding, ...]:
    """Return what there is to say of the engine as a whole."""
    return tuple(_engine_findings(engine, listing, facts))


def _engine_findings(engine: Engine, listing: Listing, facts: Facts) -> Iterator[Finding]:
    if listing.problem is not None:
        yield Finding(
            severity="warning",
            topic="model",
            message=f"which models it has is not known: {listing.problem.message}",
            advice="name the model in the setting `model`; transformers' server lists what is in its cache",
        )
    elif not listing.cards:
        yield Finding(
            severity="error",
            topic="model",
            message="the engine is up and lists no model",
            advice="wait until it has loaded one; Dynamo's frontend waits for a worker to register",
        )
    if engine.credentials.known and not engine.address.tls and not engine.address.loopback:
        yield Finding(
            severity="warning",
            topic="security",
            message="the API key travels in plain text",
            advice="use https://, or a network that nobody else listens to",
        )
    if facts.version is None:
        yield Finding(
            severity="hint",
            topic="version",
            message="the engine does not tell its version",
            advice="note it where you deploy it: answers may change with it",
        )
    if engine.settings.slots is None and facts.slots_total is None:
        yield Finding(
            severity="hint",
            topic="overload",
            message="the engine does not tell how many tasks it works on at once",
            advice="set `slots` to what it was started with (vLLM: --max-num-seqs), so that hosts can plan",
        )
    yield Finding(
        severity="hint",
        topic="cancel",
        message="a cancel closes the connection, which the engine sees when it next sends something",
        advice="nothing to do: tasks are always asked for as streams, whose clients engines watch",
    )


def model_findings(uncertain: frozenset[Capability]) -> tuple[Finding, ...]:
    """Return what there is to say of a model."""
    if Capability.SEED not in uncertain:
        return ()
    return (
        Finding(
            severity="hint",
            topic="determinism",
            message="nobody can tell whether it heeds a seed before it is tried",
            advice='`worker-adapter determinism` tries it; where it does, say so: honours=["seed"]',
        ),
    )

"""Which of the adapters that serve a URL's scheme speaks to the engine there: tried one after another."""

from __future__ import annotations

from functools import partial

import anyio

from adapter_api import AdapterError, WorkerAdapter
from worker_adapter.checkup import Checkup, examine, with_note
from worker_adapter.engine_command import ChosenEngine

_LATE_S = 2.0
"""How much longer than it promises an examination may take."""


def examine_each(engine: ChosenEngine, *, canary: bool) -> Checkup:
    """Return what the first adapter found, in the order of their names, whose engine takes work; else the first that
    got an answer; else the first one's fault, with a hint at all of them.

    An adapter whose time is up is left: all of them together take the sum of their times at most.

    Raises:
        AdapterError: None of them can be used at all.
    """
    names = engine.claimants
    found: list[tuple[str, Checkup]] = []
    said: list[str] = []
    broken: AdapterError | None = None
    for name in names:
        try:
            chosen = engine.spoken_to_by(name)
            checkup = anyio.run(partial(_examine, chosen.adapter, engine.url, canary=canary, http=chosen.speaks_http))
        except AdapterError as exc:  # options that are another adapter's, or a library that is missing
            broken = broken or exc
            said.append(f"{name} cannot be used: {exc.message}")
            continue
        except Exception as exc:
            said.append(f"{name} broke with {type(exc).__name__}")
            continue
        if checkup is None:
            said.append(f"{name} came to no end in its time")
            continue
        found.append((name, checkup))
        said.append(f"{name} got {'an answer' if checkup.reachable else 'no answer'}")
        if checkup.reachable and checkup.health.ready:
            break
    if not found:
        raise broken or AdapterError(f"no adapter can examine it: {'; '.join(said)}")
    name, best = next(((name, each) for name, each in found if each.reachable), found[0])
    name, best = next(((name, each) for name, each in found if each.reachable and each.health.ready), (name, best))
    heard = f"{', '.join(names)} serve such URLs: {'; '.join(said)}"
    return with_note(best, heard, _advice(name, best, engine.url))


def _advice(name: str, found: Checkup, url: str | None) -> str:
    if found.reachable:
        return f"go on with --adapter {name}, as in `worker-adapter models --adapter {name} --url {url}`"
    return "correct the URL, or name the adapter with --adapter"


async def _examine(adapter: WorkerAdapter, url: str | None, *, canary: bool, http: bool) -> Checkup | None:
    with anyio.move_on_after(3 * adapter.control_timeout_s + _LATE_S):
        async with adapter:
            return await examine(adapter, url=url, canary=canary, http=http)
    return None

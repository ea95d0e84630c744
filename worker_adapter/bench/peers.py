"""Other clients of the same engine: those that are installed, speak what is spoken there, and can be told the same."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import msgspec

from adapter_api import InferRequest, ModelProps
from worker_adapter.bench.ours import TextOrder
from worker_adapter.bench.rounds import Contender
from worker_adapter.bench.samples import Answer

TRITONCLIENT = "tritonclient.grpc.aio"
OPENAI = "openai"


class NotRun(msgspec.Struct, frozen=True):
    """A peer that was not measured, and why."""

    name: str
    reason: str


class Unfit(Exception):
    """A peer cannot be asked for the same; the message says why."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What all clients are asked for: a text, or an inference."""

    model: ModelProps
    text: TextOrder | None = None
    request: InferRequest | None = None


_Open = Callable[[AsyncExitStack, str, Any, Asked], Awaitable[tuple[str, Callable[[], Awaitable[Answer]]]]]


async def open_peers(stack: AsyncExitStack, adapter: str, settings: Any, asked: Asked) -> list[Contender | NotRun]:
    """Return the peers for an engine that this adapter serves, those that are left out with the reason.

    Args:
        stack: Closes their connections.
        settings: The adapter's; nothing of it but the URL and a key is passed on.
    """
    return [await _open(stack, name, settings, asked) for name in peers_of(adapter)]


def peers_of(adapter: str) -> tuple[str, ...]:
    """Return the names of the clients that speak what this adapter's engines speak."""
    return {"triton": (TRITONCLIENT,), "openai": (OPENAI,)}.get(adapter, ())


async def _open(stack: AsyncExitStack, name: str, settings: Any, asked: Asked) -> Contender | NotRun:
    package = name.partition(".")[0]
    if find_spec(package) is None:
        pip = "tritonclient[grpc]" if package == "tritonclient" else package
        return NotRun(name, f"not installed: pip install '{pip}'")
    module = importlib.import_module(f"worker_adapter.bench.peer_{package}")
    open_peer: _Open = module.open_peer
    try:
        url = str(settings.url)
        note, ask = await open_peer(stack, url, settings, asked)
    except Unfit as exc:
        return NotRun(name, str(exc))
    except ImportError as exc:
        return NotRun(name, f"cannot be imported: it misses {exc.name or 'a part'}")
    return Contender(name, _sturdy(ask), note)


def _sturdy(ask: Callable[[], Awaitable[Answer]]) -> Callable[[], Awaitable[Answer]]:
    """Count what a peer raises, whatever it is: its faults must not end our measurement."""

    async def asked() -> Answer:
        began = perf_counter()
        try:
            return await ask()
        except Exception as exc:
            return Answer(perf_counter() - began, error=type(exc).__name__)

    return asked


def refuse_settings(settings: Any, names: tuple[str, ...]) -> None:
    """Raise `Unfit` where the engine is reached by settings that a peer is not told."""
    used = sorted(name for name in names if name in getattr(settings, "model_fields_set", ()))
    if used:
        raise Unfit(f"the settings {', '.join(used)} are not passed on to it")

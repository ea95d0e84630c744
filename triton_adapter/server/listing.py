"""Which models a server has, as far as it tells: its repository index, and whoever was asked for by name."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_api import AccessError, AdapterClosed, AdapterError, DeadlineExceeded, TransportError
from triton_adapter.engine.engine import Engine
from triton_adapter.engine.metadata import state_of
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import REPOSITORY_INDEX


@dataclass(frozen=True, slots=True)
class Listing:
    """Names of models. `complete` says whether the server told them itself, so that there are no others."""

    ready: frozenset[str]
    """Those that the server lists as ready."""
    named: frozenset[str]
    """Those that somebody asks for by name, whether the server lists them or not."""
    complete: bool
    why_not: str = ""
    """Why the server did not tell."""
    empty: bool = False
    """It told, and told of none."""

    @property
    def names(self) -> list[str]:
        return sorted(self.ready | self.named)

    def first(self, limit: int) -> list[str]:
        """Return so many names, of those that were asked for first."""
        return [*sorted(self.named), *sorted(self.ready - self.named)][:limit]


async def list_models(engine: Engine) -> Listing:
    """Return which models there are; raises what asking raises, unless it is that the server does not tell."""
    named = frozenset(engine.named_models)
    try:
        index = await engine.offers.ask(REPOSITORY_INDEX, v2.RepositoryIndexRequest(ready=True))
    except (TransportError, DeadlineExceeded, AdapterClosed):
        raise  # it cannot be asked anything
    except AdapterError as exc:
        return Listing(frozenset(), named | engine.wanted_models, False, exc.message)
    if index is None:
        return Listing(frozenset(), named | engine.wanted_models, False, _why_not(engine))
    ready = frozenset(entry.name for entry in index.models if state_of(entry) in ("READY", ""))
    if ready:
        return Listing(ready, named | (engine.wanted_models & ready), True)
    # PyTriton serves models that its index does not have, so an empty index alone proves nothing.
    return Listing(ready, named | engine.wanted_models, *await _is_really_empty(engine))


async def _is_really_empty(engine: Engine) -> tuple[bool, str, bool]:
    try:
        whole = await engine.offers.ask(REPOSITORY_INDEX, v2.RepositoryIndexRequest())
    except AdapterError:
        whole = None
    if whole is not None and whole.models:
        return True, "", False  # it has models, and none of them is loaded
    return False, "its repository index is empty", True


def _why_not(engine: Engine) -> str:
    refusal = engine.offers.why_not(REPOSITORY_INDEX)
    return refusal.message if isinstance(refusal, AccessError) else "it has no repository index"

"""What stands in for Dynamo where it is not installed: a request's context, and a registry that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from dynamo_worker.following import Registered
from dynamo_worker.handlers import Handler


class Raised(Exception):
    """What a handler raises: the code and message of the contract's error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


def as_dynamo_writes_them(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return tensors with lists for values: Dynamo reads any sequence, element by element."""
    found = []
    for tensor in tensors:
        values = tensor["data"]["values"]
        assert isinstance(values, Sequence)
        read = [values[at] for at in range(len(values))]
        found.append({**tensor, "data": {**tensor["data"], "values": read}})
    return found


class RequestContext:
    """Of a request whose client may leave."""

    def __init__(self, trace: dict[str, str] | None = None) -> None:
        self._stopped: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._trace = trace

    def leave(self) -> None:
        self._stopped.set_result(True)

    def async_killed_or_stopped(self) -> asyncio.Future[bool]:
        return self._stopped

    def trace_headers(self) -> dict[str, str] | None:
        return self._trace


class Registrations:
    """A cluster that remembers what was registered."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.cards: dict[str, Any] = {}
        self.others: dict[str, list[tuple[bool, Mapping[str, Any]]]] = {}
        self.healthy: bool | None = None
        self.lost = asyncio.Event()
        self.emptied = asyncio.Event()
        """Set when the last card was withdrawn."""
        self.broken = self.forgetful = False

    def serve(self, name: str, handler: Handler) -> None:
        assert name not in self.handlers, "an endpoint is served once"
        self.handlers[name] = handler

    async def publish_tensors(self, name: str, model: str, config: Mapping[str, Any]) -> None:
        if self.broken:
            raise RuntimeError("no etcd")
        self.cards[name] = (model, config)

    async def publish_text(
        self, name: str, model: str, *, chat: bool, completions: bool, tensors: Mapping[str, Any]
    ) -> None:
        self.cards[name] = (model, chat, completions, tensors)

    async def withdraw(self, name: str) -> None:
        del self.cards[name]
        if not self.cards:
            self.emptied.set()

    async def look_up(self, name: str, *, expected: bool) -> Registered:
        return Registered(name in self.cards and not self.forgetful, self.others.get(name, []))

    def say_healthy(self, healthy: bool) -> None:
        self.healthy = healthy

    def exception(self, code: str, message: str) -> Exception:
        return Raised(code, message)

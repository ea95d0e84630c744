"""`FaultProxy`: a way between a client and any server that breaks as a test tells it to."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from adapter_api.errors import AdapterClosed, ConfigurationError, Unsupported

from .changes import Changes
from .frames import ErrorCode
from .passage import Passage
from .relay import LOOPBACK, Relay

_TARGET = re.compile(r"(?:[a-z]+://)?(?P<host>[^/:\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d+)/?")


class FaultProxy:
    """A TCP proxy on a free port of the loopback interface, in front of a fake or of a real Triton.

        with FaultProxy(triton.grpc_url) as proxy:
            adapter = TritonAdapter(url=f"grpc://{proxy.address}")
            ...
            proxy.cut()

    It carries everything unchanged until it is told otherwise, and may be told from any thread. A fault lasts until
    `heal()`, and holds for all connections, the open ones too. Frame faults (`reset_streams`, `refuse_streams`,
    `go_away`) need plaintext HTTP/2, which is what gRPC without TLS speaks; the others work for anything over TCP.

    Args:
        target: Where the server listens, `HOST:PORT`, or a URL of that.
        portal: An event loop in a thread to run on; one of its own if `None`.
        changes: Whom to tell of changes; one of its own if `None`.
    """

    def __init__(self, target: str, *, portal: BlockingPortal | None = None, changes: Changes | None = None) -> None:
        found = _TARGET.fullmatch(target)
        if found is None:
            raise ConfigurationError(f"a FaultProxy stands in front of HOST:PORT or a URL of that, not {target!r}")
        self._host, self._port = found["host"].strip("[]"), int(found["port"])
        self._given_portal = portal
        self._changes = changes or Changes()
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None
        self._relay: Relay | None = None

    def start(self) -> Self:
        """Open the port."""
        if self._relay is None:
            self._portal = self._given_portal or self._stack.enter_context(start_blocking_portal())
            self._relay = self._portal.call(self._make_relay)
            self._portal.call(self._relay.listen)
        return self

    def stop(self) -> None:
        """Close the port and every connection. Nothing happens when it was stopped already."""
        relay, self._relay = self._relay, None
        if relay is not None and self._portal is not None:
            self._portal.call(relay.close)
        self._stack.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where it listens, as `HOST:PORT`."""
        return f"{LOOPBACK}:{self.relay.port}"

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self.relay.passages)

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self.relay.accepted

    @property
    def bytes_to_client(self) -> int:
        return self.relay.bytes_to_client

    @property
    def bytes_to_server(self) -> int:
        return self.relay.bytes_to_server

    def cut(self, *, reset: bool = True) -> None:
        """End every connection now, with RST, or with FIN as when a process is killed. New ones are accepted."""
        self._run(partial(self.relay.cut, reset=reset))

    def cut_after(self, size: int, *, reset: bool = True) -> None:
        """Cut the connection on which, counted from now over all, the `size`-th byte goes to a client."""
        self.relay.faults.cut_by_reset = reset
        self.relay.faults.bytes_until_cut = size

    def stall(self) -> None:
        """Carry nothing more, either way; connections stay open and new ones are accepted."""
        self._run(self.relay.faults.flowing.clear)

    def resume(self) -> None:
        """End a stall; what was held back arrives."""
        self._run(self.relay.faults.flowing.set)

    def delay(self, seconds: float) -> None:
        """Hold back every piece for so long, in both directions."""
        self.relay.faults.delay_s = seconds

    def drip(self, size: int = 1, every_s: float = 0.0) -> None:
        """Let no more than `size` bytes at a time through to a client."""
        self.relay.faults.drip_every_s = every_s
        self.relay.faults.drip_bytes = size

    def refuse(self) -> None:
        """Close the port, so that connecting is refused; connections stay."""
        self._run(self.relay.refuse)

    def accept(self) -> None:
        """Open the same port again."""
        self._run(self.relay.listen)

    def reset_streams(self, code: int = ErrorCode.CANCEL) -> None:
        """End every open HTTP/2 stream with RST_STREAM; connections stay."""
        for passage in self._http2_passages():
            self._run(partial(passage.reset_streams, code))

    def refuse_streams(self, times: int = 1) -> None:
        """Answer the next `times` new streams with REFUSED_STREAM; no request on them reaches the server."""
        self.relay.faults.refused_streams = times

    def go_away(self, code: int = ErrorCode.NO_ERROR, debug: bytes = b"", *, last_stream_id: int | None = None) -> None:
        """Send GOAWAY on every connection.

        Args:
            code: For example `ErrorCode.ENHANCE_YOUR_CALM` with debug data `b"too_many_pings"`.
            debug: Text for the client's log.
            last_stream_id: Streams above it are lost; `None` lets all that are open go on.
        """
        for passage in self._http2_passages():
            self._run(partial(passage.go_away, code, debug, last_stream_id))

    def heal(self) -> None:
        """End all faults and open the port again."""
        self._run(self.relay.faults.heal)
        self.accept()

    def wait_until(self, predicate: Callable[[], object], timeout_s: float = 5.0) -> None:
        """Return once `predicate()` is true; it is asked after every byte and every connection.

        Raises:
            TimeoutError: It was not true within `timeout_s`.
        """
        self._changes.wait_until(predicate, timeout_s)

    @property
    def relay(self) -> Relay:
        if self._relay is None:
            raise AdapterClosed("the FaultProxy does not run; start it first")
        return self._relay

    def _http2_passages(self) -> list[Passage]:
        passages = list(self.relay.passages)
        if any(passage.is_http2 is False for passage in passages):
            raise Unsupported("frame faults need plaintext HTTP/2; a connection through this proxy is something else")
        return passages

    def _run(self, function: Callable[[], Awaitable[None] | None]) -> None:
        assert self._portal is not None
        self._portal.call(function)

    async def _make_relay(self) -> Relay:
        return Relay(self._host, self._port, self._changes.ring)

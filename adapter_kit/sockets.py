"""From a name to a connected TCP socket: several addresses, of which some may lead nowhere, and none left open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

_NEXT_ADDRESS_S = 0.25
"""How long an address may stay silent before the next one is tried beside it (RFC 8305)."""

_Address = tuple[int, Any]


async def connected_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to `host`, a name or an address. The caller sets the deadline and closes it.

    Raises:
        socket.gaierror, UnicodeError: No address is known for this name.
        OSError: Nobody answers; the failure is that of the address that was tried first.
    """
    waiting, tasks = await _addresses(host, port), list[asyncio.Task[socket.socket]]()
    pending: set[asyncio.Task[socket.socket]] = set()
    failed: BaseException | None = None
    chosen: socket.socket | None = None
    try:
        while waiting or pending:
            if waiting:
                task = asyncio.create_task(_connected(*waiting.pop(0)))
                tasks.append(task)
                pending.add(task)
            done, pending = await asyncio.wait(
                pending, timeout=_NEXT_ADDRESS_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                failed = failed or task.exception()
                if chosen is None and task.exception() is None:
                    chosen = task.result()
            if chosen is not None:
                return chosen
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
            elif not task.cancelled() and task.exception() is None and task.result() is not chosen:
                task.result().close()
    raise failed or OSError("no address")


async def _addresses(host: str, port: int) -> list[_Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return _alternating([(family, address) for family, _, _, _, address in found])


def _alternating(found: Sequence[_Address]) -> list[_Address]:
    """Return addresses so that families take turns, beginning with the first one's: one of them may lead nowhere."""
    first = [each for each in found if each[0] == found[0][0]]
    other = [each for each in found if each[0] != found[0][0]]
    mixed = []
    while first or other:
        mixed += first[:1] + other[:1]
        first, other = first[1:], other[1:]
    return mixed


async def _connected(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # asyncio does so only for sockets that it makes itself: without it a small request waits for the peer's ACK.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that is gone without a word is noticed in the end, also on an idle connection.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock

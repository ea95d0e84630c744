"""From a name to a connected socket: several addresses, a proxy's tunnel, TLS; and what it means when there is none."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from adapter_api import AdapterError, ConnectFailed, Unauthenticated
from adapter_kit.http.connection import Connection
from adapter_kit.http.origin import Origin
from adapter_kit.http.proxies import Proxy

_NEXT_ADDRESS_S = 0.25
"""How long an address may stay silent before the next one is tried beside it (RFC 8305)."""
_TUNNEL_HEAD_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")

Address = tuple[int, Any]


async def connect(
    origin: Origin,
    proxy: Proxy | None,
    context: ssl.SSLContext | None,
    server_name: str | None,
    protocol: Callable[[], Connection],
) -> Connection:
    """Return a connection to `origin`, through `proxy` if there is one. The caller sets the deadline.

    Args:
        context: For TLS with the engine, or with the proxy if that is https.

    Raises:
        ConnectFailed: Nobody is there, or speaks TLS there: nothing was sent.
        Unauthenticated: Whoever is there is not whom we trust, or does not trust us.
    """
    loop = asyncio.get_running_loop()
    place = origin if proxy is None else proxy.origin
    if proxy is None:
        told, advice = str(origin), "is the server running, and is this its port?"
    else:
        told = f"the proxy {place} on the way to {origin}"
        advice = "check the setting `proxy`, or HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    sock = await _connected(await _addresses(place, told), told, advice)
    try:
        if proxy is not None and origin.tls:
            await _open_tunnel(sock, origin, proxy)
        secure = origin.tls if proxy is None or origin.tls else proxy.origin.tls
        name = (server_name if place is origin or origin.tls else None) or (origin if origin.tls else place).host
        _, connection = await loop.create_connection(
            protocol, sock=sock, ssl=context if secure else None, server_hostname=name if secure else None
        )
    except ssl.SSLCertVerificationError as exc:
        raise Unauthenticated(
            f"{origin}: its certificate is not to be trusted ({exc.verify_message}): check `tls.ca_file` and the name"
        ) from exc
    except ssl.SSLError as exc:
        reason = exc.reason or str(exc)
        if "ALERT" in reason:
            raise Unauthenticated(f"{origin} refuses the TLS connection ({reason}): check `tls.cert_file`") from exc
        raise ConnectFailed(f"{origin}: no TLS there ({reason}); is it an http:// port?") from exc
    except (OSError, EOFError) as exc:
        sock.close()
        raise ConnectFailed(f"{origin}: the connection broke while it was made ({_words(exc)})") from exc
    except BaseException:
        sock.close()
        raise
    return connection


async def _addresses(place: Origin, told: str) -> list[Address]:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, place.host)
        except OSError:
            continue
        return [(family, (place.host, place.port))]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise ConnectFailed(f"{told}: no address is known for this name ({_words(exc)})") from exc
    return _alternating([(family, address) for family, _, _, _, address in found])


def _alternating(found: Sequence[Address]) -> list[Address]:
    """Return addresses so that families take turns, beginning with the first one's: one of them may lead nowhere."""
    first = [each for each in found if each[0] == found[0][0]]
    other = [each for each in found if each[0] != found[0][0]]
    mixed = []
    while first or other:
        mixed += first[:1] + other[:1]
        first, other = first[1:], other[1:]
    return mixed


async def _connected(addresses: Sequence[Address], told: str, advice: str) -> socket.socket:
    waiting, tasks = list(addresses), list[asyncio.Task[socket.socket]]()
    pending: set[asyncio.Task[socket.socket]] = set()
    failed: BaseException | None = None
    chosen: socket.socket | None = None
    try:
        while waiting or pending:
            if waiting:
                task = asyncio.create_task(_one(*waiting.pop(0)))
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
    if not isinstance(failed, OSError | None):
        raise failed
    raise ConnectFailed(f"{told}: no connection ({_words(failed)}); {advice}")


async def _one(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # A peer that is gone without a word is noticed in the end, also on an idle connection.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _open_tunnel(sock: socket.socket, origin: Origin, proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()
    head = f"CONNECT {origin.target} HTTP/1.1\r\nHost: {origin.target}\r\n"
    if proxy.authorization is not None:
        head += f"Proxy-Authorization: {proxy.authorization}\r\n"
    await loop.sock_sendall(sock, f"{head}\r\n".encode("ascii"))
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < _TUNNEL_HEAD_BYTES:
        data = await loop.sock_recv(sock, 4096)
        if not data:
            break
        answer += data
    status = _STATUS.match(answer)
    if status is not None and status[1].startswith(b"2") and answer.endswith(b"\r\n\r\n"):
        return
    raise _refused(proxy, origin, None if status is None else int(status[1]))


def _refused(proxy: Proxy, origin: Origin, status: int | None) -> AdapterError:
    if status == 407:
        return Unauthenticated(f"the proxy {proxy.origin} wants credentials, or others: http://user:password@host:port")
    said = "with what is no HTTP" if status is None else str(status)
    return ConnectFailed(f"the proxy {proxy.origin} opens no way to {origin}: it answers {said}")


def _words(exc: BaseException | None) -> str:
    if isinstance(exc, OSError) and not isinstance(exc, socket.gaierror) and exc.errno:
        return os.strerror(exc.errno)  # asyncio's own words repeat the address
    return (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__

"""From a name to a connected socket: several addresses, a proxy's tunnel, TLS; and what it means when there is none."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable

from adapter_api import AdapterError, ConnectFailed, Unauthenticated
from adapter_kit.http.connection import Connection
from adapter_kit.http.origin import Origin
from adapter_kit.http.proxies import Proxy
from adapter_kit.sockets import connected_socket

_TUNNEL_HEAD_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


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
    sock = await _socket(place, origin)
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


async def _socket(place: Origin, origin: Origin) -> socket.socket:
    if place is origin:
        told, advice = str(origin), "is the server running, and is this its port?"
    else:
        told = f"the proxy {place} on the way to {origin}"
        advice = "check the setting `proxy`, or HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    try:
        return await connected_socket(place.host, place.port)
    except (socket.gaierror, UnicodeError) as exc:
        raise ConnectFailed(f"{told}: no address is known for this name ({_words(exc)})") from exc
    except OSError as exc:
        raise ConnectFailed(f"{told}: no connection ({_words(exc)}); {advice}") from exc


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

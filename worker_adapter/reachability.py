"""Why nothing answers at an address: asked step by step, name, connection, and who speaks there."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

Fault = Literal["dns", "refused", "no_answer", "not_grpc", "not_http", "tls", "unknown"]

# What an HTTP/2 client says first: the preface and an empty SETTINGS frame. https://www.rfc-editor.org/rfc/rfc9113#section-3.4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS_FRAME = 4
_TLS_RECORD = (0x15, 0x16)
_STEP_S = 2.0


class Diagnosis(NamedTuple):
    """What keeps a client from reaching an engine, and what to try."""

    fault: Fault
    message: str
    advice: str


def diagnose(url: str, *, timeout_s: float, http: bool = False) -> Diagnosis | None:
    """Return why no engine answers at `url`, within about `timeout_s` seconds.

    `None` when the URL names no host and port, or when something that speaks as it should is there after all. The
    scheme says what that is: `http+…` and `https+…` HTTP/1.1, and with `http` also plain `http` and `https`; any other
    gRPC. An `s` at its end means TLS.
    """
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or not port:
        return None
    answer: queue.SimpleQueue[Diagnosis | None] = queue.SimpleQueue()
    step_s = min(timeout_s / 2, _STEP_S)
    scheme, plus, _ = parts.scheme.lower().partition("+")
    tls, speaks = scheme.endswith("s"), "http" if (plus or http) and scheme in ("http", "https") else "grpc"
    resolved = threading.Event()

    def ask() -> None:
        answer.put(_diagnose(host, port, speaks=speaks, tls=tls, step_s=step_s, resolved=resolved))

    # A thread that nobody waits for: a resolver takes as long as it likes, and cannot be stopped.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=timeout_s)
    except queue.Empty:
        if resolved.is_set():
            return _silence(f"{host} port {port}", timeout_s)
        return Diagnosis(
            "dns", f"looking up {host} takes more than {timeout_s:g} s", "check this machine's name servers"
        )


def _diagnose(
    host: str, port: int, *, speaks: str, tls: bool, step_s: float, resolved: threading.Event
) -> Diagnosis | None:
    place = f"{host} port {port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Diagnosis(
            "dns", f"the name {host} does not resolve to an address", "correct the URL, or check the name servers"
        )
    resolved.set()
    fault: Diagnosis | None = None
    for family, kind, protocol, _, address in addresses[:4]:
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(step_s)
                connection.connect(address)
                if speaks == "http":
                    return _greet_http(connection, host, place, tls=tls)
                return _greet_tls(connection, host, place) if tls else _greet(connection, place)
        except ConnectionRefusedError:
            fault = fault or Diagnosis(
                "refused", f"{place} refuses connections: nothing listens there",
                "start the engine, or correct host and port; a server still loading its models does not listen yet",
            )  # fmt: skip
        except TimeoutError:
            fault = _silence(place, step_s)
        except OSError as exc:
            fault = fault or Diagnosis(
                "unknown", f"{place} cannot be reached: {exc.strerror or type(exc).__name__}",
                "check routes and firewalls on the way",
            )  # fmt: skip
    return fault


def _silence(place: str, waited_s: float) -> Diagnosis:
    return Diagnosis(
        "no_answer", f"{place} does not answer within {waited_s:g} s",
        "check firewalls and routes on the way; the host may be down",
    )  # fmt: skip


def _greet(connection: socket.socket, place: str) -> Diagnosis | None:
    """Say what a gRPC client says, and judge the answer."""
    peer = connection.getpeername()[:2]
    try:
        connection.sendall(_PREFACE)
        said = connection.recv(64)
    except TimeoutError:
        return Diagnosis(
            "no_answer", f"{place} accepts connections and then says nothing",
            "the engine hangs, or it is another service; look at its log, restart it, or correct the port",
        )  # fmt: skip
    except OSError:
        said = b""
    if len(said) > 3 and said[3] == _SETTINGS_FRAME:
        return None
    if said and said[0] in _TLS_RECORD:
        return _tls_wanted(place)
    if not said and _speaks_tls(peer, connection.gettimeout()):
        # Many TLS servers hang up on plaintext without a word.
        return _tls_wanted(place)
    # An HTTP/1 server may do so too, or answer a line that it does not understand as the first HTTP did, with a page.
    if said.startswith((b"HTTP/", b"<")) or (not said and _speaks_http(peer, connection.gettimeout())):
        return Diagnosis(
            "not_grpc", f"{place} speaks HTTP/1, not gRPC",
            "take the engine's gRPC port: Triton's is usually 8001, and 8000 its HTTP port",
        )  # fmt: skip
    if not said:
        return Diagnosis(
            "not_grpc", f"{place} closes the connection as soon as gRPC is spoken",
            "correct the port; or a proxy that does not pass HTTP/2 on is in between",
        )  # fmt: skip
    return Diagnosis("not_grpc", f"what answers at {place} is no gRPC server", "correct the port")


def _greet_http(connection: socket.socket, host: str, place: str, *, tls: bool) -> Diagnosis | None:
    """Ask as an HTTP client does, and judge the answer."""
    peer = connection.getpeername()[:2]
    try:
        with _trusting_anybody("http/1.1").wrap_socket(connection, server_hostname=host) if tls else connection as way:
            way.sendall(b"GET /v2/health/live HTTP/1.0\r\nHost: engine\r\n\r\n")
            said = way.recv(64)
    except TimeoutError:
        return Diagnosis(
            "no_answer", f"{place} accepts connections and then says nothing",
            "the engine hangs, or it is another service; look at its log, restart it, or correct the port",
        )  # fmt: skip
    except ssl.SSLError as exc:
        if "ALERT" in (exc.reason or ""):
            return Diagnosis(
                "tls", f"{place} breaks the TLS handshake off", "check our certificate and key: it may ask for them"
            )
        return Diagnosis(
            "tls",
            f"{place} does not speak TLS, and the URL asks for it",
            "write http in place of https if it is plaintext",
        )
    except OSError:
        said = b""
    if said.startswith(b"HTTP/"):
        return None
    if not tls and ((said[:1] and said[0] in _TLS_RECORD) or (not said and _speaks_tls(peer, connection.gettimeout()))):
        return Diagnosis("tls", f"{place} wants TLS, and the URL says plaintext", "write https in place of http")
    return Diagnosis(
        "not_http", f"what answers at {place} does not speak HTTP/1.1",
        "take the engine's HTTP port: it is usually 8000, and of a Triton 8001 is the gRPC port",
    )  # fmt: skip


def _tls_wanted(place: str) -> Diagnosis:
    return Diagnosis("tls", f"{place} wants TLS, and the URL says plaintext", "write grpcs:// in place of grpc://")


def _speaks_tls(peer: tuple[str, int], step_s: float | None) -> bool:
    try:
        with socket.create_connection(peer, timeout=step_s) as again:
            with _trusting_anybody().wrap_socket(again):
                return True
    except ssl.SSLError as exc:
        # An alert is TLS too: it may ask for a certificate of ours.
        return "ALERT" in (exc.reason or "")
    except OSError:
        return False


def _speaks_http(peer: tuple[str, int], step_s: float | None) -> bool:
    try:
        with socket.create_connection(peer, timeout=step_s) as again:
            again.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return again.recv(8).startswith(b"HTTP/")
    except OSError:
        return False


def _greet_tls(connection: socket.socket, host: str, place: str) -> Diagnosis | None:
    try:
        with _trusting_anybody().wrap_socket(connection, server_hostname=host) as secured:
            if secured.selected_alpn_protocol() == "h2":
                return None
    except TimeoutError:
        return Diagnosis(
            "no_answer", f"{place} accepts connections and then says nothing",
            "the engine hangs, or it does not speak TLS: then write grpc:// in place of grpcs://",
        )  # fmt: skip
    except ssl.SSLError as exc:
        if "ALERT" in (exc.reason or ""):
            return Diagnosis(
                "tls", f"{place} breaks the TLS handshake off", "check our certificate and key: it may ask for them"
            )
        return _no_tls(place)
    except OSError:
        return _no_tls(place)
    return Diagnosis("not_grpc", f"{place} speaks TLS but no HTTP/2 behind it", "correct the port")


def _no_tls(place: str) -> Diagnosis:
    return Diagnosis("tls", f"{place} does not speak TLS, and the URL asks for it", "write grpc:// if it is plaintext")


def _trusting_anybody(speaking: str = "h2") -> ssl.SSLContext:
    # Nothing is sent over this connection: it only tells whether there is TLS at all.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([speaking])
    return context

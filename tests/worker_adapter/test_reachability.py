"""Why nothing answers at an address is found out step by step."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trustme

from tests.worker_adapter.program import run
from triton_adapter.testing import FakeTriton
from worker_adapter.reachability import diagnose

no_spec = "what the program says about a network is its own affair"


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listener that treats each of up to three connections with `answer`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4)

        def serve() -> None:
            for _ in range(3):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def fault_of(url: str, *, timeout_s: float = 5.0) -> str | None:
    found = diagnose(url, timeout_s=timeout_s)
    return found.fault if found else None


def test_a_port_where_nothing_listens_refuses(closed_url: str) -> None:
    assert fault_of(closed_url) == "refused"


def test_a_name_that_does_not_exist_does_not_resolve() -> None:
    assert fault_of("grpc://no-such-host.invalid:8001") == "dns"


def test_a_listener_that_says_nothing_gives_no_answer_in_time(silent_url: str) -> None:
    began = time.monotonic()

    assert fault_of(silent_url, timeout_s=0.3) == "no_answer"
    assert fault_of(silent_url.replace("grpc", "grpcs"), timeout_s=0.3) == "no_answer"
    assert time.monotonic() - began < 5


def test_an_http_server_is_no_grpc_server(http_url: str) -> None:
    assert fault_of(http_url) == "not_grpc"


def test_an_http_server_is_one_where_the_url_says_http(http_url: str, silent_url: str, closed_url: str) -> None:
    as_http = [url.replace("grpc", "http+v2") for url in (http_url, silent_url, closed_url)]

    assert [fault_of(url, timeout_s=0.5) for url in as_http] == [None, "no_answer", "refused"]
    assert fault_of(as_http[0].replace("http+v2", "https+v2")) == "tls"


def test_a_grpc_server_is_no_http_server() -> None:
    with FakeTriton() as fake:
        found = diagnose(fake.grpc_url.replace("grpc", "http+v2"), timeout_s=5)

    assert found is not None
    assert (found.fault, "8000" in found.advice) == ("not_http", True)


def test_an_http_server_that_hangs_up_on_grpc_is_told_from_others() -> None:
    def answer(connection: socket.socket) -> None:
        if connection.recv(64).startswith(b"GET "):
            connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")

    with answering(answer) as port:
        found = diagnose(f"grpc://127.0.0.1:{port}", timeout_s=5)

    assert found is not None
    assert "HTTP/1" in found.message


def test_a_peer_that_hangs_up_is_no_grpc_server() -> None:
    with answering(lambda connection: None) as port:
        assert fault_of(f"grpc://127.0.0.1:{port}") == "not_grpc"


def test_a_peer_that_speaks_something_else_is_no_grpc_server() -> None:
    with answering(lambda connection: connection.sendall(b"220 mail.invalid ESMTP\r\n")) as port:
        assert fault_of(f"grpc://127.0.0.1:{port}") == "not_grpc"


def test_a_tls_server_at_a_plaintext_url_wants_tls() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def secure(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True).close()

    with answering(secure) as port:
        found = diagnose(f"grpc://127.0.0.1:{port}", timeout_s=5)

    assert found is not None
    assert found.fault == "tls"
    assert "grpcs://" in found.advice


def test_a_plaintext_server_at_a_tls_url_speaks_no_tls(http_url: str) -> None:
    found = diagnose(http_url.replace("grpc", "grpcs"), timeout_s=5)

    assert found is not None
    assert found.fault == "tls"
    assert "grpc://" in found.advice


def test_where_a_grpc_server_answers_nothing_is_wrong() -> None:
    with FakeTriton() as fake:
        assert diagnose(fake.grpc_url, timeout_s=5) is None


@pytest.mark.parametrize("url", ["mock://", "grpc://host", "grpc://host:none", ""])
def test_a_url_without_host_and_port_cannot_be_asked(url: str) -> None:
    assert diagnose(url, timeout_s=1) is None


def test_a_plain_http_url_is_http_to_an_adapter_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        doctor = run("doctor", url, "--adapter", "openai", "--timeout", "1")

    assert "gRPC" not in doctor.out
    assert "accepts connections and then says nothing" in doctor.out

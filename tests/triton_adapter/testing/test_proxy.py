"""`FaultProxy` in front of a plain TCP server, and in front of a real Triton."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from adapter_api import AdapterClosed, ConfigurationError, Unsupported
from tests.triton_adapter.testing.v2client import EMPTY_FINAL, connect, text_request, texts_of
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import ErrorCode, FaultProxy

WAIT_S = 5.0


class Echo:
    """A TCP server that sends back what it gets; connections are counted as they end."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.ended = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        if self._listener.fileno() >= 0:
            # Closing alone would leave the thread in accept().
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for thread in self._threads:
            thread.join(WAIT_S)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._echo, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                pass
        self.ended.release()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as server:
        yield server


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.address) as running:
        yield running


def dial(proxy: FaultProxy) -> socket.socket:
    host, _, port = proxy.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=WAIT_S)


def read_all(connection: socket.socket) -> bytes:
    found = b""
    while data := connection.recv(4096):
        found += data
    return found


def test_bytes_go_both_ways_unchanged(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)

        assert read_all(connection) == b"hello"
    assert (proxy.bytes_to_server, proxy.bytes_to_client) == (5, 5)


def test_both_halves_are_over_when_the_client_has_gone(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy):
        proxy.wait_until(lambda: proxy.connections == 1)

    assert echo.ended.acquire(timeout=WAIT_S)
    proxy.wait_until(lambda: proxy.connections == 0)


def test_a_cut_is_a_reset(proxy: FaultProxy, echo: Echo) -> None:
    with dial(proxy) as connection:
        proxy.wait_until(lambda: proxy.connections == 1)
        proxy.cut()

        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert echo.ended.acquire(timeout=WAIT_S)


def test_a_cut_without_reset_is_an_end_of_file(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        proxy.wait_until(lambda: proxy.connections == 1)
        proxy.cut(reset=False)

        assert connection.recv(1) == b""


def test_a_cut_after_so_many_bytes_lets_exactly_those_through(proxy: FaultProxy) -> None:
    proxy.cut_after(3, reset=False)

    with dial(proxy) as connection:
        connection.sendall(b"hello")

        assert read_all(connection) == b"hel"


def test_a_connection_after_a_cut_is_whole(proxy: FaultProxy) -> None:
    with dial(proxy):
        proxy.wait_until(lambda: proxy.connections == 1)
        proxy.cut()

    with dial(proxy) as connection:
        connection.sendall(b"a")
        assert connection.recv(1) == b"a"
    assert proxy.accepted == 2


def test_a_stall_holds_everything_back_until_it_ends(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        connection.sendall(b"a")
        assert connection.recv(1) == b"a"
        proxy.stall()
        connection.sendall(b"b")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(WAIT_S)

        proxy.resume()

        assert connection.recv(1) == b"b"


def test_refusing_closes_the_port_and_accepting_opens_the_same_one(proxy: FaultProxy) -> None:
    address = proxy.address
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)

    proxy.accept()

    assert proxy.address == address
    dial(proxy).close()


def test_a_drip_gives_so_many_bytes_at_a_time(proxy: FaultProxy) -> None:
    proxy.drip(2)

    with dial(proxy) as connection:
        connection.sendall(b"hello")
        connection.shutdown(socket.SHUT_WR)

        assert read_all(connection) == b"hello"


def test_healing_ends_every_fault(proxy: FaultProxy) -> None:
    proxy.stall()
    proxy.refuse()
    proxy.drip(1)
    proxy.delay(100)

    proxy.heal()

    with dial(proxy) as connection:
        connection.sendall(b"a")
        assert connection.recv(1) == b"a"


def test_a_server_that_is_not_there_is_a_reset(echo: Echo) -> None:
    with FaultProxy(echo.address) as proxy:
        echo.close()
        # The reset may come before connecting has returned.
        with pytest.raises(ConnectionResetError), dial(proxy) as connection:
            connection.recv(1)


def test_frame_faults_are_refused_for_what_is_not_http2(proxy: FaultProxy) -> None:
    with dial(proxy) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        connection.recv(1)

        with pytest.raises(Unsupported, match="HTTP/2"):
            proxy.go_away()


@pytest.mark.parametrize("target", ["", "nowhere", "http://host", "host:port", "grpc://"])
def test_a_target_without_host_and_port_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        FaultProxy(target)


def test_a_proxy_that_does_not_run_says_so() -> None:
    proxy = FaultProxy("127.0.0.1:1")

    with pytest.raises(AdapterClosed, match="start it first"):
        proxy.address  # noqa: B018
    proxy.stop()


# ---- in front of a real Triton


@pytest.fixture
def real(triton: EmbeddedTriton) -> Iterator[FaultProxy]:
    with FaultProxy(triton.grpc_url) as running:
        yield running


def slow_request(count: int, delay_ms: int) -> object:
    return text_request("slow", "a", parameters={"max_tokens": count, "delay_ms": delay_ms, **EMPTY_FINAL})


@pytest.mark.live
def test_a_real_stream_goes_through(real: FaultProxy) -> None:
    with connect(real.address) as client:
        messages, status = client.stream(slow_request(20, 0))

    assert status is None
    assert len(texts_of(messages)) == 20


@pytest.mark.live
@pytest.mark.parametrize("fault", ["cut", "reset", "goaway"])
def test_a_real_stream_can_be_broken_in_the_middle(real: FaultProxy, fault: str) -> None:
    with connect(real.address) as client:
        call = client.open_stream(slow_request(1000, 20))
        next(call)
        if fault == "cut":
            real.cut()
        elif fault == "reset":
            real.reset_streams(ErrorCode.INTERNAL_ERROR)
        else:
            real.go_away(ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings", last_stream_id=0)
        with pytest.raises(grpc.RpcError) as raised:
            list(call)

    expected = grpc.StatusCode.INTERNAL if fault == "reset" else grpc.StatusCode.UNAVAILABLE
    assert raised.value.code() is expected


@pytest.mark.live
def test_a_refused_stream_leaves_the_real_connection_usable(real: FaultProxy) -> None:
    with connect(real.address) as client:
        live_before = client.call("ServerLive", pb.ServerLiveRequest())
        real.refuse_streams(times=1)
        refused = client.call("ServerLive", pb.ServerLiveRequest())
        live_after = client.call("ServerLive", pb.ServerLiveRequest())

    assert live_before.live
    assert refused.code == "UNAVAILABLE"
    assert live_after.live
    assert real.accepted == 1


@pytest.mark.live
def test_a_stalled_real_stream_goes_on_where_it_stopped(real: FaultProxy) -> None:
    with connect(real.address) as client:
        call = client.open_stream(slow_request(10, 5))
        first = next(call)
        real.stall()
        real.resume()
        rest = list(call)

    assert len(texts_of([first, *rest])) == 10

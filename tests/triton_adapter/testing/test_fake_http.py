"""What the HTTP face does beyond what the real server was asked to show too."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from typing import Any

import pytest

from triton_adapter.testing import FakeModel, FakeTriton

WAIT_S = 5.0


@pytest.fixture
def model(fake: FakeTriton) -> FakeModel:
    return fake.model("llama").signature("text").respond_with_tokens(["one ", "two "])


def connection_to(fake: FakeTriton) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(fake.http_proxy.address, timeout=WAIT_S)


def open_stream(connection: http.client.HTTPConnection, **body: Any) -> http.client.HTTPResponse:
    connection.request("POST", "/v2/models/llama/generate_stream", json.dumps({"text_input": "Hi", **body}))
    return connection.getresponse()


def test_a_connection_serves_one_request_after_the_other(fake: FakeTriton, model: FakeModel) -> None:
    connection = connection_to(fake)
    try:
        bodies = [open_stream(connection).read() for _ in range(3)]
    finally:
        connection.close()

    assert bodies[0].count(b"data: ") == 2
    assert len(set(bodies)) == 1
    assert fake.http_proxy.accepted == 1


def test_a_stream_cut_in_the_middle_is_an_incomplete_body(fake: FakeTriton, model: FakeModel) -> None:
    model.cut(after=1, reset=False)
    connection = connection_to(fake)
    try:
        with pytest.raises(http.client.IncompleteRead) as raised:
            open_stream(connection).read()
    finally:
        connection.close()

    assert b"one " in raised.value.partial


@pytest.mark.parametrize("half", [True, False])
def test_a_client_that_closes_or_half_closes_cancels_the_stream(fake: FakeTriton, model: FakeModel, half: bool) -> None:
    model.hang(after=0)
    connection = connection_to(fake)
    connection.request("POST", "/v2/models/llama/generate_stream", '{"text_input": "Hi"}')
    fake.wait_until(lambda: model.running == 1)

    if half:
        connection.sock.shutdown(socket.SHUT_WR)
    else:
        connection.close()

    fake.wait_until(lambda: model.cancelled_seen == 1)
    connection.close()


def test_a_client_that_closes_does_not_cancel_generate(fake: FakeTriton, model: FakeModel) -> None:
    model.hold(after=1)
    connection = connection_to(fake)
    connection.request("POST", "/v2/models/llama/generate", '{"text_input": "Hi"}')
    fake.wait_until(lambda: model.held == 1)

    connection.close()
    fake.http_proxy.wait_until(lambda: fake.http_proxy.connections <= 1)
    model.release()

    fake.wait_until(lambda: model.finished == 1)
    assert model.cancels == 0


def test_more_events_may_follow_an_error(fake: FakeTriton, model: FakeModel) -> None:
    model.fail("boom", after=1, final=False, then="messages")
    connection = connection_to(fake)
    try:
        response = open_stream(connection)
        events = response.read().decode().split("\n\n")
    finally:
        connection.close()

    assert response.status == 200
    assert [("error" in event, "text_output" in event) for event in events[:3]] == [
        (False, True),
        (True, False),
        (False, True),
    ]


def test_a_restricted_api_wants_its_raw_header(fake: FakeTriton, model: FakeModel) -> None:
    fake.restrict("inference", key="Secret", value="s3")
    fake.model("plain").signature("text", decoupled=False)
    body = json.dumps({"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Hi"]}]})
    connection = connection_to(fake)
    try:
        connection.request("POST", "/v2/models/plain/infer", body)
        refused = connection.getresponse()
        refused_body = refused.read()
        connection.request("POST", "/v2/models/plain/infer", body, {"Secret": "s3"})
        allowed = connection.getresponse()
        allowed.read()
    finally:
        connection.close()

    assert refused.status == 403
    assert json.loads(refused_body) == {"error": "This API is restricted, expecting header 'Secret'"}
    assert allowed.status == 200


def test_requests_and_answers_may_be_compressed(fake: FakeTriton) -> None:
    fake.model("plain").signature("text", decoupled=False)
    body = json.dumps({"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["Hi"]}]})
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    connection = connection_to(fake)
    try:
        connection.request("POST", "/v2/models/plain/infer", gzip.compress(body.encode()), headers)
        response = connection.getresponse()
        answer = json.loads(gzip.decompress(response.read()))
    finally:
        connection.close()

    assert answer["outputs"][0]["data"] == ["Hello there!"]


def test_http_requests_are_recorded_as_grpc_ones_are(fake: FakeTriton, model: FakeModel) -> None:
    connection = connection_to(fake)
    try:
        open_stream(connection, max_tokens=3).read()
    finally:
        connection.close()

    (recorded,) = fake.requests
    assert (recorded.origin.transport, recorded.origin.call) == ("http", "generate_stream")
    assert recorded.text() == "Hi"
    assert recorded.parameters == {"max_tokens": 3}


def test_what_is_no_http_is_hung_up_on(fake: FakeTriton) -> None:
    host, _, port = fake.http_proxy.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection:
        connection.sendall(b"nonsense\r\n\r\n")

        assert connection.recv(1) == b""


def test_a_chunked_request_is_read(fake: FakeTriton, model: FakeModel) -> None:
    connection = connection_to(fake)
    try:
        connection.request(
            "POST",
            "/v2/models/llama/generate_stream",
            iter([b'{"text_input": ', b'"Hi"}']),
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
        body = connection.getresponse().read()
    finally:
        connection.close()

    assert body.count(b"data: ") == 2

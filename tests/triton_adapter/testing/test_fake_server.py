"""`FakeTriton` as a whole: its life, its state, what it records and what it expects."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc._cython import cygrpc
from tritonclient.grpc import service_pb2 as pb

from adapter_api import AdapterClosed, ConfigurationError
from tests.triton_adapter.testing.demo_models import STATEFUL
from tests.triton_adapter.testing.v2client import (
    EMPTY_FINAL,
    Status,
    V2Client,
    connect,
    infer_request,
    text_request,
    texts_of,
)
from triton_adapter.testing import FakeTriton, ServerTls


@pytest.fixture
def client(fake: FakeTriton) -> Iterator[V2Client]:
    with connect(fake.grpc_url) as connected:
        yield connected


def model_ready(client: V2Client, name: str) -> Any:
    answer = client.call("ModelReady", pb.ModelReadyRequest(name=name))
    return answer if isinstance(answer, Status) else answer.ready


def server_ready(client: V2Client) -> Any:
    answer = client.call("ServerReady", pb.ServerReadyRequest())
    return answer if isinstance(answer, Status) else answer.ready


def index(client: V2Client) -> dict[str, tuple[str, str, str]]:
    answer = client.call("RepositoryIndex", pb.RepositoryIndexRequest())
    return {entry.name: (entry.version, entry.state, entry.reason) for entry in answer.models}


# ---- life


@pytest.mark.parametrize("error, told", [(cygrpc.ExecuteBatchError("batch"), 0), (RuntimeError("a bug"), 1)])
def test_a_call_that_ends_under_the_servers_hands_is_no_news(
    fake: FakeTriton, caplog: pytest.LogCaptureFixture, error: Exception, told: int
) -> None:
    async def fail() -> None:
        raise error

    async def forget() -> None:
        forgotten = asyncio.get_running_loop().create_task(fail())
        await asyncio.wait([forgotten])
        del forgotten
        gc.collect()

    assert fake._portal is not None
    fake._portal.call(forget)

    assert len([record for record in caplog.records if record.name == "asyncio"]) == told


def test_everything_is_gone_after_a_stop() -> None:
    threads = threading.active_count()
    with FakeTriton() as fake:
        host, _, port = fake.proxy.address.rpartition(":")
        model = fake.model("llama").hang(after=0)
        connection = connect(fake.grpc_url)
        client = connection.__enter__()
        call = client.open_stream(text_request("llama"))
        fake.wait_until(lambda: model.running == 1)

    with pytest.raises(grpc.RpcError):
        next(call)
    connection.__exit__(None, None, None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)
    assert threading.active_count() <= threads + 1


def test_a_server_that_was_never_started_has_no_address() -> None:
    with pytest.raises(AdapterClosed, match="start it first"):
        FakeTriton().grpc_url  # noqa: B018


def test_stopping_and_starting_twice_is_harmless() -> None:
    fake = FakeTriton()
    fake.start().start()
    fake.stop()
    fake.stop()


@pytest.mark.anyio
async def test_it_runs_beside_an_event_loop() -> None:
    async with FakeTriton() as fake:
        model = fake.model("llama")
        async with grpc.aio.insecure_channel(fake.proxy.address) as channel:
            call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
            await call.write(text_request("llama").SerializeToString())
            await call.done_writing()
            assert await call.read()
        await fake.until(lambda: model.finished == 1)


def test_waiting_for_what_does_not_happen_times_out(fake: FakeTriton) -> None:
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        fake.wait_until(lambda: False, timeout_s=0.01)


# ---- health and models


def test_health_follows_what_the_test_says(fake: FakeTriton, client: V2Client) -> None:
    fake.set_health(live=False, ready=False)

    assert not client.call("ServerLive", pb.ServerLiveRequest()).live
    assert not server_ready(client)


@pytest.mark.parametrize(
    "state, reason, ready",
    [("LOADING", "", False), ("UNAVAILABLE", "out of memory", False), ("UNAVAILABLE", "unloaded", True)],
)
def test_the_server_is_not_ready_while_a_wanted_model_is_not(
    fake: FakeTriton, client: V2Client, state: Any, reason: str, ready: bool
) -> None:
    fake.model("other")
    fake.model("llama").set_state(state, reason)

    assert server_ready(client) is ready
    assert model_ready(client, "llama") is False
    assert model_ready(client, "other") is True
    assert index(client)["llama"] == ("1", state, reason)


def test_a_model_never_loaded_is_in_the_index_without_version_and_state(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama").set_state("NEVER_LOADED")

    assert index(client) == {"llama": ("", "", "")}
    assert client.infer(text_request("llama")).text == "Request for unknown model: 'llama' is not found"


def test_an_unloading_model_finishes_what_runs_and_takes_nothing_new(fake: FakeTriton, client: V2Client) -> None:
    model = fake.model("llama").signature("text").respond_with_text("a b").hold(after=1)
    call = client.open_stream(text_request("llama"))
    next(call)

    client.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="llama"))
    while_running = (index(client)["llama"], server_ready(client))
    refused, _ = client.stream(text_request("llama"))
    model.release()
    rest = texts_of(call)

    assert while_running == (("1", "UNLOADING", ""), False)
    assert "has no available versions" in refused[0].error_message
    assert rest == [b" b"]
    fake.wait_until(lambda: model.running == 0)
    assert index(client)["llama"] == ("1", "UNAVAILABLE", "unloaded")
    assert server_ready(client) is True


def test_a_load_that_fails_says_why(fake: FakeTriton, client: V2Client) -> None:
    fake.model("broken").fail_to_load("Internal: RuntimeError: no such file")

    answer = client.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="broken"))

    assert answer.code == "INVALID_ARGUMENT"
    assert answer.text.startswith(
        "load failed for model 'broken': version 1 is at UNAVAILABLE state: Internal: RuntimeError: no such file"
    )


def test_a_load_may_bring_its_own_configuration(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama")
    request = pb.RepositoryModelLoadRequest(model_name="llama")
    request.parameters["config"].string_param = '{"max_batch_size": 4, "instance_group": [{"count": 2}]}'

    client.call("RepositoryModelLoad", request)

    config = client.call("ModelConfig", pb.ModelConfigRequest(name="llama")).config
    assert (config.name, config.max_batch_size, config.instance_group[0].count) == ("llama", 4, 2)


def test_a_load_with_files_brings_a_model_that_was_not_there(fake: FakeTriton, client: V2Client) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="new")
    request.parameters["config"].string_param = '{"backend": "python"}'
    request.parameters["file:1/model.py"].bytes_param = b"..."

    client.call("RepositoryModelLoad", request)

    assert model_ready(client, "new")
    assert fake.model("new").requests == ()


def test_open_sequences_are_those_without_an_end(fake: FakeTriton, client: V2Client) -> None:
    model = fake.model("stateful").config(STATEFUL).respond_with_tensors({"Y": 1})
    for sequence, flags in ((1, {}), (2, {"sequence_end": True})):
        parameters = {"sequence_id": sequence, "sequence_start": True, **flags}
        client.infer(infer_request("stateful", [("X", "INT32", [1, 1], b"\1\0\0\0")], parameters=parameters))

    assert model.open_sequences == {1}


def test_without_explicit_control_nothing_is_loaded_or_unloaded(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama")
    fake.set_model_control("none")

    answer = client.call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="llama"))

    assert answer == Status("UNAVAILABLE", "explicit model load / unload is not allowed if polling is enabled")
    assert model_ready(client, "llama")


def test_the_highest_version_is_the_default(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama").signature("text", decoupled=False).versions(3, 1)

    responses = [client.infer(text_request("llama", version=version)) for version in ("", "1", "2")]

    assert [response.model_version for response in responses[:2]] == ["3", "1"]
    assert responses[2] == Status("NOT_FOUND", "Request for unknown model: 'llama' version 2 is not found")


def test_draining_is_told_by_readiness_and_closes_http(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama")
    fake.drain()

    assert server_ready(client) == Status("UNAVAILABLE", "Server exiting")
    assert model_ready(client, "llama") == Status("UNAVAILABLE", "Server not ready")
    host, _, port = fake.http_proxy.address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=1)


def test_a_noticed_dead_stub_is_not_ready(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama").kill_stub(noticed=True)

    assert model_ready(client, "llama") is False


# ---- who may ask


def test_a_restricted_protocol_wants_its_header(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama").signature("text")
    fake.restrict("inference", "health", key="secret", value="s3")
    name = "triton-grpc-protocol-secret"

    refused = client.call("ServerReady", pb.ServerReadyRequest())
    _, stream_refused = client.stream(text_request("llama"))
    wrong = client.call("ServerReady", pb.ServerReadyRequest(), metadata={name: "wrong"})
    allowed = client.call("ServerReady", pb.ServerReadyRequest(), metadata={name: "s3"})
    _, stream_allowed = client.stream(text_request("llama"), metadata={name: "s3"})
    other = client.call("ServerMetadata", pb.ServerMetadataRequest())

    expected = Status("UNAVAILABLE", f"This protocol is restricted, expecting header '{name}'")
    assert [refused, stream_refused, wrong] == [expected] * 3
    assert allowed.ready
    assert stream_allowed is None
    assert other.name == "triton"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA, tmp_path: Path) -> ServerTls:
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return ServerTls(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")


def test_tls_serves_those_who_trust_its_authority(authority: trustme.CA, server_tls: ServerTls) -> None:
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())

    with FakeTriton(tls=server_tls._replace(client_ca=None)) as fake, connect(fake.grpc_url, credentials) as client:
        assert fake.grpc_url.startswith("grpcs://")
        assert client.call("ServerLive", pb.ServerLiveRequest()).live


def test_mutual_tls_wants_a_certificate_of_the_client(authority: trustme.CA, server_tls: ServerTls) -> None:
    mine = authority.issue_cert("client")
    root = authority.cert_pem.bytes()
    with_mine = grpc.ssl_channel_credentials(root, mine.private_key_pem.bytes(), mine.cert_chain_pems[0].bytes())
    without = grpc.ssl_channel_credentials(root)

    with FakeTriton(tls=server_tls) as fake:
        with connect(fake.grpc_url, with_mine) as client:
            served = client.call("ServerLive", pb.ServerLiveRequest())
        with connect(fake.grpc_url, without) as client:
            refused = client.call("ServerLive", pb.ServerLiveRequest())

    assert served.live
    assert refused.code == "UNAVAILABLE"


# ---- what it records and expects


def test_requests_are_recorded_with_all_they_said(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama")

    request = text_request("llama", "Hi", parameters={"max_tokens": 5, **EMPTY_FINAL}, request_id="a", version="1")
    client.stream(request, metadata={"x-trace": "t"})
    client.stream(text_request("nope"))

    recorded, refused = fake.requests
    assert (recorded.model, recorded.version, recorded.id, recorded.text()) == ("llama", "1", "a", "Hi")
    assert recorded.parameters == {"max_tokens": 5, **EMPTY_FINAL}
    assert recorded.origin.metadata["x-trace"] == "t"
    assert recorded.origin.call == "ModelStreamInfer"
    assert recorded.origin.timeout_s is not None
    assert refused.model == "nope"
    assert fake.model("llama").requests == (recorded,)


def test_a_recorded_request_keeps_prompt_and_secrets_out_of_its_repr(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama")
    client.stream(text_request("llama", "my prompt"), metadata={"authorization": "Bearer s3cret"})

    shown = repr(fake.requests) + repr(fake.calls)

    assert "my prompt" not in shown
    assert "s3cret" not in shown


def test_calls_of_every_kind_are_recorded(fake: FakeTriton, client: V2Client) -> None:
    fake.model("llama")

    client.call("ModelConfig", pb.ModelConfigRequest(name="llama"))
    client.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="llama"))

    assert [(call.origin.call, call.model) for call in fake.calls] == [
        ("ModelConfig", "llama"),
        ("RepositoryModelLoad", "llama"),
    ]


def test_met_expectations_pass(fake: FakeTriton, client: V2Client) -> None:
    model = fake.model("llama")
    model.expect(input="text_input", equals="Hi").expect(input="text_input", contains="H")
    model.expect(parameter="max_tokens", equals=5).expect(parameter="seed", absent=True)
    model.expect(metadata="x-trace", equals="t")

    messages, _ = client.stream(text_request("llama", parameters={"max_tokens": 5}), metadata={"x-trace": "t"})

    assert texts_of(messages)
    fake.check()


@pytest.mark.parametrize(
    "expected, problem",
    [
        ({"input": "text_input", "equals": "Bye"}, "input 'text_input' should be 'Bye', but is 'Hi'"),
        ({"input": "text_input", "contains": "z"}, "input 'text_input' should contain 'z', but is 'Hi'"),
        ({"input": "stream"}, "input 'stream' is missing"),
        ({"parameter": "n", "absent": True}, "parameter 'n' should be absent, but is 1"),
        ({"metadata": "x"}, "metadata 'x' is missing"),
    ],
)
def test_an_unmet_expectation_fails_the_request_and_the_check(
    fake: FakeTriton, client: V2Client, expected: dict[str, Any], problem: str
) -> None:
    fake.model("llama").expect(**expected)

    messages, _ = client.stream(text_request("llama", parameters={"n": 1}))

    assert problem in messages[0].error_message
    with pytest.raises(AssertionError) as raised:
        fake.check()
    assert problem in str(raised.value)


def test_an_expected_request_that_does_not_come_fails_the_check(fake: FakeTriton) -> None:
    fake.model("llama").expect(input="text_input")

    with pytest.raises(AssertionError, match="a request was expected, but none came"):
        fake.check()


@pytest.mark.parametrize("names", [{}, {"input": "a", "parameter": "b"}])
def test_an_expectation_names_one_thing(fake: FakeTriton, names: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="exactly one"):
        fake.model("llama").expect(**names)  # type: ignore[arg-type]

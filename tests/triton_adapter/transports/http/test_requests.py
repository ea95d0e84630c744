"""What goes out over HTTP: binary or JSON, names and headers, and what is refused before it goes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from adapter_api import (
    Datatype,
    End,
    Error,
    InferRequest,
    InvalidRequest,
    ModelNotFound,
    RequestedOutput,
    Sequence,
    TaskRequest,
    Tensor,
    Unsupported,
)
from adapter_api.testing import collect
from adapter_kit.tls import TlsSettings
from conformance_tests import sample_tensor
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.schema import ModelSchema, TensorSpec
from triton_adapter.testing import FakeTriton
from triton_adapter.transports.http.generate import encode_generation
from triton_adapter.transports.http.tensors import decode_inference, encode_inference
from triton_adapter.wire.request import ShmRef, WireRequest

pytestmark = pytest.mark.anyio


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


def settings(fake: FakeTriton, **more: Any) -> TritonSettings:
    return TritonSettings.model_validate({"url": fake.http_url.replace("http", "http+v2"), "max_retries": 0, **more})


# -- tensors ----------------------------------------------------------------------------------------------------------

OTHERS = [each for each in Datatype.__args__ if each != "BF16"]  # type: ignore[attr-defined]


@pytest.mark.spec("ORCH-3066-006")
@pytest.mark.parametrize("datatype", OTHERS)
def test_every_datatype_but_one_goes_as_json_and_comes_back(datatype: Datatype) -> None:
    texts = [b"", "naïve".encode(), b"a\0b", b'"', b"\\", b"x"]
    is_text = datatype == "BYTES"
    sent = Tensor.from_bytes_elements("X", texts, (2, 3)) if is_text else sample_tensor("X", datatype, (2, 3))

    (body,), length = encode_inference(WireRequest("m", (sent,)), binary=False)
    reply = decode_inference({}, bytes(body).replace(b'"inputs"', b'"outputs"'))

    assert length is None
    assert (reply.outputs["X"].shape, reply.outputs["X"].data) == (sent.shape, bytes(sent.data))


@pytest.mark.spec("ORCH-3066-006", "ORCH-3066-003")
@pytest.mark.parametrize("tensor, named", [
    (sample_tensor("X", "BF16", (2,)), "BF16"),
    (Tensor.from_bytes_elements("X", [b"\xff"]), "no UTF-8"),
    (Tensor.from_numpy("X", np.array([np.nan], dtype=np.float32)), "infinite numbers or none"),
])  # fmt: skip
def test_what_json_cannot_carry_is_refused_by_its_name(tensor: Tensor, named: str) -> None:
    with pytest.raises(Unsupported, match=named) as caught:
        encode_inference(WireRequest("m", (tensor,)), binary=False)
    encode_inference(WireRequest("m", (tensor,)), binary=True)

    assert "'X'" in caught.value.message


@pytest.mark.spec("ORCH-3066-006")
@pytest.mark.parametrize("binary", [True, False])
async def test_a_server_gets_what_it_says_it_takes(fake: FakeTriton, binary: bool) -> None:
    fake.model("m").signature("text", decoupled=False).respond_with_text("fine")
    if not binary:
        fake.act_as("mlserver", without=["ModelConfig"], extensions=[])
    async with TritonAdapter(settings(fake)) as adapter:
        request = InferRequest(model="m", inputs=(Tensor.from_bytes_elements("text_input", [b"x"]),))
        response = await adapter.infer(request)

    (call,) = [call for call in fake.calls if call.origin.call == "ModelInfer"]
    assert ("inference-header-content-length" in call.origin.metadata) is binary
    assert response["text_output"].elements() == [b"fine"]


# -- streams ----------------------------------------------------------------------------------------------------------


def schema(**inputs: TensorSpec) -> ModelSchema:
    return ModelSchema("m", inputs, {}, decoupled=True)


PROMPT = Tensor.from_bytes_elements("text", [b"hi"])
TEXT = TensorSpec("text", "BYTES", (1,))


@pytest.mark.spec("ORCH-3066-003")
@pytest.mark.parametrize("request_, declared, named", [
    (WireRequest("m", (PROMPT,), sequence=Sequence(id=1)), schema(text=TEXT), "sequences"),
    (WireRequest("m", (PROMPT,), priority=2), schema(text=TEXT), "priorities"),
    (WireRequest("m", (PROMPT,), outputs=(RequestedOutput("y", 3),)), schema(text=TEXT), "classification"),
    (WireRequest("m", (PROMPT,), shm_inputs={"text": ShmRef("r", 1)}), schema(text=TEXT), "shared memory"),
    (WireRequest("m", ()), schema(id=TensorSpec("id", "BYTES", (1,))), "'id'"),
    (WireRequest("m", ()), ModelSchema("m", {}, {"error": TensorSpec("error", "BYTES", (1,))}), "'error'"),
    (WireRequest("m", (sample_tensor("x", "FP16", (1,)),)), schema(x=TensorSpec("x", "FP16", (1,))), "FP16"),
    (WireRequest("m", (sample_tensor("x", "BF16", (1,)),)), schema(x=TensorSpec("x", "BF16", (1,))), "BF16"),
    (WireRequest("m", (PROMPT,)), schema(), "no input 'text'"),
])  # fmt: skip
def test_what_a_stream_cannot_carry_is_refused_by_its_name(
    request_: WireRequest, declared: ModelSchema, named: str
) -> None:
    with pytest.raises(Unsupported, match=named):
        encode_generation(request_, declared)


@pytest.mark.spec("ORCH-3066-003")
def test_a_shape_that_the_server_would_not_make_is_refused() -> None:
    two_by_two = sample_tensor("x", "INT32", (2, 2))

    with pytest.raises(InvalidRequest, match=r"\[2, 2\]"):
        encode_generation(WireRequest("m", (two_by_two,)), schema(x=TensorSpec("x", "INT32", (-1, -1))))


@pytest.mark.spec("ORCH-3066-003")
async def test_a_task_that_asks_for_less_hurry_is_told_that_it_cannot_be_had(fake: FakeTriton) -> None:
    fake.model("m").config({
        "backend": "python", "input": [{"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]}],
        "model_transaction_policy": {"decoupled": True}, "dynamic_batching": {"priority_levels": 2},
    })  # fmt: skip
    async with TritonAdapter(settings(fake)) as adapter:
        batch = await collect(adapter.submit(TaskRequest(model="m", prompt="hi", priority="batch")))
        plain = await collect(adapter.submit(TaskRequest(model="m", prompt="hi")))

    assert isinstance(batch[-1], Error)
    assert (batch[-1].code, "priorities" in batch[-1].message) == ("unsupported", True)
    assert isinstance(plain[-1], End)


# -- names and headers ------------------------------------------------------------------------------------------------


async def test_a_model_whose_name_a_url_escapes_is_told_from_one_that_is_not_there(fake: FakeTriton) -> None:
    fake.model("a b")
    async with TritonAdapter(settings(fake)) as adapter:
        with pytest.raises(ModelNotFound, match="use gRPC"):
            await adapter.model_props("a b")
        with pytest.raises(ModelNotFound) as caught:
            await adapter.model_props("c")

    assert "gRPC" not in caught.value.message


@pytest.mark.spec("ORCH-3066-007")
async def test_tokens_are_rotated_and_restricted_keys_go_as_they_are(fake: FakeTriton, tmp_path: Path) -> None:
    fake.model("m").respond_with_text("fine")
    fake.restrict("inference", "metadata", "model-config", key="admin", value="swordfish")
    path = tmp_path / "token"
    path.write_text("first")
    keyed = settings(fake, restricted_token={"key": "admin", "value": "swordfish"}, bearer_token_file=path)
    async with TritonAdapter(settings(fake)) as stranger, TritonAdapter(keyed) as adapter:
        refused = (await collect(stranger.submit(TaskRequest(model="m", prompt="hi"))))[-1]
        opened = (await collect(adapter.submit(TaskRequest(model="m", prompt="hi"))))[-1]

    assert isinstance(refused, Error)
    assert (refused.code, refused.retryable) == ("permission_denied", False)
    assert isinstance(opened, End)
    assert {call.origin.metadata.get("authorization") for call in fake.calls} == {None, "Bearer first"}
    assert "swordfish" not in refused.message


@asynccontextmanager
async def tls_in_front(fake: FakeTriton, authority: trustme.CA, *, mutual: bool) -> AsyncIterator[int]:
    """Run a proxy that speaks TLS, as stands before Triton's HTTP port; it has none of its own."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if mutual:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    host, _, port = fake.http_proxy.address.rpartition(":")

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.spec("ORCH-3066-007")
async def test_a_server_behind_mutual_tls_is_reached_with_a_certificate_and_not_without(
    fake: FakeTriton, tmp_path: Path
) -> None:
    fake.model("m").respond_with_text("fine")
    authority = trustme.CA()
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "client.pem", "client.key"))
    authority.cert_pem.write_to_path(str(ca))
    ours = authority.issue_cert("client.test")
    certificate.write_bytes(b"".join(blob.bytes() for blob in ours.cert_chain_pems))
    ours.private_key_pem.write_to_path(str(key))
    async with tls_in_front(fake, authority, mutual=True) as port:
        url = f"https+v2://127.0.0.1:{port}"
        found = {}
        for name, tls in {
            "ours": TlsSettings(ca_file=ca, cert_file=certificate, key_file=key),
            "none": TlsSettings(ca_file=ca),
            "untrusting": TlsSettings(),
        }.items():
            async with TritonAdapter(TritonSettings(url=url, tls=tls, max_retries=0)) as adapter:
                found[name] = (await collect(adapter.submit(TaskRequest(model="m", prompt="hi"))))[-1]

    assert isinstance(found["ours"], End)
    for name in ("none", "untrusting"):
        error = found[name]
        assert isinstance(error, Error)
        assert error.code in ("unauthenticated", "connection_lost"), error

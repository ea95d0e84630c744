"""Every text of the table, said by a server: inside a stream and as a status, for tasks and for tensors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from adapter_api import (
    AdapterError,
    Capability,
    End,
    EngineFailed,
    Error,
    InferRequest,
    InvalidRequest,
    ProtocolViolation,
    TaskRequest,
    Tensor,
    TokenEvent,
    TransportError,
    Unauthenticated,
)
from adapter_api.testing import collect
from tests.triton_adapter.unsound import unchecked
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.testing import FakeModel, FakeTriton
from triton_adapter.testing.failure import Code
from triton_adapter.wire.text_rows import Row, Said
from triton_adapter.wire.texts import BY_CODE, TABLE

pytestmark = pytest.mark.anyio

SAID = [pytest.param(row, said, id=f"{said.release}: {said.text[:50]}") for _, row in TABLE for said in row.said]
OF_MODELS = [each for each in SAID if not issubclass(each.values[0].error, TransportError | Unauthenticated)]  # type: ignore[union-attr]
IMAGE = {"type": "image", "data": "iVBORw0KGgo=", "media_type": "image/png"}
DEAD = "Error generating stream: EngineCore encountered an issue. See stack trace (above) for the root cause."


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


@pytest.fixture
def model(fake: FakeTriton) -> FakeModel:
    return fake.model("m").signature("vllm").respond_with_text("Hello there!")


@pytest.fixture
async def adapter(fake: FakeTriton, model: FakeModel) -> AsyncIterator[TritonAdapter]:
    async with TritonAdapter(TritonSettings(url=fake.grpc_url, max_retries=0)) as adapter:
        yield adapter


async def run(adapter: TritonAdapter, **fields: Any) -> list[TokenEvent]:
    return await collect(adapter.submit(TaskRequest(**{"model": "m", "prompt": "hi"} | fields)))


async def error_of(adapter: TritonAdapter, **fields: Any) -> Error:
    last = (await run(adapter, **fields))[-1]
    assert isinstance(last, Error), last
    return last


def expected(row: Row) -> tuple[str, bool]:
    error = row.error("m", retryable=row.retryable)
    return error.code, error.retryable


def test_every_row_has_a_text_a_release_and_a_source() -> None:
    assert [row.text for _, row in TABLE if not row.said or not all(map(all, row.said))] == []


@pytest.mark.parametrize("row, said", OF_MODELS)
async def test_a_text_inside_a_stream_means_what_the_table_says(
    adapter: TritonAdapter, model: FakeModel, row: Row, said: Said
) -> None:
    model.fail(said.text, after=0)

    error = await error_of(adapter)

    assert (error.code, error.retryable) == expected(row)
    assert row.advice in error.message


@pytest.mark.parametrize("row, said", SAID)
async def test_a_text_as_a_status_means_what_the_table_says(
    adapter: TritonAdapter, model: FakeModel, row: Row, said: Said
) -> None:
    code: Code = "INTERNAL" if not row.codes or "INTERNAL" in row.codes else "UNAVAILABLE"
    model.signature("vllm", decoupled=False).respond_with_text("Hello there!").abort(code, said.text)

    error = await error_of(adapter)

    assert (error.code, error.retryable) == expected(row)


@pytest.mark.parametrize("row, said", OF_MODELS)
async def test_a_text_inside_a_stream_of_tensors_means_the_same(
    adapter: TritonAdapter, model: FakeModel, row: Row, said: Said
) -> None:
    model.fail(said.text, after=0)
    text = Tensor.from_bytes_elements("text_input", [b"hi"])

    with pytest.raises(AdapterError) as failed:
        async for _ in adapter.infer_stream(InferRequest(model="m", inputs=(text,))):
            pass

    assert (failed.value.code, failed.value.retryable) == expected(row)


@pytest.mark.parametrize(
    "text, code", [("Error generating stream: no idea", "invalid_request"), ("no idea", "engine_failed")]
)
async def test_what_nobody_knows_is_the_requests_fault_where_requests_are_refused_and_never_final_elsewhere(
    adapter: TritonAdapter, model: FakeModel, text: str, code: str
) -> None:
    model.fail(text, after=0)
    error = await error_of(adapter)
    assert (error.code, error.retryable) == (code, code == "engine_failed")

    model.respond_with_text("Hello there!").fail(text, after=1)
    error = await error_of(adapter)
    assert (error.code, error.retryable) == ("engine_failed", True), "it was good enough to begin with"
    assert (await adapter.health()).ready, "and says nothing against the model"


async def test_a_dead_engine_is_not_trusted_and_the_message_says_what_to_do(
    adapter: TritonAdapter, model: FakeModel
) -> None:
    model.fail(DEAD, after=0)

    error = await error_of(adapter)

    assert (error.code, error.retryable) == ("engine_failed", True)
    assert "unload and load the model" in error.message
    assert not (await adapter.health()).ready


@pytest.mark.parametrize(
    "said", [said for _, row in TABLE if row.dead for said in row.said], ids=lambda said: said.text
)
async def test_whatever_words_an_engine_dies_with_it_is_not_trusted_and_another_may_try(
    adapter: TritonAdapter, model: FakeModel, said: Said
) -> None:
    model.fail(said.text, after=0)

    assert (await error_of(adapter)).retryable
    assert not (await adapter.health()).ready


async def test_an_engine_that_ran_out_of_memory_once_is_still_asked(adapter: TritonAdapter, model: FakeModel) -> None:
    model.fail("Error generating stream: CUDA out of memory. Tried to allocate 2.00 GiB.", after=0)

    assert (await error_of(adapter)).retryable
    assert (await adapter.health()).ready


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Say: EngineCore encountered an issue"},
        {"parameters": {"triton.lora_name": "EngineCore encountered an issue"}},
        {"stop": ["EngineCore encountered an issue"]},
        {"response_format": {"type": "regex", "regex": "EngineCore encountered an issue"}},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_client_cannot_make_an_engine_look_dead_by_being_quoted(
    adapter: TritonAdapter, model: FakeModel, fields: dict[str, Any]
) -> None:
    quoted = fields.get("prompt", "EngineCore encountered an issue")
    model.fail(f"Error generating stream: cannot take {quoted!r}", after=0)

    assert (await error_of(adapter, **fields)).code == "invalid_request"
    assert (await adapter.health()).ready


@pytest.mark.spec("ORCH-3058-028")
@pytest.mark.parametrize("reason", ["error", "abort", "timeout", "cancelled", "odd"])
async def test_a_text_that_ends_with_a_failure_ends_in_an_error(
    adapter: TritonAdapter, model: FakeModel, reason: str
) -> None:
    model.respond_with_text("Hello there!", finish_reason=reason)

    error = await error_of(adapter)

    assert (error.code, error.retryable) == ("engine_failed", True)
    assert repr(reason) in error.message


@pytest.mark.spec("ORCH-3058-029")
@pytest.mark.parametrize(
    "broken",
    [
        unchecked("text_output", "FOO", (1,), b"x"),
        unchecked("text_output", "BYTES", (1,), b"\x09\x00\x00\x00cut"),
        unchecked("text_output", "BYTES", (1,), b"\x01\x00"),
        unchecked("text_output", "BYTES", (3,), b"\x01\x00\x00\x00x"),
    ],
    ids=["a datatype there is not", "cut in a text", "cut in a length", "fewer texts than its shape"],
)
async def test_an_output_that_is_none_is_the_engines_fault(
    adapter: TritonAdapter, model: FakeModel, broken: Tensor
) -> None:
    from triton_adapter.testing.script import Send

    model.respond_with_steps(Send({"text_output": broken}, final=True))
    text = Tensor.from_bytes_elements("text_input", [b"hi"])

    with pytest.raises(ProtocolViolation):
        async for _ in adapter.infer_stream(InferRequest(model="m", inputs=(text,))):
            pass


async def test_whether_a_model_looks_at_images_is_known_once_it_was_tried(
    adapter: TritonAdapter, model: FakeModel
) -> None:
    fields = {"prompt": None, "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, IMAGE]}]}

    async def promised() -> tuple[bool, bool]:
        (props,) = [each for each in (await adapter.props()).models if each.name == "m"]
        return Capability.IMAGES in props.capabilities, Capability.IMAGES in props.uncertain

    assert await promised() == (False, True)
    model.respond_with_text("no", times=1).fail("Error generating stream: m is not a multimodal model", after=0)
    assert (await error_of(adapter, **fields)).code == "unsupported"
    assert await promised() == (False, False)

    assert isinstance((await run(adapter, **fields))[-1], End)
    assert await promised() == (True, False)


def test_codes_that_blame_an_engine_for_what_nobody_knows_do_not_call_it_dead() -> None:
    assert not any(row.dead for row in BY_CODE.values())
    assert issubclass(BY_CODE["INTERNAL"].error, EngineFailed)
    assert issubclass(BY_CODE["INVALID_ARGUMENT"].error, InvalidRequest)

"""A model that was loaded already is asked for an answer before it is called loaded, whatever it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from adapter_api import EngineFailed
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.server.models import Loaded
from triton_adapter.testing import FakeModel, FakeTriton

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3057-041")]

TENSORS = """
input {{ name: "x" data_type: {datatype} dims: [ -1, 2 ] }}
input {{ name: "extra" data_type: TYPE_STRING dims: [ 1 ] optional: true }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ 1 ] }}
{more}
"""


def config(datatype: str = "TYPE_FP32", more: str = "") -> str:
    return TENSORS.format(datatype=datatype, more=more)


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        yield running


@pytest.fixture
def model(fake: FakeTriton) -> FakeModel:
    return fake.model("m").config(config()).respond_with_tensors({"y": [1.0]})


@pytest.fixture
async def adapter(fake: FakeTriton, model: FakeModel) -> AsyncIterator[TritonAdapter]:
    async with TritonAdapter(TritonSettings(url=fake.grpc_url, max_retries=0)) as adapter:
        yield adapter


async def loaded(adapter: TritonAdapter) -> Loaded:
    return await adapter.models.bring_up("m")


@pytest.mark.parametrize("datatype", ["TYPE_FP32", "TYPE_STRING", "TYPE_BOOL", "TYPE_INT64", "TYPE_BF16"])
@pytest.mark.parametrize("more", ["", "max_batch_size: 4", "model_transaction_policy { decoupled: true }"])
async def test_a_tensor_model_that_lives_answers_what_is_made_up(
    adapter: TritonAdapter, model: FakeModel, datatype: str, more: str
) -> None:
    model.config(config(datatype, more))

    assert (await loaded(adapter)).answered
    (request,) = model.requests
    assert list(request.inputs) == ["x"]


@pytest.mark.parametrize("more", ["", "model_transaction_policy { decoupled: true }"])
async def test_a_tensor_model_whose_process_died_is_not_called_loaded(
    adapter: TritonAdapter, model: FakeModel, more: str
) -> None:
    model.config(config(more=more)).kill_stub()

    with pytest.raises(EngineFailed, match="was loaded already, and Triton leaves such a model as it is: unload it"):
        await loaded(adapter)


async def test_a_model_that_refuses_or_raises_at_what_is_made_up_is_there(
    adapter: TritonAdapter, model: FakeModel
) -> None:
    model.respond_with(lambda request: 1 / 0)  # type: ignore[arg-type, return-value]
    assert (await loaded(adapter)).answered

    model.abort("INVALID_ARGUMENT", "x must not be zero")
    assert (await loaded(adapter)).answered


@pytest.mark.parametrize(
    "more", ["sequence_batching { }", 'input { name: "huge" data_type: TYPE_FP64 dims: [ 9999999 ] }']
)
async def test_a_model_that_a_stray_request_may_harm_is_not_asked_and_that_is_said(
    adapter: TritonAdapter, model: FakeModel, more: str
) -> None:
    model.config(config(more=more))

    assert not (await loaded(adapter)).answered
    assert not model.requests

"""What a stream keeps while its engine is silent: many of them are, and for long."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

from adapter_api import End, Error, Started, TaskRequest, Tensor, Token
from tests.triton_adapter.ways import url_of
from triton_adapter import TritonAdapter, TritonSettings
from triton_adapter.address import Way
from triton_adapter.tasks.attempt import Attempt
from triton_adapter.testing import FakeTriton
from triton_adapter.transports.choosing import make_transport
from triton_adapter.wire.request import WireRequest

no_spec = "no requirement says how much memory a stream takes; the benchmarks do"

pytestmark = pytest.mark.anyio


async def test_a_task_whose_answer_has_begun_is_kept_by_nobody(way: Way) -> None:
    with FakeTriton() as fake:
        fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
        async with TritonAdapter(TritonSettings(url=url_of(fake, way))) as adapter:
            task = TaskRequest(model="m", prompt="hi")
            kept = weakref.ref(task)
            async with adapter.submit(task) as stream:
                del task
                assert not isinstance(await anext(stream), Token)
                assert kept() is not None, "it may have to be sent once more"
                assert isinstance(await anext(stream), Token)
                assert kept() is None


async def test_an_error_late_in_the_answer_quotes_the_prompt_no_more_than_an_early_one(way: Way) -> None:
    with FakeTriton() as fake:
        failing = fake.model("m").respond_with_tokens(["a", "b", "c"])
        failing.fail("cannot go on after: The canary sings at midnight (error 17)", after=2)
        async with TritonAdapter(TritonSettings(url=url_of(fake, way))) as adapter:
            stream = adapter.submit(TaskRequest(model="m", prompt="The canary sings at midnight"))
            *_, token, error = [event async for event in stream]
    assert isinstance(token, Token)
    assert isinstance(error, Error)
    assert "cannot go on after" in error.message
    assert "canary" not in error.message


@pytest.mark.parametrize("kind", ["h2", "grpcio"])
async def test_a_call_over_grpc_keeps_no_tensors_of_its_request(kind: str) -> None:
    with FakeTriton() as fake:
        fake.model("m").respond_with_tokens(["a", "b"]).hang(after=1)
        transport = make_transport(TritonSettings.model_validate({"url": fake.grpc_url, "transport": kind}))
        text = Tensor.from_bytes_elements("text_input", [b"hi"])
        request = WireRequest("m", (text,), empty_final_response=True)
        ours = sys.getrefcount(text)
        try:
            call = await transport.stream(request, timeout_s=10)
            del request
            await call.read()
            assert sys.getrefcount(text) < ours
            call.cancel()
        finally:
            await transport.aclose()


@pytest.mark.long
async def test_nothing_of_a_task_is_left_to_the_collector_of_cycles(way: Way) -> None:
    with FakeTriton() as fake:
        fake.model("m").respond_with_tokens(["a"])
        async with TritonAdapter(TritonSettings(url=url_of(fake, way))) as adapter:
            task = TaskRequest(model="m", prompt="hi")
            gc.collect()
            gc.disable()
            try:
                async with adapter.submit(task) as stream:
                    assert isinstance(await anext(stream), Started)
                    assert _attempts() == 1
                    assert isinstance([event async for event in stream][-1], End)
                del stream
                assert _attempts() == 0
            finally:
                gc.enable()


def _attempts() -> int:
    return sum(isinstance(each, Attempt) for each in gc.get_objects())

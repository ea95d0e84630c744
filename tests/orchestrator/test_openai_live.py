"""OpenAI's own client, by its default settings, in front of a real Triton: embeddings and responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import openai
import pytest

from orchestrator import Orchestrator
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.orchestrator.test_live import pools, until_in_the_engine
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]


@asynccontextmanager
async def calling(triton: EmbeddedTriton) -> AsyncIterator[tuple[openai.AsyncOpenAI, Orchestrator]]:
    settings = HostSettings.model_validate({**pools(triton.grpc_url), "server": {"port": 0, "shutdown_grace_s": 1}})
    async with serving(settings) as host, openai.AsyncOpenAI(base_url=f"{host.ready.url}/v1", api_key="none") as client:
        yield client, host.orchestrator


@pytest.mark.spec("ORCH-3075-001", "ORCH-3075-002", "ORCH-3075-003")
async def test_a_real_model_embeds_more_texts_than_its_batch_takes(triton: EmbeddedTriton) -> None:
    texts = ["A quick brown fox", "a quick, brown fox!", "Zürich", *map(str, range(17))]
    async with calling(triton) as (client, _):
        found = await client.embeddings.create(model="embedder", input=texts)
        alone = await client.embeddings.create(model="embedder", input="Zürich", encoding_format="float")

    vectors = np.array([each.embedding for each in found.data])
    assert vectors.shape == (20, 64)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]
    assert np.allclose(vectors[2], alone.data[0].embedding)


@pytest.mark.spec("ORCH-3075-004")
@pytest.mark.parametrize("model", ["tinylm", "tinytrt", "addsub", "colours"])
async def test_models_that_embed_nothing_are_told_as_such(triton: EmbeddedTriton, model: str) -> None:
    async with calling(triton) as (client, _):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.embeddings.create(model=model, input="x")

    assert refused.value.code == "unsupported"


@pytest.mark.spec("ORCH-3075-008", "ORCH-3075-010")
async def test_a_real_model_answers_whole_streamed_and_goes_on(triton: EmbeddedTriton) -> None:
    async with calling(triton) as (client, _):
        whole = await client.responses.create(model="tinylm", input="The", max_output_tokens=8, temperature=0)
        async with client.responses.stream(model="tinylm", input="The", max_output_tokens=8, temperature=0) as stream:
            texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        after = await client.responses.create(model="tinylm", input="And", previous_response_id=whole.id)

    assert "".join(texts) == whole.output_text != ""
    assert (whole.status, whole.incomplete_details and whole.incomplete_details.reason) in (
        ("incomplete", "max_output_tokens"),
        ("completed", None),
    )
    assert whole.usage is not None
    assert after.usage is not None
    assert after.usage.input_tokens > whole.usage.input_tokens + whole.usage.output_tokens


@pytest.mark.spec("ORCH-3075-013")
async def test_closing_the_stream_of_a_response_stops_the_model_itself(triton: EmbeddedTriton) -> None:
    more = {"job_id": "left-response", "parameters": {"triton.delay_ms": 10}}
    async with calling(triton) as (client, orchestrator):
        async with client.responses.stream(
            model="slow", input="a b c", max_output_tokens=2000, extra_body=more
        ) as stream:
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break

        await until_in_the_engine(orchestrator, "left-response", "cancelled")
        assert orchestrator.pools[0].in_flight == 0


@pytest.mark.spec("ORCH-3075-013")
async def test_cancelling_a_response_stops_the_model_itself(triton: EmbeddedTriton) -> None:
    more = {"job_id": "cancelled-response", "parameters": {"triton.delay_ms": 10}}
    async with calling(triton) as (client, orchestrator):
        stream = await client.responses.create(
            model="slow", input="a b c", max_output_tokens=2000, extra_body=more, stream=True
        )
        async for event in stream:
            if event.type == "response.output_text.delta":
                cancelled = await client.responses.cancel("resp_cancelled-response")
                break
        last = [event async for event in stream][-1]

        await until_in_the_engine(orchestrator, "cancelled-response", "cancelled")

    assert cancelled.status == "cancelled"
    assert last.type == "response.incomplete"
    assert last.response.status == "cancelled"

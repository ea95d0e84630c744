"""Embeddings on the OpenAI face, with OpenAI's own client, by models whose tensors have names of their own."""

from __future__ import annotations

import base64
import logging
import time
from typing import Any

import anyio
import msgspec
import numpy as np
import openai
import pytest

from adapter_api import Capability, EngineProps, InferRequest, InferResponse, Tensor, TensorSpec, load_plugins
from adapter_api.errors import ConnectFailed, EngineFailed
from adapter_api.testing import MockAdapter
from openai_adapter.testing import FakeOpenAI
from openai_adapter.testing.models import embedding
from orchestrator.http.embeddings import MAX_TEXTS
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.http.test_guard import bearer, key
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio


class Embedder(MockAdapter):
    """Embeds a text as its length and its first letter; `hold` keeps it from answering, `broken` says how it fails."""

    input, output, most, batched, tells = "text", "embedding", 4, True, True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.batches: list[list[str]] = []
        self.hold = anyio.Event()
        self.hold.set()
        self.at_once = self.most_at_once = self.ended = 0
        self.broken = ""

    async def _props(self) -> EngineProps:
        props = await super()._props()
        first = (-1,) if self.batched else ()
        told: dict[str, Any] = {
            "inputs": (TensorSpec(self.input, "BYTES", (*first, 1)),),
            "outputs": (TensorSpec(self.output, "FP32", (*first, 2)),),
            "max_batch_size": self.most if self.batched else None,
            "capabilities": frozenset({Capability.TENSORS}),
        }
        models = tuple(msgspec.structs.replace(each, **(told if self.tells else {})) for each in props.models)
        return msgspec.structs.replace(props, models=models)

    async def _infer(self, request: InferRequest) -> InferResponse:
        [tensor] = request.inputs
        assert (tensor.name, [each.name for each in request.outputs]) == (self.input, [self.output])
        texts = [each.decode() for each in tensor.elements()]
        assert tensor.shape == ((len(texts), 1) if self.batched else (1,))
        assert not self.batched or len(texts) <= self.most
        self.batches.append(texts)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.hold.wait()
            await anyio.lowlevel.checkpoint()
        finally:
            self.at_once -= 1
            self.ended += 1
        if self.broken == "unsent" and len(self.batches) == 1:
            raise ConnectFailed("nobody there")
        if self.broken == "failed" and "bad" in texts:
            raise EngineFailed("it broke")
        numbers = np.array([[len(text), ord(text[0])] for text in texts], "float32")
        if self.broken == "nan":
            numbers[-1] = np.nan
        if not self.batched:
            numbers = numbers[0]
        return InferResponse(
            model=request.model,
            outputs=(Tensor.from_numpy("other" if self.broken == "output" else self.output, numbers),),
            parameters={"prompt_tokens": sum(map(len, texts))} if self.broken == "" else {},
        )


class Single(Embedder):
    input, output, batched = "in", "out", False


class Silent(Single):
    tells = False


PLUGINS = plugin_host(
    **{name.lower(): f"tests.orchestrator.http.test_embeddings:{name}" for name in ("Embedder", "Single", "Silent")},
    mock="adapter_api.testing:MockAdapter",
)


def pool(adapter: str = "embedder", **fields: Any) -> dict[str, Any]:
    return {"pool": {"adapter": adapter, **fields}, "plugins": PLUGINS}


def engine(host: Host, replica_id: str = "r0") -> Embedder:
    found = adapter_of(host.orchestrator, replica_id)
    assert isinstance(found, Embedder)
    return found


async def ask(host: Host, **fields: Any) -> Any:
    return await host.client.post("/v1/embeddings", json={"model": "mock", "input": "a", **fields})


@pytest.mark.spec("ORCH-3075-001", "ORCH-3075-003", "ORCH-3075-007")
async def test_openais_client_gets_vectors_by_default_and_as_numbers(serve: Serve) -> None:
    texts = ["a", "bb", "ccc", "日本", "e", "f"]
    async with serve(**pool()) as host, client_of(host) as client:
        default = await client.embeddings.create(model="mock", input=texts)
        numbers = await client.embeddings.create(model="mock", input="bb", encoding_format="float", dimensions=2)
        batches = [*engine(host).batches]

    assert [each.embedding for each in default.data] == [[len(text), ord(text[0])] for text in texts]
    assert [each.index for each in default.data] == [*range(6)]
    assert [each.embedding for each in numbers.data] == [[2, 98]]
    assert sorted(map(len, batches)) == [1, 2, 4]
    assert (default.usage.prompt_tokens, default.usage.total_tokens) == (10, 10)
    assert (default.object, default.model) == ("list", "mock")


@pytest.mark.spec("ORCH-3075-001")
async def test_base64_holds_32_bit_little_endian_numbers(serve: Serve) -> None:
    async with serve(**pool()) as host:
        [found] = (await ask(host, encoding_format="base64")).json()["data"]

    assert base64.b64decode(found["embedding"]) == np.array([1, 97], "<f4").tobytes()


@pytest.mark.spec("ORCH-3075-002", "ORCH-3075-003")
@pytest.mark.parametrize("adapter", ["single", "silent"])
async def test_a_model_of_one_text_is_asked_for_each_a_few_at_a_time(serve: Serve, adapter: str) -> None:
    texts = [chr(97 + number % 26) * (number + 1) for number in range(20)]
    named = pool(adapter, embeddings={"input": "in", "output": "out"})
    async with serve(**named) as host:
        found = (await ask(host, input=texts)).json()["data"]
        one = engine(host)

    assert [each["embedding"][0] for each in found] == [*range(1, 21)]
    assert len(one.batches) == 20
    assert one.most_at_once <= 8


@pytest.mark.spec("ORCH-3075-002")
async def test_replicas_of_one_model_may_call_its_tensors_differently(serve: Serve) -> None:
    pools: list[Any] = [
        {"id": adapter, "adapter": adapter, "replicas": [{"id": "r0", "slots": 1}]}
        for adapter in ("embedder", "single")
    ]
    async with serve(pools=pools, plugins=PLUGINS) as host:
        for _ in range(20):
            assert (await ask(host, input=["a", "bb"])).json()["data"][1]["embedding"] == [2, 98]
        used = [adapter_of(host.orchestrator, "r0", each["id"]) for each in pools]

    assert all(isinstance(each, Embedder) and each.batches for each in used)


@pytest.mark.spec("ORCH-3075-002", "ORCH-3075-007")
async def test_an_engine_with_openais_api_embeds_without_any_setting(serve: Serve) -> None:
    texts = [f"text number {number}" for number in range(300)]
    with FakeOpenAI() as fake:
        replica = {"id": "r0", "options": {"url": fake.url}}
        pools = [{"adapter": "openai", "replicas": [replica]}]
        async with serve(pools=pools, plugins=load_plugins()) as host, client_of(host) as client:
            found = await client.embeddings.create(model="embedder", input=texts)

    assert [each.embedding for each in found.data] == [pytest.approx(embedding(text), rel=1e-6) for text in texts]
    assert found.usage.prompt_tokens == 900
    assert len(fake.requests) == 2


@pytest.mark.spec("ORCH-3075-003")
async def test_what_was_never_sent_is_asked_of_another_replica(serve: Serve) -> None:
    async with serve({}, {}, **pool()) as host:
        engine(host).broken, engine(host, "r1").broken = "unsent", "counts nothing"
        answered = await ask(host)
        asked = [len(engine(host, replica).batches) for replica in ("r0", "r1")]

    assert (answered.status_code, asked) == (200, [1, 1])
    assert answered.json()["usage"] == {"prompt_tokens": 0, "total_tokens": 0, "counted": False}


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"input": [1, 2]}, 400, "'input' holds token ids"),
    ({"input": [[1, 2], [3]]}, 400, "'input' holds token ids"),
    ({"input": ["a", 7]}, 400, "'input' holds token ids"),
    ({"input": []}, 400, "'input' must be a text"),
    ({"input": ""}, 400, "number 0 is none"),
    ({"input": ["a", None]}, 400, "number 1 is none"),
    ({"input": {"a": 1}}, 400, "'input' must be a text"),
    ({"input": ["a"] * (MAX_TEXTS + 1)}, 400, "there may be 2048"),
    ({"dimensions": 3}, 400, "'dimensions' is 3, and model 'mock' gives 2"),
    ({"dimensions": "3"}, 400, "'dimensions' is 3, and model 'mock' gives 2"),
    ({"dimensions": True}, 400, "'dimensions' must be"),
    ({"encoding_format": "int8"}, 400, "'encoding_format' must be"),
    ({"timeout_s": 0}, 400, "'timeout_s' must be"),
    ({"model": 5}, 400, "'model' must be"),
    ({"model": "nope"}, 404, "no replica has a model 'nope'"),
    ({"truncate": "END"}, 400, "'truncate' is not supported here"),
    ({"add_special_tokens": False}, 400, "'add_special_tokens' is not supported here"),
    ({"endianness": "big"}, 400, "'endianness' is not supported here"),
    ({"embed_dtype": "float16"}, 400, "'embed_dtype' is not supported here"),
]


@pytest.mark.spec("ORCH-3075-004", "ORCH-3075-015")
async def test_what_cannot_be_embedded_is_refused_by_name(serve: Serve) -> None:
    async with serve(**pool()) as host:
        for fields, status, said in REFUSED:
            answered = await ask(host, **fields)
            assert answered.status_code == status, fields
            assert said in answered.json()["error"]["message"], fields
        assert engine(host).batches == []


@pytest.mark.spec("ORCH-3075-004")
async def test_half_a_character_is_no_text(serve: Serve) -> None:
    async with serve(**pool()) as host:
        answered = await host.client.post("/v1/embeddings", content=rb'{"model": "mock", "input": "\ud800"}')

    assert answered.status_code == 400


@pytest.mark.spec("ORCH-3075-004")
async def test_a_size_that_only_the_answer_tells_is_refused_too(serve: Serve) -> None:
    named = pool("silent", embeddings={"input": "in", "output": "out"})
    async with serve(**named) as host:
        answered = await ask(host, dimensions=3)

    assert answered.status_code == 400
    assert answered.json()["error"]["param"] == "dimensions"


@pytest.mark.spec("ORCH-3075-004")
async def test_a_model_that_writes_text_embeds_nothing(serve: Serve) -> None:
    async with serve(plugins=PLUGINS) as host:
        answered = await ask(host)

    assert answered.status_code == 400
    assert "name those of its embeddings in its pool's settings" in answered.json()["error"]["message"]


@pytest.mark.spec("ORCH-3075-015")
async def test_what_says_nothing_of_the_vectors_is_taken(serve: Serve) -> None:
    async with serve(**pool()) as host:
        answered = await ask(host, user="u", dimensions=None, encoding_format=None, truncate=None, request_id="r")
        default = await ask(host, add_special_tokens=True, embed_dtype="float32", endianness="native")

    assert [answered.status_code, default.status_code] == [200, 200]
    assert not default.headers.get("X-Ignored-Fields")


@pytest.mark.spec("ORCH-3077-007")
async def test_an_answer_has_the_id_of_its_request_and_its_time(serve: Serve) -> None:
    async with serve(**pool()) as host:
        ours = (await ask(host)).json()
        theirs = (await ask(host, request_id="mine")).json()
        sent = await host.client.post(
            "/v1/embeddings", json={"model": "mock", "input": "a"}, headers={"X-Request-Id": "yours"}
        )

    assert ours["id"].startswith("embd-")
    assert [theirs["id"], sent.json()["id"]] == ["embd-mine", "embd-yours"]
    assert abs(ours["created"] - time.time()) < 60


@pytest.mark.spec("ORCH-3077-008")
@pytest.mark.parametrize("named", [{}, {"model": ""}, {"model": None}])
async def test_the_only_model_that_embeds_need_not_be_named(serve: Serve, named: dict[str, Any]) -> None:
    pools = [
        {"id": "search", "adapter": "embedder", "models": ["mock"], "replicas": [{"id": "r0"}]},
        {"id": "chat", "adapter": "mock", "served_as": {"mock": ["chat"]}, "replicas": [{"id": "r1"}]},
    ]
    async with serve(pools=pools, plugins=PLUGINS) as host:
        answered = await host.client.post("/v1/embeddings", json={"input": "a", **named})
    async with serve(plugins=PLUGINS) as host:
        refused = await host.client.post("/v1/embeddings", json={"input": "a", **named})

    assert (answered.status_code, answered.json()["model"]) == (200, "mock")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


@pytest.mark.spec("ORCH-3075-005")
@pytest.mark.parametrize("how", ["nan", "output"])
async def test_a_broken_answer_is_the_engines_fault(serve: Serve, how: str) -> None:
    async with serve(**pool()) as host:
        engine(host).broken = how
        answered = await ask(host, input=["a", "b"])

    assert (answered.status_code, answered.json()["error"]["code"]) == (502, "protocol_violation")


@pytest.mark.spec("ORCH-3075-003")
async def test_the_first_failure_ends_the_others(serve: Serve) -> None:
    async with serve(**pool("single")) as host:
        one = engine(host)
        one.broken = "failed"
        answered = await ask(host, input=["bad", *("x" * number for number in range(1, 200))])
        await eventually(lambda: not one.at_once)
        free = host.orchestrator.pools[0].in_flight

    assert (answered.status_code, free) == (502, 0)
    assert len(one.batches) < 50


@pytest.mark.spec("ORCH-3075-003")
@pytest.mark.parametrize("limit", [0, 2])
async def test_a_request_gets_along_with_the_places_there_are(serve: Serve, limit: int) -> None:
    texts = [letter * 3 for letter in "abcdefghijklmnop"]
    async with serve({"slots": 1}, **pool("single", queue={"limit": limit})) as host:
        engine(host).hold = hold = anyio.Event()
        async with anyio.create_task_group() as group:
            answers: list[Any] = []

            async def first() -> None:
                answers.append(await ask(host, input=texts))

            group.start_soon(first)
            await eventually(lambda: engine(host).at_once == 1)
            if not limit:
                answers.append(await ask(host, input="x"))  # nobody has room for this one
            hold.set()

    assert [answer.status_code for answer in answers] == ([429, 200] if not limit else [200])
    assert [each["embedding"] for each in answers[-1].json()["data"]] == [[3, ord(text[0])] for text in texts]


@pytest.mark.spec("ORCH-3075-003")
async def test_a_client_that_leaves_ends_its_inferences(serve: Serve) -> None:
    async with serve(**pool("single")) as host:
        one = engine(host)
        one.hold = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: ask(host, input=["a", "b", "c"]))
            await eventually(lambda: one.at_once == 3)
            group.cancel_scope.cancel()
        await eventually(lambda: one.ended == 3 and not host.orchestrator.pools[0].in_flight)


@pytest.mark.spec("ORCH-3075-003")
async def test_all_inferences_share_the_requests_time(serve: Serve) -> None:
    async with serve(**pool("single")) as host:
        engine(host).hold = anyio.Event()
        answered = await ask(host, input=["a", "b"], timeout_s=0.05)

    assert (answered.status_code, answered.json()["error"]["code"]) == (504, "deadline_exceeded")


@pytest.mark.spec("ORCH-3064-018")
async def test_a_key_embeds_by_its_own_models_only(serve: Serve) -> None:
    keys = {"api_keys": [key("alice"), key("bob", models=["other"])]}
    async with serve(**pool(), server=keys) as host:
        answered = [
            await host.client.post("/v1/embeddings", json={"model": "mock", "input": "a"}, headers=bearer(name))
            for name in ("alice", "bob")
        ]

    assert [each.status_code for each in answered] == [200, 403]


@pytest.mark.spec("ORCH-3075-006")
async def test_names_that_no_model_has_are_in_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with serve(**pool(embeddings={"input": "texts"})) as host, client_of(host) as client:
            with pytest.raises(openai.BadRequestError, match="by the input 'texts' that its pool's settings name"):
                await client.embeddings.create(model="mock", input="a")

    assert [record.message for record in caplog.records if "embed" in record.message] == [
        "pool default cannot embed at replica r0: model 'mock' takes no texts by the input 'texts' that its pool's "
        "settings name: its inputs are text BYTES"
    ]


@pytest.mark.spec("ORCH-3075-016")
async def test_each_inference_is_counted_against_a_key(serve: Serve) -> None:
    keys = [{**key("alice"), "requests_per_minute": 4}]
    async with serve(**pool(), server={"api_keys": keys}) as host:

        async def embed(texts: int) -> Any:
            asked = {"model": "mock", "input": ["text"] * texts}
            return await host.client.post("/v1/embeddings", json=asked, headers=bearer("alice"))

        too_many, three, none = [await embed(texts) for texts in (4 * Embedder.most + 1, 2 * Embedder.most + 1, 1)]
        run = len(engine(host).batches)

    assert (too_many.status_code, three.status_code, none.status_code) == (429, 200, 429)
    assert "asks for 5 inferences" in too_many.json()["error"]["message"]
    assert too_many.headers["x-should-retry"] == "false"
    assert run == 3

"""Steps that vLLM joins into one message, on Triton's wire, and what clients of the host's OpenAI face get of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from orchestrator.config import HostSettings
from orchestrator.serve import serving
from triton_adapter.testing import FakeTriton, Silent

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3055-048")]

JOINED = [
    (Silent("<s>"), "Once"),
    (" upon", " a", " 日".encode()[:2], " 日".encode()[2:3], " 日".encode()[3:]),
    ("!", Silent("</s>")),
]
TOKENS = ["", "Once", " upon", " a", "", "", " 日", "!", ""]
TEXT = "".join(TOKENS)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as running:
        running.model("m").signature("vllm").respond_with_tokens(JOINED)
        yield running


@pytest.fixture
async def client(fake: FakeTriton) -> AsyncIterator[httpx.AsyncClient]:
    pool = {"adapter": "triton", "replicas": [{"id": "r0", "options": {"url": fake.grpc_url}}]}
    settings = HostSettings.model_validate({"pools": [pool], "read_environment": False, "server": {"port": 0}})
    async with serving(settings) as running:
        async with httpx.AsyncClient(base_url=running.ready.url, timeout=10, trust_env=False) as client:
            yield client


async def ask(client: httpx.AsyncClient, path: str, stream: bool, **fields: Any) -> list[dict[str, Any]]:
    """Return the first choice of the answer, or of each chunk that has one."""
    answer = await client.post(path, json={"model": "m", "stream": stream, **fields})
    assert answer.status_code == 200, answer.text
    if not stream:
        return [answer.json()["choices"][0]]
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [choice for line in lines for choice in json.loads(line)["choices"]]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_has_an_entry_per_token_however_the_engine_joined_them(
    client: httpx.AsyncClient, stream: bool
) -> None:
    fields = {"messages": [{"role": "user", "content": "Tell"}], "logprobs": True, "top_logprobs": 2}

    choices = await ask(client, "/v1/chat/completions", stream, **fields)

    entries = [entry for choice in choices for entry in (choice["logprobs"] or {}).get("content", [])]
    assert [entry["token"] for entry in entries] == TOKENS
    assert b"".join(bytes(entry["bytes"]) for entry in entries).decode() == TEXT
    assert [entry["logprob"] for entry in entries] == [-0.5] * len(TOKENS)
    assert {len(entry["top_logprobs"]) for entry in entries} == {2}
    said = [choice["message" if not stream else "delta"].get("content") or "" for choice in choices]
    assert "".join(said) == TEXT


@pytest.mark.parametrize("stream", [False, True])
async def test_a_completion_has_every_token_its_offset_and_its_alternatives(
    client: httpx.AsyncClient, stream: bool
) -> None:
    choices = await ask(client, "/v1/completions", stream, prompt="Tell", logprobs=2)

    told = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    columns = {name: [value for each in told for value in each[name] or ()] for name in told[0]}
    assert columns["tokens"] == TOKENS
    assert columns["token_logprobs"] == [-0.5] * len(TOKENS)
    assert columns["text_offset"] == [len("".join(TOKENS[:at])) for at in range(len(TOKENS))]
    assert len(columns["top_logprobs"]) == len(TOKENS)
    assert "".join(choice["text"] for choice in choices) == TEXT

"""A chat with the real server."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from adapter_clients import ChatClient
from tests.adapter_clients.chat.test_images import picture
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton

pytestmark = pytest.mark.anyio


@pytest.mark.live
@pytest.mark.spec("ORCH-3070-002", "ORCH-3070-003")
async def test_a_conversation_reaches_the_real_server_turn_by_turn(triton: EmbeddedTriton) -> None:
    async with ChatClient.connect(triton.grpc_url, model="echo", system="Be brief.") as client:
        await client.chat("Hello")
        second = await client.chat("And?", seed=7)
        pieces = [piece async for piece in client.chat("What?", model="tinylm", max_new_tokens=8)]

    told = json.loads(second.text)["inputs"]
    assert told["text_input"].startswith("system: Be brief.\n\nuser: Hello\n\nassistant: {")
    assert told["text_input"].endswith("\n\nuser: And?\n\nassistant:")
    assert json.loads(told["sampling_parameters"]) == {"max_tokens": 512, "seed": 7}
    assert len(pieces) > 1


@pytest.mark.spec("ORCH-3070-012", "ORCH-3070-013")
async def test_pictures_reach_a_vllm_model_as_plain_base64_of_an_upright_picture() -> None:
    with FakeTriton() as fake:
        fake.model("llava").signature("vllm").respond_with_tokens(["a", " cat"])
        async with ChatClient.connect(fake.grpc_url) as client:
            answer = await client.chat("What is it?", images=[picture(turned=6)])
        (request,) = [request for request in fake.requests if request.model == "llava"]

    assert answer.text == "a cat"
    shown = request.value("image")
    assert isinstance(shown, str)
    assert Image.open(io.BytesIO(base64.b64decode(shown, validate=True))).size == (20, 40)

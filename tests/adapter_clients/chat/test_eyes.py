"""A picture's whole way, from a file to the pixels that a model on a real Triton sees, over all that goes there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapter_api import Capability, InvalidRequest, Unsupported, load_plugins
from adapter_clients import ChatClient
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.adapter_clients.chat.test_images import picture
from tests.triton_adapter.embedded.repositories import QUICK, add_model
from tests.worker_adapter.chat.test_chat import Terminal
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.embedded.demo import demo_repository

pytestmark = [pytest.mark.anyio, pytest.mark.live]

CONFIG = """
backend: "python"
model_transaction_policy { decoupled: true }
input [
  { name: "text_input", data_type: TYPE_STRING, dims: [ 1 ] },
  { name: "stream", data_type: TYPE_BOOL, dims: [ 1 ], optional: true },
  { name: "sampling_parameters", data_type: TYPE_STRING, dims: [ 1 ], optional: true },
  { name: "image", data_type: TYPE_STRING, dims: [ -1 ], optional: true },
  { name: "return_finish_reason", data_type: TYPE_BOOL, dims: [ 1 ], optional: true }
]
output [ { name: "text_output", data_type: TYPE_STRING, dims: [ -1 ] } ]
instance_group [ { kind: KIND_CPU } ]
"""
MODEL = (Path(__file__).parent / "stand_ins" / "eyes.py").read_text("utf-8")
WAYS = ("grpcio", "h2", "http", "host, v1", "host, v2")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """A real server with a model that sees, one that does not, and one of tensors."""
    repository = tmp_path_factory.mktemp("models")
    for name in ("echo", "addsub"):
        (repository / name).symlink_to(demo_repository() / name)
    add_model(repository, "eyes", MODEL, CONFIG)
    with EmbeddedTriton(model_repository=repository, extra_args=QUICK) as server:
        yield server


@asynccontextmanager
async def client_by(way: str, server: EmbeddedTriton, **settings: Any) -> AsyncIterator[ChatClient]:
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {}
        url, adapter = server.grpc_url, "triton"
        if way in ("grpcio", "h2"):
            options["transport"] = way
        elif way == "http":
            url = server.http_url.replace("http://", "http+v2://")
        else:
            host = await stack.enter_async_context(serving(_host(server), plugins=load_plugins()))
            url = host.ready.url
            adapter = "openai" if way == "host, v1" else "triton"
            url = url if adapter == "openai" else url.replace("http://", "http+v2://")
        yield await stack.enter_async_context(
            ChatClient.connect(url, adapter=adapter, options=options, **{"model": "eyes", **settings})
        )


def _host(server: EmbeddedTriton) -> HostSettings:
    return HostSettings.model_validate(
        {
            "server": {"port": 0, "shutdown_grace_s": 1},
            "pools": [{"id": "p", "adapter": "triton", "replicas": [{"id": "r", "options": {"url": server.grpc_url}}]}],
            "read_environment": False,
        }
    )


@pytest.mark.spec("ORCH-3070-012", "ORCH-3070-013")
@pytest.mark.parametrize("way", WAYS)
async def test_a_model_sees_the_picture_upright_in_its_colours_over_each_way(
    way: str, eyes: EmbeddedTriton, tmp_path: Path
) -> None:
    (tmp_path / "a photo.jpg").write_bytes(picture(turned=6))
    large = np.zeros((3000, 4000, 3), np.uint8)
    large[:1500, :2000] = (0, 255, 0)

    async with client_by(way, eyes) as client:
        assert client.settings.model == "eyes"
        one = await client.chat("What is on it?", images=[tmp_path / "a photo.jpg"])
        both = await client.chat("And now?", images=[picture((64, 48), format="PNG"), Image.fromarray(large)])
        told = "".join([piece async for piece in client.chat("And before?", max_tokens=4)])

    assert one.text.startswith("20x40 red red / blue blue <")
    # All pictures of the conversation go, in order; the large one is made as small as the settings say.
    seen = "20x40 red red / blue blue; 64x48 red blue / red blue; 2048x1536 green black / black black"
    assert both.text.startswith(f"{seen} <")
    assert told.startswith("20x40 red red / <user: What is on it?") or told.startswith("20x40 red red / <")
    assert "What is on it?" in told
    assert told.rstrip().endswith(">")


@pytest.mark.spec("ORCH-3070-011", "ORCH-3070-022")
@pytest.mark.parametrize("way", WAYS)
async def test_a_model_without_eyes_is_shown_nothing_over_any_way(way: str, eyes: EmbeddedTriton) -> None:
    async with client_by(way, eyes) as client:
        props = await client.model("eyes")
        await client.chat("Look.", images=[picture()])
        with pytest.raises(Unsupported, match=r"there is one in the history of this session.*clear_history"):
            await client.chat("And what is it?", model="echo")
        with pytest.raises(Unsupported, match="takes no images"):
            await client.chat("Look.", images=[picture()], model="echo", session="other")
        with pytest.raises(Unsupported, match="takes no images by URL"):
            await client.chat("Look.", images=["https://images.example/cat.png"], session="other")
        with pytest.raises(InvalidRequest):
            await client.chat("Look.", images=[b"%!PS-Adobe-3.0 EPSF-3.0"], session="other")
        again = await client.chat("Once more.")

    assert Capability.IMAGES in props.capabilities | props.uncertain
    assert again.text.startswith("40x20 red blue / red blue <")
    assert len(client.history("other")) == 0
    assert len(client.history()) == 4


@pytest.mark.spec("ORCH-3070-022")
@pytest.mark.parametrize("way", ["h2", "host, v1", "host, v2"])
async def test_only_models_that_chat_are_offered_for_a_chat(way: str, eyes: EmbeddedTriton) -> None:
    async with client_by(way, eyes, model=None) as client:
        names = await client.model_names()
        with pytest.raises(InvalidRequest, match="which model") as asked:
            await client.chat("Hello")
        with pytest.raises(Unsupported, match="takes no text"):
            await client.chat("Hello", model="addsub")

    assert names == ["echo", "eyes"]
    assert "addsub" not in asked.value.message


@pytest.mark.spec("ORCH-3070-011", "ORCH-3070-018")
def test_a_picture_that_is_dragged_into_a_terminal_is_seen_and_the_chat_goes_on_from_there(
    eyes: EmbeddedTriton, tmp_path: Path
) -> None:
    (tmp_path / "it's a photo.jpg").write_bytes(picture(turned=6))
    dragged = f"'{tmp_path}/it'\\''s a photo.jpg' "
    with Terminal("chat", eyes.grpc_url, "--model", "eyes", "--max-tokens", "32") as terminal:
        terminal.read_until_prompt()
        terminal.type(f"{dragged}\r")
        terminal.read_until("with the next question")
        terminal.read_until_prompt()
        terminal.type("What is on it?\r")
        terminal.read_until("20x40 red red / blue blue <")
        terminal.read_until_prompt()
        terminal.type("/model echo\r")
        terminal.read_until("model: echo")
        terminal.read_until_prompt()
        terminal.type("And where?\r")
        terminal.read_until("error[unsupported]")
        terminal.read_until("in the history of this session")
        terminal.read_until_prompt()
        terminal.type(f"/save {tmp_path}/chat.md\r")
        terminal.read_until("saved 1 question")
        terminal.read_until_prompt()
        terminal.type("/clear\r")
        terminal.read_until("forgotten")
        terminal.read_until_prompt()
        terminal.type("And now?\r")
        terminal.read_until("user: And now?")
        terminal.read_until_prompt()
        terminal.type("\x04")

        assert terminal.exit_code() == 0
    saved = (tmp_path / "chat.md").read_text()
    assert "**You:** What is on it?" in saved
    assert "**eyes:** 20x40 red red / blue blue" in saved


@pytest.mark.spec("ORCH-3070-016")
def test_ctrl_c_stops_an_answer_in_a_real_engine_and_the_next_question_is_answered(triton: EmbeddedTriton) -> None:
    with Terminal("chat", triton.grpc_url, "--model", "slow", "--max-tokens", "2000") as terminal:
        terminal.read_until_prompt()
        terminal.type("again and again\r")
        terminal.read_until("again")
        terminal.read_until("user")  # the model repeats its prompt
        terminal.type("\x03")
        told = terminal.read_until_prompt()
        terminal.type("/model splitter\r")
        terminal.read_until_prompt()
        terminal.type("ünï\r")
        terminal.read_until("user: ünï")
        terminal.read_until_prompt()
        terminal.type("\x04")

        assert terminal.exit_code() == 0
    assert "SIGINT: cancelled in" in told
    assert "it is not remembered" in told

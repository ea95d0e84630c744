"""Settings of a chat, and where they come from."""

from __future__ import annotations

import pytest

from adapter_api import ConfigurationError
from adapter_clients import ChatClient, ChatSettings, SyncChatClient
from tests.adapter_clients.chat.engines import mock


@pytest.mark.spec("ORCH-3070-014")
def test_the_environment_says_how_to_chat_and_the_caller_wins() -> None:
    environ = {
        "MAX_HISTORY": "3", "MAX_NEW_TOKENS": "64", "TEMPERATURE": "0.2", "TOP_P": "0.9", "SYSTEM_PROMPT": "Be brief.",
        "TRITON_MODEL": "llava ", "TRITON_TIMEOUT": "30", "MAX_IMAGE_BYTES": " ",
        "TRITON_ENABLED": " true ", "PATH": "/bin",
    }  # fmt: skip

    settings = ChatSettings.from_env(environ, top_p=0.5)

    assert settings == ChatSettings(
        max_history=3, max_new_tokens=64, temperature=0.2, top_p=0.5, system="Be brief.", model="llava", timeout_s=30
    )


@pytest.mark.spec("ORCH-3070-014")
def test_five_turns_are_the_default() -> None:
    assert ChatSettings.from_env({}).max_history == 5


@pytest.mark.spec("ORCH-3070-014")
@pytest.mark.parametrize(
    "name, value", [("MAX_HISTORY", "many"), ("MAX_HISTORY", "-1"), ("TEMPERATURE", "hot"), ("TOP_P", "0")]
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"set by {name}"):
        ChatClient.from_env({name: value})


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="max_histry: unknown field"):
        ChatClient(mock(), max_histry=3)


@pytest.mark.spec("ORCH-3070-014")
def test_the_seeds_variables_reach_triton() -> None:
    environ = {
        "TRITON_ENABLED": "true",
        "TRITON_URL": "triton.example:9001",
        "TRITON_MODEL": "llava",
        "TRITON_TIMEOUT": "9",
    }

    client = ChatClient.from_env(environ)

    assert (client.adapter.engine, client.adapter.settings.url) == ("triton", "triton.example:9001")  # type: ignore[attr-defined]
    assert (client.settings.model, client.settings.timeout_s) == ("llava", 9)
    assert SyncChatClient.from_env(environ).settings.model == "llava"


@pytest.mark.spec("ORCH-3070-014")
def test_an_engine_of_another_kind_is_named_by_its_url() -> None:
    assert ChatClient.from_env({"WORKER_ADAPTER_URL": "mock://here"}).adapter.engine == "mock"
    assert ChatClient.connect("mock://here", model="mock").adapter.engine == "mock"
    with pytest.raises(ConfigurationError, match="no adapter serves"):
        ChatClient.connect("nothing://here")


@pytest.mark.anyio
async def test_a_chat_that_is_switched_off_says_so_and_asks_nobody() -> None:
    client = ChatClient.from_env({"TRITON_ENABLED": "false", "WORKER_ADAPTER_URL": "mock://here"})

    async with client:
        with pytest.raises(ConfigurationError, match="TRITON_ENABLED=true"):
            await client.chat("Hello")

    assert not client.enabled


def test_what_was_said_is_in_no_repr() -> None:
    assert "secret" not in repr(ChatSettings(system="secret"))

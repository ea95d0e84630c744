"""What an engine says of its models in `/v1/models`: believed where this project's host says it, in its own words."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import Capability
from openai_adapter.engine.listing import read_listing

pytestmark = pytest.mark.spec("ORCH-3070-022")


def card(**said: Any) -> Any:
    cards = read_listing({"object": "list", "data": [{"id": "m", "object": "model", **said}]})
    assert cards is not None
    return cards[0]


def test_the_hosts_words_are_read_and_those_of_later_versions_passed_over() -> None:
    found = card(capabilities=["messages", "text", "images", "telepathy"], uncertain=["seed"])

    assert found.capabilities == {Capability.MESSAGES, Capability.TEXT, Capability.IMAGES}
    assert found.uncertain == {Capability.SEED}


@pytest.mark.parametrize(
    "said",
    [
        ["completion", "multimodal"],  # llama.cpp's server
        ["completion", "vision", "tools", "thinking"],  # Ollama
        {"completion_chat": True, "vision": False},  # Mistral
        [],
        [1, None],
        "text",
        None,
        [["text"]],
        [{}],
    ],
)
def test_what_others_say_there_in_their_own_words_says_nothing(said: Any) -> None:
    assert card(capabilities=said, uncertain=said).capabilities is None


@pytest.mark.spec("ORCH-3067-027")
@pytest.mark.parametrize("said", [{}, {"ready": True}, {"ready": None}, {"ready": "no"}, {"ready": 0}])
def test_a_listed_model_is_ready_unless_the_list_says_that_it_is_not(said: dict[str, Any]) -> None:
    assert card(**said).ready
    assert not card(ready=False).ready

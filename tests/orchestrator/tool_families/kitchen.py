"""A Triton with the model that writes calls, a host with a pool for each family in front of it, and OpenAI's client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai

from adapter_kit.tool_calls import FAMILIES
from orchestrator.config import HostSettings
from orchestrator.serve import serving
from tests.orchestrator.tool_families.asked import TEMPLATE
from triton_adapter.embedded import EmbeddedTriton

MODELS = Path(__file__).parent / "models"
NAMES = tuple(grammar.name for grammar in FAMILIES)
THINKING = "thinking"
"""A model of the Hermes family that thinks before it answers."""


def settings_of(url: str, names: Iterable[str]) -> HostSettings:
    pools: list[dict[str, Any]] = [
        {
            "id": name,
            "adapter": "triton",
            "chat_template": TEMPLATE.replace("GRAMMAR", "hermes" if name == THINKING else name),
            "tool_parser": "hermes" if name == THINKING else name,
            "reasoning_parser": "think" if name == THINKING else "none",
            "default_max_tokens": 4000,
            "served_as": {"toolwriter": name},
            "replicas": [{"id": "r0", "url": url}],
        }
        for name in (*names, THINKING)
    ]
    return HostSettings.model_validate(
        {"pools": pools, "read_environment": False, "server": {"port": 0, "shutdown_grace_s": 1}}
    )


@asynccontextmanager
async def cooking(triton: EmbeddedTriton, *names: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Serve the families that are named, each as a model of its name."""
    async with serving(settings_of(triton.grpc_url, names)) as host:
        async with openai.AsyncOpenAI(base_url=f"{host.ready.url}/v1", api_key="none", max_retries=0) as client:
            yield client

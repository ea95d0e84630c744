"""A host that serves on a free port, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from adapter_api import PluginHost
from orchestrator.config import HostSettings, Loaded
from orchestrator.serve import Serving, serving
from tests.orchestrator.pooling import mock_host


class Host:
    """A serving host, and an HTTP client that talks to it."""

    def __init__(self, serving: Serving, client: httpx.AsyncClient) -> None:
        self.serving = serving
        self.orchestrator = serving.orchestrator
        self.client = client
        self.url = serving.ready.url


Serve = Callable[..., AbstractAsyncContextManager[Host]]


@pytest.fixture
def serve() -> Serve:
    """`async with serve({"reply": "hi"}, server={...}) as host:` one mock replica per mapping of options.

    `load` makes the settings of a reload out of those before.
    """

    @asynccontextmanager
    async def start(
        *replicas: dict[str, Any],
        pool: dict[str, Any] | None = None,
        plugins: PluginHost | None = None,
        load: Callable[[HostSettings], Loaded] | None = None,
        **host: Any,
    ) -> AsyncIterator[Host]:
        fields: dict[str, Any] = {
            "pools": [
                {
                    "adapter": "mock",
                    "replicas": [
                        {"id": f"r{i}", "slots": options.pop("slots", None), "options": options}
                        for i, options in enumerate([dict(r) for r in replicas] or [{}])
                    ],
                    **(pool or {}),
                }
            ],
            "read_environment": False,
            **host,
        }
        fields["server"] = {"port": 0, "shutdown_grace_s": 1, **fields.get("server", {})}
        settings = HostSettings.model_validate(fields)
        again = None if load is None else partial(load, settings)
        async with serving(settings, plugins=plugins or mock_host(), load=again) as running:
            # Nothing here speaks TLS, and to read whom the world trusts takes longer than most tests: 20 ms.
            async with httpx.AsyncClient(
                base_url=running.ready.url, timeout=10, trust_env=False, verify=False
            ) as client:
                yield Host(running, client)

    return start

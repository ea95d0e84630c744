"""OpenAI's own client for a host that serves."""

from __future__ import annotations

import openai

from tests.orchestrator.http.conftest import Host


def client_of(host: Host, api_key: str = "none") -> openai.AsyncOpenAI:
    """Return a client that says what goes wrong the first time."""
    return openai.AsyncOpenAI(
        base_url=f"{host.url}/v1",
        api_key=api_key,
        max_retries=0,
        # Nothing here speaks TLS, and to read whom the world trusts takes longer than most tests: 20 ms.
        http_client=openai.DefaultAsyncHttpxClient(verify=False),
    )

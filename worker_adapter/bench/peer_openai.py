"""OpenAI's own SDK, as its users write it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import openai

from worker_adapter.bench.ours import TextOrder
from worker_adapter.bench.peers import Asked, Unfit, refuse_settings
from worker_adapter.bench.samples import Answer, Reading

_NOT_PASSED_ON = ("tls", "api_key_file", "organization", "project", "headers", "proxy")
_VERSION = re.compile(r"/v\d+[a-z0-9]*$")


async def open_peer(
    stack: AsyncExitStack, url: str, settings: Any, asked: Asked
) -> tuple[str, Callable[[], Awaitable[Answer]]]:
    """Return what it does less than ours, and what asks once."""
    if asked.text is None:
        raise Unfit("it has no tensors")
    refuse_settings(settings, _NOT_PASSED_ON)
    base = url.rstrip("/")
    secret = getattr(settings, "api_key", None)
    client = await stack.enter_async_context(
        openai.AsyncOpenAI(
            base_url=base if _VERSION.search(base) else f"{base}/v1",
            # It will not do without one.
            api_key=secret.get_secret_value() if secret is not None else "none",
            max_retries=0,
            timeout=asked.text.timeout_s,
        )
    )
    return "", _text(client, asked.text)


def _text(client: openai.AsyncOpenAI, order: TextOrder) -> Callable[[], Awaitable[Answer]]:
    fields: dict[str, Any] = {"model": order.model, "stream": True, "stream_options": {"include_usage": True}}
    fields |= order.sent
    if order.as_messages:
        fields["messages"] = [{"role": "user", "content": order.prompt}]
    else:
        fields["prompt"] = order.prompt

    async def ask() -> Answer:
        reading = Reading()
        finished = False
        try:
            create: Any = client.chat.completions.create if order.as_messages else client.completions.create
            stream = await create(**fields)
            async for chunk in stream:
                for choice in chunk.choices:
                    text = choice.delta.content if order.as_messages else choice.text
                    if text:
                        reading.piece(text)
                        if order.pause_s:
                            await anyio.sleep(order.pause_s)
                    finished |= choice.finish_reason is not None
        except openai.APIStatusError as exc:
            return reading.done(f"http_{exc.status_code}")
        except openai.APITimeoutError:
            return reading.done("timeout")
        except openai.APIError:
            return reading.done("connection_error")
        return reading.done(None if finished else "stream_incomplete")

    return ask

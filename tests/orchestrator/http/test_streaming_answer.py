"""What a stream holds back until somebody can see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import End, PromptLogprobs, PromptToken, Started, Token, TokenEvent
from orchestrator.config import ServerSettings
from orchestrator.http.answers import StreamingAnswer

pytestmark = pytest.mark.anyio

SCORES = PromptLogprobs(tokens=(PromptToken("a"),))


class Noting(StreamingAnswer):
    """Notes what it is to encode."""

    starts_at_once = False

    def encode(self, batch: list[Any]) -> bytes:
        self.noted = [*getattr(self, "noted", []), *batch]
        return b"x"


@pytest.mark.spec("ORCH-3076-017")
async def test_what_was_held_back_is_not_lost_when_a_heartbeat_sends_the_head() -> None:
    said: list[TokenEvent] = [
        Started(job_id="j", engine="e", model="m"), SCORES, Token(0, "a"), End(finish_reason="stop"),
    ]  # fmt: skip

    async def batches() -> AsyncIterator[list[TokenEvent]]:
        yield said[:2]
        await answer.start(send)  # as a heartbeat does
        yield said[2:3]
        yield said[3:]

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def close() -> None:
        closed.append(True)

    sent: list[Any] = []
    closed: list[bool] = []
    answer = Noting(batches(), close, ServerSettings())
    await answer({"type": "http", "path": "/v1/completions"}, receive, send)

    assert answer.noted == said
    assert closed == [True]

"""The head of an answer goes out with the first of its body, and never waits longer than a step of the event loop."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from orchestrator.http.joined_head import JoinedHead

pytestmark = pytest.mark.anyio

no_spec = "how an answer is written, of which a client sees the bytes only"


class Sent:
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "written to after it was closed"
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def answer(sent: Sent) -> JoinedHead:
    return JoinedHead(cast(Any, sent))


async def test_the_head_goes_with_what_follows_at_once(sent: Sent, answer: JoinedHead) -> None:
    for data in (b"head", b"one", b"two"):
        answer.write(data)
    await asyncio.sleep(0)

    assert sent.writes == [b"headone", b"two"]


async def test_a_head_that_nothing_follows_goes_alone(sent: Sent, answer: JoinedHead) -> None:
    answer.write(b"head")
    await asyncio.sleep(0)
    before = list(sent.writes)
    answer.write(b"one")

    assert before == [b"head"]
    assert sent.writes == [b"head", b"one"]


async def test_a_head_goes_before_the_end_of_its_connection(sent: Sent, answer: JoinedHead) -> None:
    answer.write(b"head")
    answer.close()
    await asyncio.sleep(0)

    assert sent.writes == [b"head"]
    assert sent.closed


async def test_nothing_is_written_to_a_connection_that_others_closed(sent: Sent, answer: JoinedHead) -> None:
    answer.write(b"head")
    sent.close()
    await asyncio.sleep(0)

    assert sent.writes == []

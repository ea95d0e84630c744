"""What is tried again, how often, and what never is."""

from __future__ import annotations

import asyncio

import pytest

from adapter_api import AdapterError, ConnectFailed, ConnectionLost, EngineFailed, NotReady, Overloaded
from adapter_kit import retries
from adapter_kit.retries import Retries

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE_S", 0.0001)


@pytest.mark.parametrize("error", [ConnectFailed("x"), ConnectionLost("x")])
async def test_a_broken_way_is_tried_again_as_often_as_allowed(error: AdapterError) -> None:
    attempts = Retries(2)

    assert [await attempts.again(error) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("error", [EngineFailed("x", retryable=True), Overloaded("x"), NotReady("x")])
async def test_what_the_engine_said_itself_is_not_tried_again_here(error: AdapterError) -> None:
    assert not await Retries(3).again(error)


async def test_what_must_not_happen_twice_is_tried_again_only_when_it_never_left() -> None:
    assert not await Retries(3).again(ConnectionLost("x"), unsent_only=True)
    assert await Retries(3).again(ConnectFailed("x"), unsent_only=True)


async def test_no_attempt_begins_after_the_deadline() -> None:
    assert not await Retries(3).again(ConnectFailed("x"), ends=asyncio.get_running_loop().time())

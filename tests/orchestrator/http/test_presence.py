"""Work that ends when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from orchestrator.http.presence import WhileThere
from orchestrator.http.problems import Refused

pytestmark = pytest.mark.anyio
no_spec = "a part of the faces; what becomes of a task whose client leaves is tested with each face"


class Client:
    """Sends what it is told to, and then nothing."""

    def __init__(self, *messages: Any) -> None:
        self._messages = list(messages)
        self.watched = asyncio.Event()

    async def receive(self) -> Any:
        self.watched.set()
        if not self._messages:
            await asyncio.Event().wait()
        message = self._messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message


GONE = {"type": "http.disconnect"}
MORE = {"type": "http.request", "body": b"x", "more_body": True}


@pytest.mark.parametrize("messages", [(GONE,), (MORE, MORE, GONE), (Refused("body_too_large", "too much"),)])
async def test_what_runs_is_cancelled_when_the_client_is_gone(messages: tuple[Any, ...]) -> None:
    ended = False
    with anyio.fail_after(5), WhileThere(Client(*messages).receive):
        await asyncio.Event().wait()
        ended = True

    assert not ended
    await asyncio.sleep(0)  # the task that was here is not cancelled any more


async def test_work_that_ends_first_ends_the_watch() -> None:
    client = Client()
    before = len(asyncio.all_tasks())
    with WhileThere(client.receive):
        await client.watched.wait()
    await asyncio.sleep(0)

    assert len(asyncio.all_tasks()) == before


async def test_an_error_of_the_work_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), WhileThere(Client().receive):
        raise ZeroDivisionError


async def test_a_watch_that_breaks_ends_the_work_and_is_told() -> None:
    with (
        anyio.fail_after(5),
        pytest.raises(RuntimeError, match="a bug"),
        WhileThere(Client(RuntimeError("a bug")).receive),
    ):
        await asyncio.Event().wait()


class Told(Client):
    """A client of whose leaving the server tells."""

    class Presence:
        has_message = False

        def __init__(self) -> None:
            self.on_gone: Callable[[], None] | None = None
            self.is_gone = False

        def tell(self, on_gone: Callable[[], None]) -> None:
            self.on_gone = on_gone
            if self.is_gone:
                on_gone()

        def forget(self) -> None:
            self.on_gone = None

    def __init__(self) -> None:
        super().__init__()
        self.presence = self.Presence()

    async def __call__(self) -> Any:
        return await self.receive()


async def test_where_the_server_tells_of_it_nobody_waits_for_the_client_to_leave() -> None:
    client = Told()
    before = asyncio.all_tasks()
    with anyio.fail_after(5), WhileThere(client):
        assert asyncio.all_tasks() == before
        assert client.presence.on_gone is not None
        asyncio.get_running_loop().call_soon(client.presence.on_gone)
        await asyncio.Event().wait()

    assert client.presence.on_gone is None


async def test_work_for_a_client_that_has_left_already_is_not_begun() -> None:
    client, begun = Told(), False
    client.presence.is_gone = True
    with anyio.fail_after(5), WhileThere(client):
        await asyncio.sleep(0)
        begun = True

    assert not begun

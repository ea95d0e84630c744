"""A host's own engine is watched for as long as the host serves."""

from __future__ import annotations

import anyio
import pytest

from worker_adapter.engine_watch import watching

pytestmark = pytest.mark.anyio


class Engine:
    is_running = True

    def log_tail(self) -> str:
        return "last words"


class Told:
    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.is_told = anyio.Event()

    def __call__(self, what: str, tail: str) -> None:
        self.ends.append((what, tail))
        self.is_told.set()


async def test_an_engine_that_ends_is_told_once_with_its_last_words() -> None:
    engine, told = Engine(), Told()
    with anyio.fail_after(30):
        async with watching(engine, told):
            assert told.ends == []
            engine.is_running = False
            await told.is_told.wait()

    ((what, tail),) = told.ends
    assert what.startswith("the embedded engine ended by itself")
    assert tail == "last words"


async def test_an_engine_that_is_stopped_after_the_block_is_no_news() -> None:
    engine, told = Engine(), Told()
    with anyio.fail_after(30):
        async with watching(engine, told):
            await anyio.lowlevel.checkpoint()
    engine.is_running = False

    assert told.ends == []


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with watching(Engine(), Told()):
            raise KeyError

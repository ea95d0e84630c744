"""Responses in the journal's file: there after a restart, within the bounds there are then, and gone when they are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from adapter_api import ImagePart, Message, ToolCall
from orchestrator.config import ResponsesSettings
from orchestrator.sessions.responses import KeptResponse, Responses
from orchestrator.work import journal as journal_module
from orchestrator.work.journal import Journal
from orchestrator.work.journal_responses import ResponseFile
from tests.orchestrator.fake_clock import FakeClock
from tests.orchestrator.http.conftest import Serve
from tests.orchestrator.http.conftest import serve as serve
from tests.orchestrator.pools.test_monitor import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3075-018")]


@asynccontextmanager
async def responses(path: Path, **settings: float) -> AsyncIterator[Responses]:
    """Those of a host that runs while the block does."""
    journal = Journal.open(path, max_bytes=2**20, max_age_s=60, events=10)
    kept = Responses(ResponsesSettings.model_validate(settings), FakeClock(), ResponseFile(journal))
    await kept.load()
    try:
        yield kept
    finally:
        await journal.aclose()


def said(kept: Responses, name: str, before: KeptResponse | None = None, owner: str | None = None) -> KeptResponse:
    found = kept.begin(owner, name, [Message(role="user", content=f"ask {name}")], before)
    assert found is not None
    item = {"id": f"msg_{name}_0", "type": "message", "content": [{"type": "output_text", "text": f"to {name}"}]}
    call = ToolCall(id="c", name="f", arguments="{}")
    answered = Message(role="assistant", content=f"to {name}", tool_calls=(call,))
    assert kept.end(found, "completed", {"id": name, "usage": None}, [item], answered)
    return found


def names_in(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM responses ORDER BY name")]


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_all_of_a_response_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    image = ImagePart.model_validate({"type": "image", "data": b"\x89PNG"})
    async with responses(path) as kept:
        first = said(kept, "a", owner="alice")
        second = said(kept, "b", first, owner="alice")
        pictured = kept.begin(None, "c", [Message(role="user", content=(image,))], None)
        assert pictured is not None
        kept.end(pictured, "incomplete", {"id": "c"}, [], None)
        size, one = kept.bytes, second.conversation_bytes

    async with responses(path) as kept:
        again = kept.get("alice", "b")
        assert again is not None
        assert again.conversation == second.conversation
        assert (again.body, again.items, again.status) == (second.body, second.items, "completed")
        assert again.ended.is_set()
        assert again.item("msg_b_0") == second.item("msg_b_0")
        assert (kept.bytes, again.conversation_bytes) == (size, one)
        seen = kept.get(None, "c")
        assert seen is not None
        assert (seen.asked, seen.status, seen.answered) == (pictured.asked, "incomplete", None)
        assert kept.get(None, "b") is None


async def test_what_was_said_before_stays_as_long_as_somebody_goes_on_from_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    async with responses(path) as kept:
        first = said(kept, "a")
        said(kept, "b", first)
        said(kept, "c", first)
        kept.delete(None, "a")
    assert len(names_in(path)) == 3

    async with responses(path) as kept:
        assert kept.get(None, "a") is None
        kept.delete(None, "b")
    assert len(names_in(path)) == 2

    async with responses(path) as kept:
        went_on = kept.get(None, "c")
        assert went_on is not None
        assert [message.text for message in went_on.conversation] == ["ask a", "to a", "ask c", "to c"]
        kept.delete(None, "c")
        assert (len(kept), kept.bytes) == (0, 0)
    assert names_in(path) == []


async def test_the_bounds_are_those_of_the_host_that_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    async with responses(path) as kept:
        for number in range(5):
            said(kept, f"r{number}")

    async with responses(path, limit=2) as kept:
        found = [name for number in range(5) if kept.get(None, name := f"r{number}") is not None]
    assert len(found) == 2
    assert len(names_in(path)) == 2

    async with responses(path, ttl_s=0.001) as kept:
        clock = kept._clock
        assert isinstance(clock, FakeClock)
        clock.advance(1)
        kept.forget_old()
        assert len(kept) == 0
    assert names_in(path) == []


async def test_a_damaged_row_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    async with responses(path) as kept:
        first = said(kept, "a")
        said(kept, "b", first)
        said(kept, "c")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE responses SET response = x'7b' WHERE name LIKE '%\"a\"%'")

    async with responses(path) as kept:
        left = [name for name in "abc" if kept.get(None, name) is not None]

    assert left == ["c"]
    assert [json.loads(name)[:2] for name in names_in(path)] == [[None, "c"]]


async def test_an_id_that_is_used_again_does_not_change_what_others_go_on_from(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    async with responses(path) as kept:
        second = said(kept, "b", said(kept, "a"))
        said(kept, "a", second)
        other = said(kept, "c", second)
        said(kept, "b")
    assert len(names_in(path)) == 5

    async with responses(path) as kept:
        found = [kept.get(None, name) for name in "abc"]
        assert [len(each.conversation) if each is not None else 0 for each in found] == [6, 2, 6]
        assert found[2] is not None
        assert found[2].conversation == other.conversation
        for name in "abc":
            kept.delete(None, name)
        assert kept.bytes == 0
    assert names_in(path) == []


async def test_what_was_deleted_while_a_request_goes_on_from_it_comes_back_with_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    async with responses(path) as kept:
        second = said(kept, "b", said(kept, "a"))
        kept.delete(None, "a")
        kept.delete(None, "b")
        third = said(kept, "c", second)

    async with responses(path) as kept:
        again = kept.get(None, "c")
        assert again is not None
        assert again.conversation == third.conversation
        assert [kept.get(None, name) for name in "ab"] == [None, None]


@pytest.mark.spec("ORCH-3064-057")
async def test_what_was_asked_is_nowhere_in_the_file_once_it_was_deleted_or_its_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_ERASE_AFTER_S", 0.01)

    def there() -> list[str]:
        found = contents(tmp_path)
        return [name for name in ("deleted", "old", "kept") if f"ask {name}".encode() in found]

    journal = Journal.open(tmp_path / "kept.db", max_bytes=2**20, max_age_s=60, events=10)
    clock = FakeClock()
    kept = Responses(ResponsesSettings(ttl_s=60), clock, ResponseFile(journal))
    try:
        said(kept, "deleted")
        said(kept, "old")
        clock.now += 30
        said(kept, "kept")
        await eventually(lambda: there() == ["deleted", "old", "kept"])

        kept.delete(None, "deleted")
        await eventually(lambda: there() == ["old", "kept"])
        clock.now += 31
        kept.forget_old()
        await eventually(lambda: there() == ["kept"])
    finally:
        await journal.aclose()


@pytest.mark.spec("ORCH-3064-057", "ORCH-3075-018")
async def test_a_response_that_is_not_to_be_stored_is_never_in_the_file(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    async with serve({}, retention={"file": str(path)}) as host:
        for store, words in ((False, "unstored words"), (True, "stored words")):
            for stream in (False, True):
                body = {"model": "mock", "input": words, "store": store, "stream": stream}
                answer = await host.client.post("/v1/responses", json=body)
                assert answer.status_code == 200
        await eventually(lambda: b"stored words" in contents(tmp_path))
        running = contents(tmp_path)

    assert b"unstored words" not in running + path.read_bytes()
    assert b"stored words" in path.read_bytes()

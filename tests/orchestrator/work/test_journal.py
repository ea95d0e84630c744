"""Kept tasks on disk: what is in the file, how much of it, and what becomes of it when the file cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from adapter_api import (
    ConfigurationError,
    End,
    Error,
    JobConflict,
    Metrics,
    Reasoning,
    Started,
    Token,
    TokenEvent,
    ToolCallDelta,
    Usage,
)
from orchestrator.pools.status import TaskStatus
from orchestrator.work import journal as module
from orchestrator.work import journal_store as store_module
from orchestrator.work.journal import Journal
from orchestrator.work.journal_store import Store
from orchestrator.work.keep import KeptTasks
from tests.orchestrator.pools.test_monitor import eventually
from tests.orchestrator.work.test_keep import close, read_all, tokens

pytestmark = pytest.mark.anyio

END = End(finish_reason="stop", usage=Usage(tokens_out=2))
PLENTY = 2**30


def status(job_id: str, *, ended: bool = False) -> TaskStatus:
    return TaskStatus(
        job_id=job_id, state="ended" if ended else "running", model="m", pool_id="p", priority="batch", owner="team",
        terminal=END if ended else None, ended_at=1.0 if ended else None,
    )  # fmt: skip


@asynccontextmanager
async def opened(
    path: Path, *, max_bytes: int = PLENTY, max_age_s: float = 60.0, events: int = 1000
) -> AsyncIterator[Journal]:
    journal = Journal.open(path, max_bytes=max_bytes, max_age_s=max_age_s, events=events)
    try:
        yield journal
    finally:
        await journal.aclose()


async def run(journal: Journal, job_id: str, *batches: Sequence[TokenEvent]) -> None:
    assert await journal.begin(job_id, "team", status(job_id))
    written = 0
    for batch in batches:
        await journal.append(job_id, written, batch)
        written += len(batch)


async def finish(journal: Journal, job_id: str, *, text: str = "x") -> None:
    await run(journal, job_id, [Token(0, text)], [END])
    await journal.end(job_id, status(job_id, ended=True))


@pytest.mark.spec("ORCH-3064-025")
async def test_a_task_that_ended_can_be_read_again_when_the_file_is_opened_anew(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        await run(journal, "a", tokens(0, 1), [Token(2, "é\n")], [END])
        await journal.end("a", status("a", ended=True))

    async with opened(tmp_path / "j") as journal:
        kept = await journal.read("a")

        assert (journal.recovered.finished, journal.recovered.unfinished) == (1, 0)
        assert kept is not None
        assert (kept.owner, kept.first) == ("team", 0)
        assert kept.events == [*tokens(0, 1), Token(2, "é\n"), END]
        assert kept.status == await journal.status("a") == status("a", ended=True)


@pytest.mark.spec("ORCH-3064-025")
@pytest.mark.parametrize("shown", [0, 2])
async def test_a_task_that_did_not_end_ends_in_one_error_when_the_file_is_opened_anew(
    tmp_path: Path, shown: int
) -> None:
    said = [tokens(0, shown - 1)] if shown else []
    async with opened(tmp_path / "j") as journal:
        await run(journal, "a", *said)

    for times in range(2):  # the second host finds a task that ended
        async with opened(tmp_path / "j") as journal:
            kept = await journal.read("a")

            assert kept is not None
            *before, last = kept.events
            assert before == tokens(0, shown - 1)
            assert isinstance(last, Error)
            assert (last.code, last.retryable) == ("stream_incomplete", True)
            assert (kept.status.state, kept.status.terminal) == ("ended", last)
            assert journal.recovered.unfinished == (0 if times else 1)


@pytest.mark.spec("ORCH-3064-025")
async def test_a_task_that_did_not_end_is_known_as_far_as_it_was_shown(tmp_path: Path) -> None:
    started = Started(job_id="a", engine="e", model="m", pool_id="other", replica_id="r7")
    async with opened(tmp_path / "j") as journal:
        await run(journal, "a", [started, *tokens(0, 1)], tokens(2, 4))

    async with opened(tmp_path / "j") as journal:
        found = await journal.status("a")

    assert found is not None
    assert (found.tokens_out, found.pool_id, found.replica_id, found.attempts) == (5, "other", "r7", 1)


async def test_the_end_counts_though_the_host_died_before_the_last_status_was_written(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        await run(journal, "a", [*tokens(0, 1), END])

    async with opened(tmp_path / "j") as journal:
        found = await journal.status("a")

    assert found is not None
    assert (found.state, found.terminal, found.tokens_out) == ("ended", END, 2)


async def test_a_task_that_runs_is_not_read_from_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        await run(journal, "a", tokens(0, 1))

        assert await journal.read("a") is None
        assert await journal.status("a") is None
        assert await journal.read("never heard of") is None


@pytest.mark.spec("ORCH-3064-026")
async def test_the_oldest_tasks_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    async with opened(tmp_path / "j", max_bytes=20_000) as journal:
        for name in "abcdef":
            await finish(journal, name, text="x" * 5_000)
        left = [name for name in "abcdef" if await journal.read(name) is not None]

        assert left == ["d", "e", "f"]
        assert journal.size <= 20_000

    async with opened(tmp_path / "j", max_bytes=PLENTY) as journal:
        assert journal.size <= 20_000, "what is counted is what is there"


@pytest.mark.spec("ORCH-3064-026")
async def test_the_oldest_events_go_when_only_running_tasks_are_left(tmp_path: Path) -> None:
    async with opened(tmp_path / "j", max_bytes=20_000) as journal:
        await run(journal, "a", *([Token(index, "x" * 3_000)] for index in range(20)), [END])
        kept = await journal.read("a")

        assert journal.size <= 20_000
        assert kept is not None
        assert kept.first > 10
        assert kept.events[-1] == END
        assert [event.index for event in kept.events if isinstance(event, Token)] == [*range(kept.first, 20)]


@pytest.mark.spec("ORCH-3064-026")
async def test_one_task_keeps_no_more_events_than_it_may(tmp_path: Path) -> None:
    async with opened(tmp_path / "j", events=5) as journal:
        await run(journal, "a", *([Token(index, "x")] for index in range(20)), [END])
        kept = await journal.read("a")

    assert kept is not None
    assert (kept.first, len(kept.events)) == (16, 5)


@pytest.mark.spec("ORCH-3064-026")
async def test_a_task_goes_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(store_module, "time", lambda: now)
    async with opened(tmp_path / "j", max_age_s=60) as journal:
        await finish(journal, "a")
        now += 59
        assert await journal.status("a") is not None

        now += 2
        await finish(journal, "b")
        assert await journal.status("a") is None
        assert await journal.status("b") is not None


async def test_what_was_deleted_is_nowhere_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(store_module, "time", lambda: now)
    async with opened(tmp_path / "j", max_age_s=60) as journal:
        await finish(journal, "a", text="a telling answer")
        now += 100
        await finish(journal, "b")

    assert not holding(tmp_path, b"telling")


@pytest.mark.spec("ORCH-3064-057")
async def test_what_was_deleted_is_nowhere_in_the_file_while_the_host_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ERASE_AFTER_S", 0.01)
    async with opened(tmp_path / "j", max_bytes=3000) as journal:
        await finish(journal, "a", text="a telling answer")
        before = holding(tmp_path, b"telling")
        for name in "bcd":
            await finish(journal, name)
        await eventually(lambda: not holding(tmp_path, b"telling"))
        assert await journal.status("d") is not None

    assert before, "it was there"


def holding(folder: Path, words: bytes) -> list[Path]:
    return [path for path in folder.iterdir() if words in path.read_bytes()]


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.spec("ORCH-3064-025")
async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        await finish(journal, "a")

        assert modes(tmp_path) == {0o600}


@pytest.mark.spec("ORCH-3064-057")
async def test_a_file_that_others_can_read_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j"
    path.touch()
    path.chmod(0o640)
    async with opened(path):
        pass

    assert "others can read" in caplog.text
    assert "chmod 600" in caplog.text


async def test_two_hosts_cannot_have_one_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "j"):
        with pytest.raises(ConfigurationError, match="in use by another host"):
            Journal.open(tmp_path / "j", max_bytes=PLENTY, max_age_s=60, events=10)


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tasks (mine)")
    connection.close()


def no_database(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)


def no_folder(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize(
    "spoil, why", [(other_database, "something else"), (no_database, "cannot be used"), (no_folder, "cannot be opened")]
)
async def test_a_file_that_is_no_journal_is_refused_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "folder" / "j"
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.exists() else None

    with pytest.raises(ConfigurationError, match=why) as refused:
        Journal.open(path, max_bytes=PLENTY, max_age_s=60, events=10)

    assert "retention.file" in refused.value.message
    assert before is None or path.read_bytes() == before


@pytest.mark.spec("ORCH-3064-027")
async def test_a_full_disk_costs_the_journal_and_no_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "j") as journal:
        await finish(journal, "before")
        # As if the disk had no page left.
        journal._connection.execute("PRAGMA max_page_count = 1")
        kept = KeptTasks(tasks=9, events=100, keep_s=60, journal=journal, status_of=status)
        async with anyio.create_task_group() as kept.group:
            logs = [await kept.start(name, None, talking(), close) for name in "ab"]
            read = [await read_all(log, 0) for log in logs]
            kept.group.cancel_scope.cancel()

        assert [[event for _, event in each] for each in read] == [[Token(0, "x" * 9_000), END]] * 2
        assert journal.failures >= 2
        assert caplog.text.count("cannot be written") == 1
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        monkeypatch.setattr(module, "_WELL_AFTER_S", 0.0)
        await finish(journal, "after")
        assert "written again" in caplog.text
        assert await journal.read("before") is not None
        assert await journal.read("after") is not None


async def talking() -> AsyncIterator[list[TokenEvent]]:
    yield [Token(0, "x" * 9_000)]
    yield [END]


async def test_a_task_whose_middle_could_not_be_written_is_read_from_where_it_is_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        assert await journal.begin("a", None, status("a"))
        await journal.append("a", 0, tokens(0, 1))
        await journal.append("a", 5, [Token(5, "5")])
        await journal.append("a", 6, [END])
        kept = await journal.read("a")

    assert kept is not None
    assert (kept.first, kept.events) == (5, [Token(5, "5"), END])


@pytest.mark.spec("ORCH-3064-025")
async def test_nobody_is_shown_an_event_before_it_is_in_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        kept = KeptTasks(tasks=9, events=100, keep_s=60, journal=journal, status_of=status)
        async with anyio.create_task_group() as kept.group:
            log = await kept.start("a", None, talking(), close)
            async for first, events in log.read(0):
                written = await anyio.to_thread.run_sync(in_file, journal)
                assert written >= first + len(events)
            kept.group.cancel_scope.cancel()


def in_file(journal: Journal) -> int:
    count: int = journal._connection.execute("SELECT sum(count) FROM batches").fetchone()[0]
    return count


async def test_a_job_id_that_the_file_has_is_taken(tmp_path: Path) -> None:
    closed: list[str] = []

    async def note_close() -> None:
        closed.append("a")

    async with opened(tmp_path / "j") as journal:
        await finish(journal, "a")
        kept = KeptTasks(tasks=9, events=100, keep_s=60, journal=journal, status_of=status)
        async with anyio.create_task_group() as kept.group:
            with pytest.raises(JobConflict, match="'a' ran already"):
                await kept.start("a", None, talking(), note_close)
            kept.group.cancel_scope.cancel()
        before = await journal.read("a")

    assert closed == ["a"], "the engine must not work on it"
    assert before is not None
    assert len(before.events) == 2


@pytest.mark.spec("ORCH-3064-027")
async def test_a_host_that_finds_the_disk_full_starts_and_reads_what_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "j") as journal:
        await finish(journal, "ended", text="x" * 9_000)
        for number in range(40):
            await run(journal, f"ran {number}", tokens(0, 1))
    find = Store.find_unfinished

    def find_then_fill_the_disk(store: Store) -> None:
        find(store)
        pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
        store.connection.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(Store, "find_unfinished", find_then_fill_the_disk)
    async with opened(tmp_path / "j") as journal:
        whole, cut = await journal.read("ended"), await journal.read("ran 0")
        assert "make room on its disk" in caplog.text
        assert whole is not None
        assert [len(event.text) for event in whole.events if isinstance(event, Token)] == [9_000]
        assert cut is None, "it has no end yet"
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        await finish(journal, "new")
        told = await journal.read("ran 0")

    assert told is not None
    assert [event.code for event in told.events if isinstance(event, Error)] == ["stream_incomplete"]


@pytest.mark.spec("ORCH-3064-027")
@pytest.mark.parametrize("ending", ["", "-wal"])
async def test_a_file_that_is_deleted_under_the_host_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.0)
    async with opened(tmp_path / "j") as journal:
        await finish(journal, "before")
        (tmp_path / f"j{ending}").unlink()
        await finish(journal, "after")
        await finish(journal, "later")

        assert journal.failures
        assert caplog.text.count("somebody deleted") == 1
        assert "restart the host" in caplog.text
        assert await journal.read("before") is not None


@pytest.mark.spec("ORCH-3064-027")
@pytest.mark.parametrize("column", ["tasks SET status", "batches SET events"])
async def test_a_task_that_is_damaged_in_the_file_costs_no_other_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    async with opened(tmp_path / "j") as journal:
        for name in ("damaged", "whole"):
            await finish(journal, name)
            await run(journal, f"{name}, running", tokens(0, 1))
    connection = sqlite3.connect(tmp_path / "j")
    connection.execute(f"UPDATE {column} = x'00ff7b' WHERE job_id LIKE 'damaged%'")
    connection.commit()
    connection.close()

    async with opened(tmp_path / "j") as journal:
        assert await journal.read("damaged") is None
        assert await journal.read("damaged, running") is None
        assert "job damaged is damaged" in caplog.text
        assert await journal.read("whole") is not None
        assert await journal.read("whole, running") is not None
        await finish(journal, "new")
        assert await journal.read("new") is not None


@pytest.mark.spec("ORCH-3060-002", "ORCH-3064-025")
async def test_whoever_asks_for_a_task_that_is_being_written_down_waits_for_that(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        kept = KeptTasks(tasks=1, events=100, keep_s=60, journal=journal, status_of=status)
        held = threading.Event()
        slow = asyncio.ensure_future(journal._run(lambda connection: held.wait(10), otherwise=False))
        async with anyio.create_task_group() as kept.group:
            starting = asyncio.ensure_future(kept.start("a", None, talking(), close))
            await anyio.wait_all_tasks_blocked()
            asking = asyncio.ensure_future(kept.get("a"))
            ending = asyncio.ensure_future(kept.wait_until_ended("a"))
            await anyio.wait_all_tasks_blocked()
            full, waited = kept.full, not asking.done() and not ending.done()
            held.set()
            with anyio.fail_after(10):
                log, found = await starting, await asking
                await ending
            await slow
            kept.group.cancel_scope.cancel()

    assert full, "it counts as one that is kept"
    assert waited
    assert found is log
    assert log.ended_at is not None


@pytest.mark.spec("ORCH-3064-027")
@pytest.mark.long
async def test_a_disk_that_hangs_costs_the_journal_and_no_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.2)
    held = threading.Event()
    async with opened(tmp_path / "j") as journal:
        hanging = asyncio.ensure_future(journal._run(lambda connection: held.wait(30), otherwise=False))
        kept = KeptTasks(tasks=9, events=100, keep_s=60, journal=journal, status_of=status)
        async with anyio.create_task_group() as kept.group:
            with anyio.fail_after(10):
                logs = [await kept.start(name, None, talking(), close) for name in "ab"]
                read = [await read_all(log, 0) for log in logs]
            waiting = journal._steps.qsize()
            kept.group.cancel_scope.cancel()
        assert await hanging is False
        held.set()
        await eventually(lambda: "answers again" in caplog.text)
        monkeypatch.setattr(module, "_PATIENCE_S", 10.0)
        await finish(journal, "after")
        after = await journal.read("after")

    assert [[event for _, event in each] for each in read] == [[Token(0, "x" * 9_000), END]] * 2
    assert waiting <= 1, "nothing piles up behind it"
    assert caplog.text.count("was not written for") == 1
    assert after is not None


@pytest.mark.long
async def test_a_disk_that_hangs_does_not_keep_the_host_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    held = threading.Event()
    journal = Journal.open(tmp_path / "j", max_bytes=PLENTY, max_age_s=60.0, events=1000)
    await journal._run(lambda connection: held.wait(30), otherwise=False)
    with anyio.fail_after(10):
        await journal.aclose()
        held.set()
        await anyio.to_thread.run_sync(journal._thread.join)
    journal._connection.close()


async def test_all_output_of_a_task_that_did_not_end_counts(tmp_path: Path) -> None:
    said: list[TokenEvent] = [Reasoning(0, "hm"), Token(0, "a"), ToolCallDelta(0, "t", "time", "{"), Metrics()]
    async with opened(tmp_path / "j") as journal:
        await run(journal, "a", said, [ToolCallDelta(0, arguments="}")])

    async with opened(tmp_path / "j") as journal:
        found, kept = await journal.status("a"), await journal.read("a")

    assert found is not None
    assert kept is not None
    assert found.tokens_out == 4
    assert kept.events[:5] == [*said, ToolCallDelta(0, arguments="}")]


@pytest.mark.spec("ORCH-3059-064")
async def test_an_event_of_a_later_version_keeps_its_number_and_says_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as journal:
        await run(journal, "a", tokens(0, 2), [END])
        await journal.end("a", status("a", ended=True))
    with closing(sqlite3.connect(tmp_path / "j")) as connection:
        ((blob,),) = connection.execute("SELECT events FROM batches ORDER BY first LIMIT 1").fetchall()
        later = blob.replace(b'{"type":"token","index":1,"text":"1"}', b'{"type":"picture","data":"x"}')
        assert later != blob
        connection.execute("UPDATE batches SET events = ? WHERE events = ?", (later, blob))
        connection.commit()

    async with opened(tmp_path / "j") as journal:
        kept = await journal.read("a")

    assert kept is not None
    assert kept.events == [*tokens(0, 0), Metrics(), *tokens(2, 2), END]

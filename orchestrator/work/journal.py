"""Kept tasks on disk: what was read of them can be read again after the host died.

One SQLite file, written by one thread: whatever came together is one transaction, and nobody is shown an event before
it is in the file. A write-ahead log without a sync per transaction survives the death of the process; the last moments
before the death of the machine may be missing, the file stays whole.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import anyio

from adapter_api import ConfigurationError, Terminal, TokenEvent, encode_event
from orchestrator.config import RetentionSettings
from orchestrator.pools.status import TaskStatus
from orchestrator.work.journal_file import FileGone, advice, identity, prepare, reason, why_unusable
from orchestrator.work.journal_rows import Damaged, Kept, read_status, read_task
from orchestrator.work.journal_store import Recovered, Store

_log = logging.getLogger("orchestrator.work.journal")

_AT_ONCE = 500
_WELL_AFTER_S = 10.0
_LOOK_EVERY_S = 1.0
_PATIENCE_S = 5.0
"""How long a task, or the end of the host, waits for a disk that hangs."""
_ERASE_AFTER_S = 2.0
"""How long what was deleted may still stand in the write-ahead log."""
_START_S = 60.0
"""How long the host waits for what it reads as it starts."""
ResultT = TypeVar("ResultT")
Step = Callable[[Store], Any]


class _Asked(NamedTuple):
    step: Step
    done: Future[Any]
    only_reads: bool


class Journal:
    """Open one with `Journal.open`; `aclose` writes what is left.

    Its coroutines raise nothing on a full or broken disk: then kept tasks go on in memory, and the log says so once.

    Attributes:
        failures: How many transactions could not be written.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, max_bytes: int, max_age_s: float, events: int
    ) -> None:
        self._store = Store(connection, max_bytes=max_bytes, max_age_s=max_age_s, events=events)
        self._connection = connection
        self._path = path
        self._steps: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._file: tuple[int, ...] | None = None
        self._look_again_at = 0.0
        self._stalled = False
        """Whether a step has hung for so long that nobody waits for the file; until the next transaction is done."""
        self._failed_at: float | None = None
        self._erase_at: float | None = monotonic() + _ERASE_AFTER_S  # a host that was killed may have left a log
        self.failures = 0
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    @classmethod
    def open(cls, path: Path, *, max_bytes: int, max_age_s: float, events: int) -> Journal:
        """Open or make the file, and end what the last host left unfinished.

        Args:
            path: The file; it is made with access for its owner only. Its folder has to be there.
            max_bytes: Events and tasks it may hold, as bytes; beyond them the oldest ended tasks go first.
            max_age_s: How long after its end a task can be read.
            events: Events it may hold of one task; the oldest go first.

        Raises:
            ConfigurationError: It cannot be opened, another host has it open, or it is no journal.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.close(descriptor)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0.0)
        except (OSError, sqlite3.Error) as exc:
            raise ConfigurationError(f"retention.file {str(path)!r} cannot be opened: {reason(exc)}") from exc
        journal = cls(connection, path, max_bytes=max_bytes, max_age_s=max_age_s, events=events)
        try:
            prepare(connection, path)
            journal._store.find_unfinished()
            journal._commit([])
        except sqlite3.Error as exc:
            connection.close()
            raise ConfigurationError(why_unusable(path, exc)) from exc
        except ConfigurationError:
            connection.close()
            raise
        if mode & 0o077:
            _log.warning(
                "others can read what is kept in %s (its mode is %o): make it the host's own, by chmod 600", path, mode
            )
        journal._thread.start()
        return journal

    @property
    def size(self) -> int:
        """How much it holds, counted as `max_bytes` is."""
        return self._store.bytes

    @property
    def recovered(self) -> Recovered:
        """What was found when it was opened."""
        return self._store.recovered

    @property
    def writable(self) -> bool:
        """Whether what is kept now is in the file, as far as is known."""
        return self._failed_at is None and not self._stalled

    async def begin(self, job_id: str, owner: str | None, status: TaskStatus | None) -> bool:
        """Write down that a task runs; returns false, and writes nothing, when the journal has one of that `job_id`."""
        if status is None:
            return True  # nothing is known of it any more

        return await self._run(lambda store: store.begin(job_id, owner, status), otherwise=True)

    async def append(self, job_id: str, first: int, events: Sequence[TokenEvent]) -> None:
        """Write down events that follow each other, the first of them number `first`. A terminal one ends the task."""
        blob = b"\n".join(map(encode_event, events))
        count, last = len(events), isinstance(events[-1], Terminal)
        await self._run(lambda store: store.append(job_id, first, count, blob, last=last), otherwise=None)

    async def end(self, job_id: str, status: TaskStatus | None) -> None:
        """Write down how a task is known from now on. Without a terminal event before, it ends in an error later on."""
        if status is not None:
            await self._run(lambda store: store.end(job_id, status), otherwise=None)

    async def status(self, job_id: str) -> TaskStatus | None:
        """Return how an ended task ended; `None` when the journal has none of that name."""
        return await self._run(lambda store: read_status(store.connection, job_id), otherwise=None, only_reads=True)

    async def read(self, job_id: str) -> Kept | None:
        """Return an ended task with its events; `None` when the journal has none of that name."""
        return await self._run(lambda store: read_task(store.connection, job_id), otherwise=None, only_reads=True)

    def put(self, step: Callable[[sqlite3.Connection], None], *, deletes: bool = False) -> None:
        """Have a step done in one of the next transactions, and wait for nothing; one that fails is logged.

        Args:
            step: What to do.
            deletes: Whether it deletes something, which then has to go from the write-ahead log, too.
        """

        def on(store: Store) -> None:
            step(store.connection)
            store.has_deleted |= deletes

        if not self._stalled:
            self._steps.put(_Asked(on, Future(), False))

    async def read_with(self, step: Callable[[sqlite3.Connection], ResultT]) -> ResultT | None:
        """Return what a step finds, after all that was put before it; `None` when the file cannot be read. The step
        may take its time: it is for the start of the host."""
        return await self._run(lambda store: step(store.connection), otherwise=None, patience_s=_START_S)

    async def aclose(self) -> None:
        """Write what is left and close the file; a disk that hangs is left alone."""
        self._steps.put(None)
        await anyio.to_thread.run_sync(self._thread.join, _PATIENCE_S)
        if not self._thread.is_alive():
            self._connection.close()

    # -- the thread ---------------------------------------------------------------------------------------------------

    async def _run(
        self,
        step: Callable[[Store], ResultT],
        *,
        otherwise: ResultT,
        only_reads: bool = False,
        patience_s: float = _PATIENCE_S,
    ) -> ResultT:
        """Return what `step` returns once its transaction is written, or `otherwise` when it cannot be."""
        if self._stalled:  # what would be put behind the step that hangs would only fill the memory
            return otherwise
        done: Future[ResultT] = Future()
        self._steps.put(_Asked(step, done, only_reads))
        try:
            with anyio.fail_after(patience_s):
                return await asyncio.wrap_future(done)
        except TimeoutError:
            self._stall()
            return otherwise
        except Exception:  # logged by the thread
            return otherwise

    def _stall(self) -> None:
        if not self._stalled:
            self._stalled = True
            self.failures += 1
            _log.error(
                "the journal of kept tasks was not written for %g s: kept tasks go on in memory only until it is, and "
                "would be lost if the host died now; look after the disk of %s", _PATIENCE_S, self._path,
            )  # fmt: skip

    def _write(self) -> None:
        pause_s = max(0.05, min(60.0, self._store.max_age_s / 2))
        open_ = True
        while open_:
            steps: list[_Asked] = []
            try:
                step = self._steps.get(timeout=self._until_erased(pause_s))
                while step is not None:
                    steps.append(step)
                    if len(steps) == _AT_ONCE:
                        break
                    step = self._steps.get_nowait()
                else:
                    open_ = False
            except queue.Empty:
                pass
            self._commit(steps)
            self._erase()

    def _until_erased(self, pause_s: float) -> float:
        return pause_s if self._erase_at is None else max(0.0, min(pause_s, self._erase_at - monotonic()))

    def _erase(self) -> None:
        """Empty the write-ahead log some time after something was deleted: `secure_delete` is for the file only, and
        the log has what stood in it until other pages are written over that, which may be never."""
        now = monotonic()
        if self._store.has_deleted and self._erase_at is None:
            self._erase_at = now + _ERASE_AFTER_S
        if self._erase_at is None or now < self._erase_at:
            return
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._store.has_deleted, self._erase_at = False, None
        except sqlite3.Error:  # a full disk, which transactions tell of
            self._erase_at = now + _ERASE_AFTER_S

    def _commit(self, steps: list[_Asked]) -> None:
        """Take the steps that write as one transaction, then those that only read."""
        writes = [asked for asked in steps if not asked.only_reads]
        before = self._store.bytes
        failure: sqlite3.Error | None = None
        try:
            self._require_file()
            self._connection.execute("BEGIN IMMEDIATE")
            self._store.recover()
            results = [_done(asked.step, self._store) for asked in writes]
            self._store.forget_old()
            self._connection.execute("COMMIT")
            self._store.recovery_is_written()
        except sqlite3.Error as exc:
            self._store.bytes, failure = before, exc
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        if self._stalled:
            self._stalled = False
            _log.warning("the disk of the journal of kept tasks answers again")
        self._told(failure)
        for asked, result in zip(writes, [(failure, None)] * len(writes) if failure else results, strict=True):
            _settle(asked.done, *result)
        for asked in steps:
            if asked.only_reads:
                _settle(asked.done, *_read(asked.step, self._store))

    def _require_file(self) -> None:
        """Raise when the file is not the one any more that was opened: SQLite writes to one that was deleted and says
        nothing."""
        now = monotonic()
        if now < self._look_again_at:
            return
        found: tuple[int, ...] | None
        try:
            found = identity(self._path)
        except OSError:
            found = None
        self._file = self._file or found
        if found is None or found != self._file:
            raise FileGone(f"somebody deleted {self._path} or its -wal, or put another file in its place")
        self._look_again_at = now + _LOOK_EVERY_S

    def _told(self, failure: sqlite3.Error | None) -> None:
        """Log a failure, and, once none has followed for a while, that all is well again: not each step, since small
        ones fit where large ones do not."""
        if failure is not None:
            self.failures += 1
            if self._failed_at is None:
                _log.error(
                    "the journal of kept tasks cannot be written (%s): kept tasks go on in memory only, and would be "
                    "lost if the host died now; %s", reason(failure), advice(failure),
                )  # fmt: skip
            self._failed_at = monotonic()
        elif self._failed_at is not None and monotonic() - self._failed_at >= _WELL_AFTER_S:
            self._failed_at = None
            _log.warning("the journal of kept tasks is written again")


@asynccontextmanager
async def journal_in(settings: RetentionSettings, events: int) -> AsyncIterator[Journal | None]:
    """Have the journal that the settings name open while the block runs; `None` when they name none.

    Raises:
        ConfigurationError: As `Journal.open`.
    """
    path = settings.file
    if path is None:
        yield None
        return

    def open_() -> Journal:
        return Journal.open(path, max_bytes=settings.max_bytes, max_age_s=settings.max_age_s, events=events)

    journal = await anyio.to_thread.run_sync(open_)
    _log.info(
        "kept tasks are written to %s: %d that ended can be read again, %d that ran when the host stopped end in an "
        "error", path, journal.recovered.finished, journal.recovered.unfinished,
    )  # fmt: skip
    try:
        yield journal
    finally:
        with anyio.CancelScope(shield=True):
            await journal.aclose()


def _done(step: Step, store: Store) -> tuple[Exception | None, Any]:
    """Return what a step did. What is wrong with one task must not cost the others their place."""
    try:
        return None, step(store)
    except sqlite3.Error:
        raise
    except Exception as exc:
        if not isinstance(exc, Damaged):
            _log.exception("the journal of kept tasks failed at one step")
        else:
            _log.warning("%s", exc)
        return exc, None


def _read(step: Step, store: Store) -> tuple[Exception | None, Any]:
    try:
        return _done(step, store)
    except sqlite3.Error as exc:
        _log.error("the journal of kept tasks cannot be read: %s", reason(exc))
        return exc, None


def _settle(done: Future[Any], failure: Exception | None, result: object = None) -> None:
    if not done.set_running_or_notify_cancel():
        return  # whoever waited has left; what was to be written is written
    if failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(result)

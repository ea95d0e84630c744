"""How checks are run, whatever the adapter does."""

from __future__ import annotations

import signal
import threading

import anyio
import pytest

from conformance_tests.checks import Check
from conformance_tests.execution import Session
from conformance_tests.harness import Backend
from conformance_tests.outcome import Status
from conformance_tests.reference import ReferenceHarness
from conformance_tests.subject import Subject
from conformance_tests.watchdog import interrupting

no_spec = "it is about what runs the checks of all requirements"


async def _blocks(subject: Subject) -> None:
    threading.Event().wait()


async def _swallows_and_blocks_again(subject: Subject) -> None:
    try:
        threading.Event().wait()
    except OSError:
        threading.Event().wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_check_that_blocks_the_event_loop_ends_and_says_where(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conformance_tests.execution.MENDING_S", 0.2)

    outcome = Session(ReferenceHarness(backend=backend), timeout_s=0.1).run(Check("ORCH-3057-001", _blocks), None)

    assert outcome.status is Status.FAILED
    assert "the event loop was blocked for 0.3 s, at threading.py:" in outcome.reason


async def _waits_where_no_cancel_comes(subject: Subject) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep(3600)


# Not on trio: what raises in the midst of its loop leaves pieces of it behind, which other tests would stumble over.
def test_a_shielded_wait_is_not_told_as_a_blocked_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance_tests.execution.MENDING_S", 0.2)

    outcome = Session(ReferenceHarness(), timeout_s=0.1).run(Check("ORCH-3057-001", _waits_where_no_cancel_comes), None)

    assert outcome.status is Status.FAILED
    assert "something waits that no cancellation reaches" in outcome.reason
    assert "was blocked" not in outcome.reason


def test_what_swallows_the_interruption_is_interrupted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance_tests.execution.MENDING_S", 0.1)
    monkeypatch.setattr("conformance_tests.watchdog.AGAIN_S", 0.1)
    session = Session(ReferenceHarness(), timeout_s=0.1)

    assert session.run(Check("ORCH-3057-001", _swallows_and_blocks_again), None).status is Status.FAILED
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_an_alarm_of_somebody_elses_is_left_alone() -> None:
    def theirs(number: int, frame: object) -> None:
        raise AssertionError("it is not meant to go off")

    before = signal.signal(signal.SIGALRM, theirs)
    signal.setitimer(signal.ITIMER_REAL, 600)
    try:
        with interrupting(0.01):
            assert signal.getsignal(signal.SIGALRM) is theirs
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 300
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""Ctrl-C, SIGTERM and a reader that goes away cancel the task before the program ends."""

from __future__ import annotations

import select
import signal
import socket

import pytest

from adapter_api import End, decode_event
from tests.worker_adapter.program import DEADLINE_S, Running
from triton_adapter.embedded import EmbeddedTriton

SLOW = ("submit", "--adapter", "mock", "--option", "delay_s=0.02", "--max-tokens", "5000", "hello")
SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.spec("ORCH-3060-001")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_cancels_the_task_and_the_last_event_says_so(number: signal.Signals) -> None:
    with Running(*SLOW, "--json") as program:
        lines = [program.line(), program.line()]
        program.signal(number)
        result = program.finish()

    last = [decode_event(line) for line in lines] + result.events
    assert result.code == 130
    assert isinstance(last[-1], End)
    assert last[-1].finish_reason == "cancelled"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_answered_with_the_receipt(number: signal.Signals) -> None:
    with Running(*SLOW) as program:
        program.some_output()
        program.signal(number)
        result = program.finish()

    assert result.code == 130
    assert f"{number.name}: cancelled in" in result.err
    assert "the engine was told to stop" in result.err
    assert "its slot is free" in result.err


def test_a_signal_ends_a_task_that_says_nothing() -> None:
    with Running("submit", "--adapter", "mock", "--option", "hang_after=0", "--json", "hello") as program:
        program.line()
        program.signal(signal.SIGINT)
        result = program.finish()

    assert result.code == 130


def test_a_signal_before_the_task_was_sent_still_gives_a_last_event(
    silent_listener: socket.socket, silent_url: str
) -> None:
    with Running("submit", "--url", silent_url, "--json", "hello") as program:
        assert select.select([silent_listener], [], [], DEADLINE_S)[0], "it never connected"
        program.signal(signal.SIGINT)
        result = program.finish()

    (last,) = result.events
    assert result.code == 130
    assert isinstance(last, End)
    assert last.finish_reason == "cancelled"


def test_a_second_signal_ends_the_program_at_once_even_if_nobody_reads_its_output() -> None:
    with Running("submit", "--adapter", "mock", "--max-tokens", "1000", "--json", "hello") as program:
        program.wait_until_its_output_is_stuck()
        program.signal_in_its_write(signal.SIGINT)
        program.signal(signal.SIGTERM)
        code = program.exit_code()

    assert code == 130


def test_a_reader_that_goes_away_ends_the_task_quietly() -> None:
    with Running(*SLOW) as program:
        program.some_output()
        program.hang_up()
        result = program.finish()

    assert (result.code, result.err) == (130, "")


@pytest.mark.live
def test_ctrl_c_reaches_a_real_model(triton: EmbeddedTriton) -> None:
    with Running("submit", "--url", triton.grpc_url, "-m", "tinylm", "-n", "1500", "The import") as program:
        program.some_output()
        program.signal(signal.SIGINT)
        result = program.finish()

    assert result.code == 130
    assert "the engine was told to stop" in result.err

"""How the show looks, in a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from adapter_api import CancelReceipt, End, Error, Started, TaskRequest, Token, TokenEvent
from worker_adapter.demo.board import Board, Lane
from worker_adapter.demo.line_view import LineView
from worker_adapter.demo.live_view import LiveView
from worker_adapter.demo.playbill import Act

STARTED = Started(job_id="j", engine="e", model="m", pool_id="p", replica_id="r0")


def lane(*events: TokenEvent, name: str = "loops", prompt: str = "Once") -> Lane:
    made = Lane(Act(name, TaskRequest(model="tiny", prompt=prompt, max_tokens=10)))
    made.take(events)
    return made


def rendered(*lanes: Lane, width: int = 120, height: int = 30) -> str:
    output = io.StringIO()
    view = LiveView(Console(file=output, width=width, height=height, force_terminal=False))
    with view.watching(Board(list(lanes))):
        pass
    return output.getvalue()


def test_each_task_shows_its_name_model_replica_speed_and_text() -> None:
    shown = rendered(lane(STARTED, Token(0, " upon"), Token(1, " a time")))

    for part in ("loops", "tiny@r0", "2 tokens", "tok/s", "TTFT", "streaming", "Once upon a time"):
        assert part in shown


@pytest.mark.parametrize(
    "terminal, mark",
    [
        (End(finish_reason="length"), "✓"),
        (End(finish_reason="cancelled"), "■"),
        (Error(code="engine_failed", message="x", retryable=False), "✗"),
    ],
)
def test_each_outcome_has_its_mark(terminal: End | Error, mark: str) -> None:
    assert mark in rendered(lane(STARTED, terminal))


def test_a_cancel_shows_how_long_it_took() -> None:
    cancelled = lane(STARTED, End(finish_reason="cancelled"))
    cancelled.receipt = CancelReceipt(found=True, after_ms=1.25)

    assert "cancelled in 1.2 ms" in rendered(cancelled)


def test_a_long_text_shows_its_end_within_the_width() -> None:
    words = " ".join(f"word{number}" for number in range(400))

    shown = rendered(lane(STARTED, Token(0, words)), width=80)

    assert "word399" in shown
    assert "word1 " not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_many_tasks_fit_a_small_terminal() -> None:
    lanes = [lane(STARTED, Token(0, "x " * 500), name=f"task {number}") for number in range(6)]

    shown = rendered(*lanes, width=80, height=24)

    assert len(shown.splitlines()) <= 24
    assert all(f"task {number}" in shown for number in range(6))


def test_a_models_control_characters_do_not_reach_the_terminal() -> None:
    assert "\x1b[2J" not in rendered(lane(STARTED, Token(0, "a\x1b[2Jb")))


def test_lines_are_written_while_the_text_grows_and_cut_between_words(capsys: pytest.CaptureFixture[str]) -> None:
    view, growing = LineView(), lane()

    for index in range(20):
        events = [Token(index, f" word{index}")]
        growing.take(events)
        view.events(growing, events)
    written = capsys.readouterr().out

    assert 0 < len(written.splitlines()) < 20
    assert all(line.startswith("     loops | word") for line in written.splitlines())


def test_the_rest_of_the_text_is_written_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    view, ended = LineView(), lane()
    events: list[TokenEvent] = [STARTED, Token(0, "all of it"), End(finish_reason="stop")]
    ended.take(events)

    view.events(ended, events)

    started, text, end = capsys.readouterr().out.splitlines()
    assert started.endswith("started: tiny on p/r0")
    assert text.endswith("| all of it")
    assert "finish: stop" in end

"""What is written to a terminal."""

from __future__ import annotations

import io

import pytest

from worker_adapter.terminal import has_colour, one_line, print_fields, print_table, styled, without_controls


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_has_colour_and_a_pipe_has_not() -> None:
    assert has_colour(Terminal())
    assert not has_colour(io.StringIO())


@pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)

    assert styled("text", "red", Terminal()) == "text"


@pytest.mark.parametrize("text", ["plain", "naïve 日本 🙂", "tab\tand\nline"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert without_controls(text) == text


@pytest.mark.parametrize("control", ["\r", "\x07", "\x7f", "\x0b"])
def test_what_a_terminal_would_obey_is_replaced(control: str) -> None:
    assert without_controls(f"a{control}[2J") == "a\ufffd[2J"


@pytest.mark.parametrize("sequence", ["\x1b[2J", "\x9b31m", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bc"])
def test_a_sequence_that_a_terminal_would_obey_is_left_out(sequence: str) -> None:
    assert without_controls(f"a{sequence}b") == one_line(f"a{sequence}b") == "ab"


def test_columns_are_as_wide_as_their_contents_wide_characters_included(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("NAME", "X"), [("日本語", "1"), ("a", "")])

    assert capsys.readouterr().out == "NAME    X\n日本語  1\na       -\n"


def test_a_cell_of_a_colour_leaves_the_others_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", terminal := Terminal())

    print_table(("NAME", "OK"), [("no-model", "no")], {"no": "red"})

    assert terminal.getvalue().splitlines()[1] == "no-model  \x1b[31mno\x1b[0m"


def test_fields_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("a", "1"), ("long", "2")])

    assert capsys.readouterr().out == "a     1\nlong  2\n"

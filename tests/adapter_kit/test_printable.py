"""Text from strangers on a terminal: it says what it says and does nothing."""

from __future__ import annotations

import pytest

from adapter_kit.printable import printable, printable_line, width_of

no_spec = "how the command line shows what it is told; its JSON stays as it is"

DEEDS = (
    "\x1b[2J", "\x1b[31;1m", "\x9b2K", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bPq\x1b\\", "\x1bc", "\x07",
    "\x08", "\x7f", "\x00", "\x9d", "\r", "\x0b", "\x0c", "\x85",
)  # fmt: skip
UNSEEN = ("\u202e", "\u202a", "\u2066", "\u2069", "\U000e0041")
MARKS = ("\u200e", "\u200f", "\u061c", "\u200b", "\ufeff")


@pytest.mark.parametrize("deed", [*DEEDS, *UNSEEN])
def test_nothing_that_a_terminal_obeys_is_left(deed: str) -> None:
    for shown in (printable(f"a{deed}b\n"), printable_line(f"a{deed}b\n")):
        assert shown.startswith("a")
        assert shown.strip().endswith("b")
        assert all(letter.isprintable() or letter == "\n" for letter in shown)


@pytest.mark.parametrize("cut_off", ["a\x1b", "a\x1b[", "a\x1b]0;title", "a\x9b1"])
def test_a_sequence_that_is_cut_off_is_not_obeyed_either(cut_off: str) -> None:
    assert printable(cut_off).isprintable()
    assert printable_line(cut_off).isprintable()


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\t", "\u2028", "\u2029", "\x85"])
def test_a_line_stays_one_line(break_: str) -> None:
    assert printable_line(f"a{break_}b") == "a b"


@pytest.mark.parametrize("mark", MARKS)
def test_names_have_no_marks_that_nobody_sees(mark: str) -> None:
    assert printable_line(f"a{mark}b") == "ab"


@pytest.mark.parametrize("text", ["", "naïve 日本 🙂", "שלום", "a\u200db", "e\u0301"])
def test_ordinary_text_stays(text: str) -> None:
    assert printable(text) == printable_line(text) == text


def test_lines_and_tabs_of_a_text_stay() -> None:
    assert printable("a\tb\n\nc") == "a\tb\n\nc"


@pytest.mark.parametrize("text, width", [("abc", 3), ("日本", 4), ("e\u0301", 1), ("a\u200db", 2)])
def test_the_width_is_what_a_terminal_takes(text: str, width: int) -> None:
    assert width_of(text) == width

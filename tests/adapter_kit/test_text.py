"""The pieces of a stream to text: against reference results, however the stream is cut."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapter_api import ProtocolViolation
from adapter_kit.stops import StopCutter
from adapter_kit.text import TextAssembler

# Few letters, so that stop strings are met, half met and overlap; and characters of every length in UTF-8.
LETTERS = "ab\n é日🙂"
texts = st.text(LETTERS, max_size=40)
stop_strings = st.lists(st.text(LETTERS, min_size=1, max_size=5), max_size=4).map(tuple)


@st.composite
def cut_bytes(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes in pieces, cut anywhere, some of them empty."""
    data = draw(source)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=len(data) + 2)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


utf8_pieces = cut_bytes(texts.map(str.encode))


def show(assembler: TextAssembler, pieces: list[bytes]) -> list[str]:
    """Return what is shown after each piece, and at the end."""
    return [*(assembler.feed(piece) for piece in pieces), assembler.finish()]


def reference(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """Read character by character and end at the first complete stop string; the longest of several."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


# -- text from pieces


@given(utf8_pieces)
def test_text_is_the_same_however_its_bytes_are_cut(pieces: list[bytes]) -> None:
    assert "".join(show(TextAssembler(), pieces)) == b"".join(pieces).decode()


@given(utf8_pieces, stop_strings)
def test_text_ends_at_the_first_stop_string_however_its_bytes_are_cut(
    pieces: list[bytes], stops: tuple[str, ...]
) -> None:
    assembler = TextAssembler(stops=stops)

    shown = "".join(show(assembler, pieces))

    assert (shown, assembler.stopped) == reference(b"".join(pieces).decode(), stops)


@given(utf8_pieces, stop_strings)
def test_no_more_is_held_back_than_could_still_become_a_stop_string(
    pieces: list[bytes], stops: tuple[str, ...]
) -> None:
    assembler = TextAssembler(stops=stops)
    got = shown = ""
    for count, piece in enumerate(pieces, start=1):
        shown += assembler.feed(piece)
        if assembler.stopped:
            return
        got = b"".join(pieces[:count]).decode(errors="ignore")
        held = got[len(shown) :]

        assert got.startswith(shown)
        assert not held or any(stop.startswith(held) and stop != held for stop in stops), held


@given(utf8_pieces, stop_strings)
def test_texts_that_repeat_what_was_said_give_the_same_as_deltas(pieces: list[bytes], stops: tuple[str, ...]) -> None:
    so_far = [b"".join(pieces[: count + 1]) for count in range(len(pieces))]
    assembler = TextAssembler(cumulative=True, stops=stops)

    shown = "".join(show(assembler, so_far))

    assert (shown, assembler.stopped) == reference(b"".join(pieces).decode(), stops)


@given(utf8_pieces)
def test_texts_so_far_with_a_mark_for_the_incomplete_character_give_the_same_as_deltas(pieces: list[bytes]) -> None:
    # What a tokenizer does with the first bytes of a character.
    so_far = [b"".join(pieces[: count + 1]).decode(errors="replace").encode() for count in range(len(pieces))]

    shown = show(TextAssembler(cumulative=True), so_far)

    assert "".join(shown) == b"".join(pieces).decode()
    assert all("\ufffd" not in piece for piece in shown)


@given(cut_bytes(st.binary(max_size=30)))
def test_bytes_that_are_no_text_become_the_replacement_character(pieces: list[bytes]) -> None:
    assert "".join(show(TextAssembler(), pieces)) == b"".join(pieces).decode(errors="replace")


@given(st.lists(texts.filter(bool), min_size=3, max_size=6), st.booleans())
def test_pieces_that_nobody_explained_are_read_as_one_kind_or_the_other(pieces: list[str], repeating: bool) -> None:
    so_far = ["".join(pieces[: count + 1]) for count in range(len(pieces))]
    said = so_far if repeating else pieces

    # Deltas may look like repetitions by chance, never the other way round.
    grow = [len(said[i]) < len(said[i + 1]) and said[i + 1].startswith(said[i]) for i in range(len(said) - 1)]
    assume(repeating or not grow[0] or (not grow[1] and said[1] != said[2]))

    assert "".join(show(TextAssembler(cumulative=None), [each.encode() for each in said])) == "".join(pieces)


def test_a_character_is_shown_as_soon_as_it_is_whole() -> None:
    euro = "€".encode()

    assert show(TextAssembler(), [b"a" + euro[:1], euro[1:2], euro[2:] + b"b"]) == ["a", "", "€b", ""]


def test_a_character_that_stays_cut_is_shown_as_replaced_at_the_end() -> None:
    assert show(TextAssembler(), [b"a\xe2\x82"]) == ["a", "\ufffd"]


def test_a_mark_that_the_model_really_means_is_shown_at_the_end() -> None:
    assert show(TextAssembler(cumulative=True), ["a\ufffd".encode(), "a\ufffd".encode()]) == ["a", "", "\ufffd"]


def test_an_empty_text_at_the_end_of_repeated_ones_takes_nothing_back() -> None:
    assert show(TextAssembler(cumulative=True), [b"a", b"ab", b""]) == ["a", "b", "", ""]


def test_a_repeated_text_that_changes_what_was_shown_is_a_violation() -> None:
    assembler = TextAssembler(cumulative=True)
    assembler.feed(b"Hello .")

    with pytest.raises(ProtocolViolation, match="already shown"):
        assembler.feed(b"Hello.")


def test_nothing_is_shown_after_a_stop_string() -> None:
    assert show(TextAssembler(stops=["X"]), [b"aXb", b"c", b"\xe2"]) == ["a", "", "", ""]


@pytest.mark.parametrize(
    "stops, text, shown",
    [
        (("bc", "abcd"), "abcd", "a"),
        (("abcd", "bcd"), "xabcd", "x"),
        (("aab",), "aaab", "a"),
        (("\n\n",), "a\n\n\n", "a"),
    ],
)
def test_the_stop_string_that_is_complete_first_wins_and_the_longer_of_two(
    stops: tuple[str, ...], text: str, shown: str
) -> None:
    whole, singly = StopCutter(stops), StopCutter(stops)

    assert whole.feed(text) == shown
    assert "".join(singly.feed(letter) for letter in text) == shown


def test_no_stop_string_is_expensive_to_look_for() -> None:
    # Compared at every step with all its beginnings, this one would take minutes.
    cutter = StopCutter(["a" * 50_000 + "b"])

    shown = "".join(cutter.feed("a" * 100) for _ in range(1_000))

    assert shown + cutter.finish() == "a" * 100_000

"""Values to bytes and back, and pieces of a stream to text: against reference results, however the stream is cut."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapter_api import InvalidRequest, ProtocolViolation
from triton_adapter.codec import (
    StopCutter,
    TextAssembler,
    first_text,
    make_tensor,
    pack_texts,
    read_numbers,
    text_elements,
)
from triton_adapter.schema import RawTensor, TensorSpec

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


# -- BYTES


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_elements_survive_the_framing(elements: list[bytes]) -> None:
    assert text_elements(pack_texts(elements)) == elements


def test_a_length_is_four_bytes_little_endian() -> None:
    assert pack_texts([b"ab", b""]) == b"\x02\x00\x00\x00ab\x00\x00\x00\x00"


@pytest.mark.parametrize("raw", [b"\x05\x00\x00\x00ab", b"\x00\x00", b"\x01\x00\x00\x00ab\x00"])
def test_broken_framing_is_a_violation(raw: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="cut off at byte"):
        first_text(raw)


@pytest.mark.parametrize("raw, text", [(b"", b""), (bytes(4), b""), (b"\x01\x00\x00\x00a", b"a")])
def test_the_only_element_is_the_text(raw: bytes, text: bytes) -> None:
    assert first_text(raw) == text


# -- numbers

INTEGERS = {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64, "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64}


def made(datatype: str, *values: Any, dims: tuple[int, ...] = (-1,), batched: bool = False) -> RawTensor:
    tensor = make_tensor(TensorSpec("x", datatype, dims), values, batched=batched)
    assert (tensor.name, tensor.datatype) == ("x", datatype)
    return RawTensor(tensor.datatype, tensor.shape, bytes(tensor.data))


@pytest.mark.parametrize("datatype", INTEGERS)
def test_whole_numbers_reach_both_ends_of_their_datatype_and_not_beyond(datatype: str) -> None:
    bits = INTEGERS[datatype]
    low, high = (0, 2**bits - 1) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    assert read_numbers(made(datatype, low, high)) == (low, high)
    for outside in (low - 1, high + 1):
        with pytest.raises(InvalidRequest, match=f"input 'x' does not fit its datatype {datatype}"):
            made(datatype, outside)


@pytest.mark.parametrize(
    "datatype, value, read",
    [
        ("INT32", 3.0, 3),
        ("INT32", "3", 3),
        ("INT32", True, 1),
        ("FP32", 3, 3.0),
        ("FP32", "0.5", 0.5),
        ("FP16", 0.25, 0.25),
        ("FP64", 0.1, 0.1),
        ("BOOL", True, True),
        ("BOOL", 0, False),
        ("BOOL", "true", True),
    ],
)
def test_a_value_is_cast_when_nothing_is_lost(datatype: str, value: Any, read: Any) -> None:
    (found,) = read_numbers(made(datatype, value))

    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    "datatype, value",
    [
        ("INT32", 3.5),
        ("INT32", "three"),
        ("FP16", 1e6),
        ("FP32", 1e300),
        ("FP32", "nan"),
        ("BOOL", 2),
        ("BOOL", "perhaps"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_without_being_shown(datatype: str, value: Any) -> None:
    with pytest.raises(InvalidRequest, match="does not fit") as caught:
        made(datatype, value)

    assert repr(value) not in caught.value.message


def test_bf16_is_the_upper_half_of_fp32() -> None:
    assert made("BF16", 1.5).data == struct.pack("<f", 1.5)[2:]


def test_a_datatype_that_no_task_can_fill_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="input 'x' has datatype OPAQUE"):
        made("OPAQUE", 1)


def test_half_a_character_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidRequest, match="'x' has half a character in it"):
        made("BYTES", "a\ud800")


def test_numbers_and_bytes_become_text_for_text_inputs() -> None:
    assert text_elements(made("BYTES", "é", b"\xff", 3).data) == ["é".encode(), b"\xff", b"3"]


@pytest.mark.parametrize(
    "dims, count, batched, shape",
    [
        ((1,), 1, False, (1,)),
        ((1,), 1, True, (1, 1)),
        ((-1,), 3, False, (3,)),
        ((-1,), 3, True, (1, 3)),
        ((-1, -1), 3, False, (1, 3)),
        ((1, 1), 1, False, (1, 1)),
        ((3,), 3, False, (3,)),
        ((), 1, True, (1,)),
        ((), 1, False, ()),
    ],
)
def test_a_shape_is_the_declared_one_with_room_for_the_values(
    dims: tuple[int, ...], count: int, batched: bool, shape: tuple[int, ...]
) -> None:
    assert made("INT32", *range(count), dims=dims, batched=batched).shape == shape


@pytest.mark.parametrize("dims, count", [((1,), 2), ((2,), 1), ((2, -1), 3), ((), 2)])
def test_values_that_are_too_many_or_too_few_are_refused_by_name(dims: tuple[int, ...], count: int) -> None:
    with pytest.raises(InvalidRequest, match=r"input 'x' of the model takes \d element"):
        made("INT32", *range(count), dims=dims)


def test_a_datatype_without_numbers_has_none() -> None:
    assert read_numbers(RawTensor("BYTES", (1,), pack_texts([b"a"]))) == ()

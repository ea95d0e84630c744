"""Which part of a text each step of the engine made."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_adapter.dialects.steps import StepTexts, cut

pytestmark = pytest.mark.spec("ORCH-3055-048")

TEXT = st.text(st.sampled_from("ab .日é🙂<"), max_size=12)


@pytest.mark.parametrize(
    "text, tokens, parts",
    [
        ("", [], []),
        ("Hi there!", ["Hi", " there", "!"], ["Hi", " there", "!"]),
        # SentencePiece decodes a token on its own without the blank before it.
        ("Hi there", ["Hi", "there"], ["Hi", " there"]),
        (" Hi there", ["Hi", "there"], [" Hi", " there"]),
        # Special tokens are not in the text: first, in the middle, last, and all there is.
        ("Hi there", ["<s>", "Hi", " there"], ["", "Hi", " there"]),
        ("Hi there", ["Hi", "<|sep|>", " there", "</s>"], ["Hi", "", " there", ""]),
        ("", ["</s>"], [""]),
        ("", ["<|a|>", "<|b|>"], ["", ""]),
        ("Hi", ["Hi", ""], ["Hi", ""]),
        # They are, where the engine was told to show them.
        ("Hi</s>", ["Hi", "</s>"], ["Hi", "</s>"]),
        # Bytes of one character: each alone is none.
        ("日", ["\ufffd", "\ufffd", "\ufffd"], ["", "", "日"]),
        ("a日本b", ["a", *["\ufffd"] * 6, "b"], ["a", "", "", "日", "", "", "本", "b"]),
        ("a日本b", ["a", *[""] * 6, "b"], ["a", "", "", "日", "", "", "本", "b"]),
        # Several bytes a token: where one character ends is not known, the last token gets them.
        ("a日本b", ["a", "\ufffd", "\ufffd", "\ufffd", "b"], ["a", "", "", "日本", "b"]),
        ("go 🙂!", ["go", " \ufffd", "\ufffd", "!"], ["go", "", " 🙂", "!"]),
        ("日日", ["\ufffd", "\ufffd", "\ufffd", "日"], ["", "", "日", "日"]),
        # The engine found the character at its last token.
        ("日.", ["", "", "日", "."], ["", "", "日", "."]),
        # A character that is not complete yet, and one that was begun before.
        ("a", ["a", "\ufffd", "\ufffd"], ["a", "", ""]),
        ("日a", ["\ufffd", "a"], ["日", "a"]),
        # An engine that shows U+FFFD for bytes that are none.
        ("a\ufffdb", ["a", "\ufffd", "b"], ["a", "\ufffd", "b"]),
        # Cut within a token, as where a stop string begins.
        ("one ", ["one", " EN", "D"], ["one", " ", ""]),
        ("one", ["one", " EN", "D", "</s>"], ["one", "", "", ""]),
    ],
)
def test_each_token_gets_its_own_part(text: str, tokens: list[str], parts: list[str]) -> None:
    assert cut(text, tokens) == parts


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("Hello.", ["Hello", " ."]),  # a tokenizer that tidies up
        ("Hi there", ["Hi"]),
        ("Hi", []),
        ("Hi", ["Ho", "</s>"]),
        ("aHi", ["Hi"]),
        ("a日bc", ["a", "\ufffd", "c"]),
        ("日本", ["\ufffd"]),
        ("  Hi", ["Hi"]),
    ],
)
def test_a_text_that_tokens_do_not_make_up_is_not_cut(text: str, tokens: list[str]) -> None:
    assert cut(text, tokens) is None


@given(st.lists(TEXT, max_size=8), st.data())
def test_what_is_cut_is_the_whole_text_however_odd_the_tokens(tokens: list[str], data: st.DataObject) -> None:
    text = data.draw(st.one_of(TEXT, st.just("".join(tokens))))

    parts = cut(text, tokens)

    assert parts is None or ("".join(parts) == text and len(parts) == len(tokens))


@given(st.lists(st.text("ab .日é<", min_size=1, max_size=4), min_size=1, max_size=8))
def test_tokens_that_join_to_the_text_are_its_parts(tokens: list[str]) -> None:
    assert cut("".join(tokens), tokens) == tokens


@given(
    st.lists(st.text("ab .日é<", min_size=1, max_size=4), min_size=1, max_size=8),
    st.integers(0, 5),
    st.lists(st.integers(0, 8), max_size=4),
)
def test_steps_get_their_text_however_late_it_comes_and_wherever_the_messages_end(
    tokens: list[str], behind: int, ends: list[int]
) -> None:
    texts: StepTexts[int] = StepTexts(behind)
    whole, shown, pieces = "".join(tokens), 0, []
    for first, last in pairwise([0, *sorted(min(end, len(tokens)) for end in ends), len(tokens)]):
        said = max(len("".join(tokens[:last])) - behind, shown)
        pieces += texts.take(whole[shown:said], list(enumerate(tokens))[first:last])
        shown = said
    pieces += texts.finish(whole[shown:])

    assert "".join(piece.text for piece in pieces) == whole
    assert [(piece.text, piece.steps) for piece in pieces if piece.steps] == [
        (token, (place,)) for place, token in enumerate(tokens)
    ]


@given(
    st.integers(0, 3),
    st.lists(st.tuples(TEXT, st.lists(st.one_of(st.none(), TEXT), max_size=4)), max_size=6),
    TEXT,
)
def test_no_text_and_no_step_is_lost_or_told_twice_whatever_the_engine_says(
    behind: int, messages: list[tuple[str, list[str | None]]], last: str
) -> None:
    texts: StepTexts[int] = StepTexts(behind)
    pieces, places = [], iter(range(1000))
    for text, tokens in messages:
        pieces += texts.take(text, [(next(places), token) for token in tokens])
    pieces += texts.finish(last)

    assert "".join(piece.text for piece in pieces) == "".join(text for text, _ in messages) + last
    assert [place for piece in pieces for place in piece.steps] == list(range(next(places)))


def test_steps_whose_text_never_comes_do_not_wait_for_ever() -> None:
    texts: StepTexts[int] = StepTexts(4)
    told = [piece for place in range(10_000) for piece in texts.take("", [(place, "\ufffd")])]

    assert len(told) > 9_900, "what waits is bounded, and so is the work per message"

"""The tiny language model by itself, without a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from triton_adapter.embedded.model_code.tiny.generation import Generation, Step
from triton_adapter.embedded.model_code.tiny.language import EOS, LanguageModel, tokenize
from triton_adapter.embedded.model_code.tiny.sampling import SamplingParams

PROMPT = "A list is"


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel()


def written(model: LanguageModel, *, room: int = 2000, **sampling: Any) -> tuple[str, list[Step], str | None]:
    """Return text, steps and finish reason of one continuation of `PROMPT`."""
    generation = Generation(model, model.encode(PROMPT), SamplingParams.from_mapping(sampling), room=room)
    steps = []
    while generation.finish_reason is None:
        steps.append(generation.step())
    return "".join(step.text for step in steps), steps, generation.finish_reason


@pytest.mark.parametrize("text", ["", "Hello, world!", "a\tb\n\n c_d  é日本 🦀...", " \n "])
def test_tokens_joined_are_the_text_again(text: str) -> None:
    assert "".join(tokenize(text)) == text


@pytest.mark.parametrize("prompt", ["", "A list is", "no-such-word-xyzzy", "the", "日本語"])
def test_every_token_has_a_probability_after_every_prompt(model: LanguageModel, prompt: str) -> None:
    probabilities = model.after(model.encode(prompt))

    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities > 0).all()


def test_what_it_writes_are_words_of_its_text(model: LanguageModel) -> None:
    text, _, _ = written(model, max_tokens=100, seed=1, ignore_eos=True)

    words = [token for token in tokenize(text) if token.strip().isalpha()]
    assert len(words) > 30
    assert set(words) <= set(model.vocabulary)


def test_a_length_is_kept_to_the_token_and_said(model: LanguageModel) -> None:
    _, steps, reason = written(model, max_tokens=7, seed=1)

    assert (len(steps), reason) == (7, "length")


def test_a_full_context_ends_the_text_as_a_length_does(model: LanguageModel) -> None:
    _, steps, reason = written(model, max_tokens=50, room=5, seed=1, ignore_eos=True)

    assert (len(steps), reason) == (5, "length")


def test_the_end_of_text_is_not_written_before_min_tokens(model: LanguageModel) -> None:
    free = [len(written(model, max_tokens=400, seed=seed)[1]) for seed in range(8)]
    held = [len(written(model, max_tokens=400, min_tokens=200, seed=seed)[1]) for seed in range(8)]

    assert min(free) < 200 <= min(held)


@pytest.mark.parametrize("length", [1, 4, 9, 40])
def test_a_stop_string_never_shows_not_even_in_part(model: LanguageModel, length: int) -> None:
    whole, _, _ = written(model, max_tokens=300, seed=2, ignore_eos=True)
    stop = whole[200 : 200 + length]

    text, _, reason = written(model, max_tokens=300, seed=2, ignore_eos=True, stop=[stop])

    assert (text, reason) == (whole[: whole.index(stop)], "stop")


def test_a_stop_string_that_does_not_come_costs_no_text(model: LanguageModel) -> None:
    whole, _, _ = written(model, max_tokens=50, seed=2, ignore_eos=True)

    text, _, reason = written(model, max_tokens=50, seed=2, ignore_eos=True, stop=["never to be written"])

    assert (text, reason) == (whole, "length")


def test_the_stop_string_is_kept_when_asked_for(model: LanguageModel) -> None:
    text, _, _ = written(model, max_tokens=300, seed=2, ignore_eos=True, stop=" the", include_stop_str_in_output=True)

    assert text.endswith(" the")


def test_top_k_and_min_p_leave_only_the_likeliest(model: LanguageModel) -> None:
    def worst_rank(**sampling: Any) -> int:
        _, steps, _ = written(model, max_tokens=60, seed=5, temperature=2.0, **sampling)
        return max(step.chosen.rank for step in steps)

    assert worst_rank() > 100
    assert worst_rank(top_k=3) <= 3
    assert worst_rank(min_p=0.99) < 100


def test_a_bad_word_is_never_written(model: LanguageModel) -> None:
    free, _, _ = written(model, max_tokens=200, seed=3, ignore_eos=True)
    assert " the" in tokenize(free)

    text, _, _ = written(model, max_tokens=200, seed=3, ignore_eos=True, bad_words=["the"])

    assert not {" the", "the"} & set(tokenize(text))


def test_penalties_make_it_repeat_itself_less(model: LanguageModel) -> None:
    def variety(**penalty: Any) -> int:
        # Several texts, because what the model learnt from differs between versions of Python.
        options = {"max_tokens": 200, "ignore_eos": True, "temperature": 0.7, **penalty}
        texts = [written(model, seed=seed, **options)[0] for seed in range(6)]
        return sum(len(set(tokenize(text))) for text in texts)

    plain = variety()
    assert variety(presence_penalty=2.0) > plain
    assert variety(frequency_penalty=2.0) > plain
    assert variety(repetition_penalty=1.5) > plain


def test_log_probabilities_are_those_of_the_model(model: LanguageModel) -> None:
    _, steps, _ = written(model, max_tokens=3, seed=6, logprobs=2)

    first = steps[0]
    expected = model.after(model.encode(PROMPT))
    assert first.chosen.logprob == pytest.approx(np.log(expected[first.chosen.token_id]))
    assert first.alternatives[0] == first.chosen
    assert {token.rank for token in first.alternatives} >= {1, 2}


def test_ignoring_the_end_of_text_leaves_no_trace_of_it(model: LanguageModel) -> None:
    _, steps, _ = written(model, max_tokens=1500, seed=1, temperature=0.3, ignore_eos=True)

    assert EOS not in {step.chosen.token_id for step in steps}


@pytest.mark.parametrize(
    "sampling",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -2},
        {"stop": [""]},
        {"n": 0},
        {"min_tokens": 20},
        {"max_new_tokens": 4},
        {"max_tokens": "many"},
    ],
    ids=str,
)
def test_parameters_out_of_range_or_unknown_are_refused(sampling: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        SamplingParams.from_mapping(sampling)

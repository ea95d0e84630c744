"""Comparing answers byte by byte, and what seeds give away."""

from __future__ import annotations

import pytest

from worker_adapter.determinism import Run, first_divergence, judge_seeds

no_spec = "how the program compares answers is its own affair"


def answers(*texts: str | None) -> list[Run]:
    return [
        Run(replica="a", number=number, mode="sequential", text=text, error=None if text is not None else "x: y")
        for number, text in enumerate(texts, 1)
    ]


def seeded(**texts: list[str]) -> list[Run]:
    """Runs by seed: `s7=["one", "one"]`."""
    return [
        Run(replica="a", number=1, mode="seed", seed=int(seed[1:]), text=text)
        for seed, group in texts.items()
        for text in group
    ]


@pytest.mark.parametrize("texts", [(), ("a",), ("a", "a", "a"), ("", ""), ("a", None, "a")])
def test_answers_that_are_the_same_do_not_diverge(texts: tuple[str | None, ...]) -> None:
    assert first_divergence(answers(*texts)) is None


@pytest.mark.parametrize(
    "first, second, position",
    [
        ("one two", "one too", 5),
        ("one", "one two", 3),
        ("one two", "one", 3),
        ("", "x", 0),
        ("né", "nè", 2),
    ],
)
def test_the_first_byte_that_differs_is_found(first: str, second: str, position: int) -> None:
    found = first_divergence(answers(first, first, second))

    assert found is not None
    assert (found.number, found.position) == (3, position)


def test_the_texts_around_are_cut_between_characters() -> None:
    same = "日本語" * 20

    found = first_divergence(answers(same + "é" + same, same + "è" + same))

    assert found is not None
    assert "\ufffd" not in found.expected + found.found
    assert found.expected.replace("é", "è") == found.found
    assert len(found.expected) < len(same)


def test_failed_runs_are_not_compared() -> None:
    found = first_divergence(answers(None, "a", "b"))

    assert found is not None
    assert (found.number, found.expected, found.found) == (3, "a", "b")


def test_seeds_that_give_texts_of_their_own_again_work() -> None:
    verdict = judge_seeds(seeded(s1=["a", "a"], s2=["b", "b"]))

    assert (verdict.ignored, verdict.seeds, verdict.distinct) == (None, (1, 2), 2)


def test_a_seed_that_gives_two_texts_is_ignored() -> None:
    assert "seed 2" in (judge_seeds(seeded(s1=["a", "a"], s2=["b", "c"])).ignored or "")


def test_seeds_that_all_give_one_text_are_ignored() -> None:
    assert "one and the same text" in (judge_seeds(seeded(s1=["a", "a"], s2=["a", "a"])).ignored or "")


def test_one_text_says_nothing_where_no_temperature_was_asked_for() -> None:
    assert judge_seeds(seeded(s1=["a", "a"], s2=["a", "a"]), sampled=False).ignored is None

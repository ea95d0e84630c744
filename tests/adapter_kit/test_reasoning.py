"""Thoughts told from answers, wherever the text was cut."""

from __future__ import annotations

from random import Random

import pytest

from adapter_kit.reasoning import ReasoningParser


def split(pieces: list[str], *, begun: bool = False) -> tuple[str, str]:
    parser = ReasoningParser(begun=begun)
    parts = [*map(parser.feed, pieces), parser.finish()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.spec("ORCH-3073-005")
@pytest.mark.parametrize(
    "text, begun, expected",
    [
        ("<think>\nHm </thin< no\n</think>\n\nYes.", False, ("\nHm </thin< no\n", "\n\nYes.")),
        (" \n<think>a</think>b", False, ("a", "b")),
        ("Hm\n</think>Yes </think> <think>x</think>", True, ("Hm\n", "Yes </think> <think>x</think>")),
        ("<think>Hm</think>Yes", True, ("Hm", "Yes")),
        ("No <think>x</think>", False, ("", "No <think>x</think>")),
        ("<thin", False, ("", "<thin")),
        ("<think>cut off </thi", False, ("cut off </thi", "")),
        ("  ", False, ("", "  ")),
        ("", False, ("", "")),
    ],
)
def test_thoughts_are_told_from_the_answer_wherever_it_is_cut(
    text: str, begun: bool, expected: tuple[str, str]
) -> None:
    for at in range(len(text) + 1):
        assert split([text[:at], text[at:]], begun=begun) == expected
    assert split(list(text), begun=begun) == expected
    random = Random(text)
    for _ in range(20):
        cuts = sorted(random.choices(range(len(text) + 1), k=4))
        assert split([text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)], begun=begun) == expected

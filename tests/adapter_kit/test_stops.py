"""All stop strings at once: as if each were looked for by itself, and no dearer."""

from __future__ import annotations

from random import Random
from time import process_time

import pytest

from adapter_api.bounds import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS
from adapter_kit.stops import StopCutter


def cut(text: str, stops: list[str]) -> str:
    """What may be shown of a text, the slow way."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@pytest.mark.spec("ORCH-3059-047")
@pytest.mark.parametrize("seed", range(200))
def test_texts_are_cut_where_the_first_stop_string_is_complete(seed: int) -> None:
    random = Random(seed)
    stops = ["".join(random.choices("ab]", k=random.randint(1, 5))) for _ in range(random.randint(1, 6))]
    text = "".join(random.choices("abc]", k=40))
    cutter, shown, at = StopCutter(stops), "", 0
    while at < len(text):
        size = random.randint(1, 4)
        shown += cutter.feed(text[at : at + size])
        assert cut(text, stops).startswith(shown)
        at += size

    assert shown + cutter.finish() == cut(text, stops)
    assert cutter.stopped == (cut(text, stops) != text or any(text.endswith(stop) for stop in stops))


def cost(cutter: StopCutter, text: str) -> float:
    began = process_time()
    cutter.feed(text)
    return process_time() - began


@pytest.mark.spec("ORCH-3064-033")
def test_many_stop_strings_cost_about_what_one_costs() -> None:
    size = MAX_STOP_CHARACTERS // MAX_STOP_STRINGS - 1
    many = ["a" * size + chr(0x4E00 + number) for number in range(MAX_STOP_STRINGS)]
    text = "a" * 200_000

    one = min(cost(StopCutter(many[:1]), text) for _ in range(3))
    all_of_them = min(cost(StopCutter(many), text) for _ in range(3))

    assert all_of_them < 5 * one

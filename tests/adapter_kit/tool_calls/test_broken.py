"""What models write that is nearly a call: cut, doubled, mixed up. Seeded, so that a failure comes again."""

from __future__ import annotations

import os
from random import Random

import pytest

from adapter_kit.tool_calls import BY_NAME, FAMILIES
from tests.adapter_kit.tool_calls.reading import joined, parts_of
from tests.adapter_kit.tool_calls.test_families import TOOLS, WRITTEN

ROUNDS = int(os.environ.get("BROKEN_CALLS_ROUNDS", "60"))
SCRAPS = [
    *"\"\\{}[](),:;\n '<>=`|é",
    *("null", "true", "-1", "add", "nobody", "x", "```", "```json", "</", "<think>", '{"name": "add"', "a=1"),
]


def mutated(random: Random, text: str, marks: list[str]) -> str:
    for _ in range(random.randint(1, 3)):
        a, b = sorted(random.choices(range(len(text) + 1), k=2))
        match random.randrange(5):
            case 0:
                text = text[:a] + text[min(b, a + random.randint(1, 12)) :]
            case 1:
                text = text[:b] + text[a:]
            case 2:
                text = text[:a] + random.choice(SCRAPS) + text[a:]
            case 3:
                text = text[:a] + random.choice(marks) + text[a:]
            case _:
                text = text[:b]
    return text


@pytest.mark.spec("ORCH-3073-001", "ORCH-3073-002")
@pytest.mark.parametrize("grammar", [each.name for each in FAMILIES])
def test_whatever_is_left_of_a_call_comes_out_the_same_wherever_it_is_cut(grammar: str) -> None:
    random = Random(grammar)
    own = BY_NAME[grammar]
    marks = [*own.begin, *own.end, *own.after, *own.between, *own.silent, *SCRAPS]
    written = [text for name, text, _ in WRITTEN if name in own.names]
    for _ in range(ROUNDS):
        text = mutated(random, random.choice(written) + random.choice(["", *written]), marks)
        whole = joined(parts_of(grammar, [text], TOOLS))
        cuts = sorted(random.choices(range(len(text) + 1), k=3))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert joined(parts_of(grammar, pieces, TOOLS)) == whole, (text, pieces)
        assert joined(parts_of(grammar, list(text), TOOLS)) == whole, text
        if not own.silent and not any(isinstance(each, tuple) for each in whole):
            assert "".join(map(str, whole)) == text


@pytest.mark.spec("ORCH-3073-002")
@pytest.mark.parametrize("grammar", [each.name for each in FAMILIES])
@pytest.mark.parametrize(
    "deep", ['{"function": ', '{"x": ', "[", "{a:", "(", "{", "f(", '{"arguments": ', "<tool_call>"]
)
def test_nothing_is_nested_too_deep(grammar: str, deep: str) -> None:
    begin = BY_NAME[grammar].begin[0]
    for text in (begin + deep * 3000, f"{begin}add({deep * 3000}", f"{begin}call:add{{{deep * 3000}"):
        whole = joined(parts_of(grammar, [text], TOOLS))
        found = "".join(each if isinstance(each, str) else each[1] for each in whole)
        assert len(found) >= len(text) - len(begin) - 30

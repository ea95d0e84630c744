"""Texts that are made to confuse a parser, or to keep it busy: marks of all families mixed, and a megabyte of them.

Steps are counted, not timed: calls that the interpreter makes, and letters that a parser has before it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest

from adapter_kit.reasoning import ReasoningParser
from adapter_kit.thoughts import THOUGHTS_BY_NAME
from adapter_kit.tool_calls import FAMILIES, tool_call_parser
from adapter_kit.tool_calls.grammar import Grammar
from tests.adapter_kit.tool_calls.reading import joined, parts_of

TOOLS: dict[str, Any] = {"add": {"type": "object", "properties": {"a": {"type": "integer"}, "s": {"type": "string"}}}}
every_family = pytest.mark.parametrize("grammar", FAMILIES, ids=[each.name for each in FAMILIES])
MARKS = sorted({
    mark for each in FAMILIES for mark in (*each.begin, *each.end, *each.after, *each.between, *each.silent)
})  # fmt: skip
CALLS = ['{"name": "add", "arguments": {"a": 1}}', 'add{"a": 1}', "add(a=1)", "[add(a=1)]", "call:add{a:1}",
         '{"add": {"a": 1}}', "<function=add>\n<parameter=a>1</parameter>\n</function>"]  # fmt: skip
SCRAPS = [*CALLS, *'\n x"{}[]é🙂<', "<think>", "</think>", "<function=add>", "<parameter=s>", "add"]


def steps(work: Callable[[], object]) -> int:
    """Return how many calls and returns `work` takes."""
    count = 0

    def one_more(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(one_more)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def reading(grammar: Grammar, pieces: Iterable[str]) -> int:
    return steps(lambda: parts_of(grammar.name, pieces, TOOLS))


@pytest.mark.spec("ORCH-3073-001", "ORCH-3073-002")
@every_family
def test_marks_of_other_families_mixed_in_come_out_the_same_wherever_the_text_is_cut(grammar: Grammar) -> None:
    random = Random(grammar.name)
    own = [*grammar.begin, *grammar.end, *grammar.after, *grammar.silent]
    for _ in range(60):
        text = "".join(random.choice(random.choice([MARKS, own or MARKS, SCRAPS])) for _ in range(random.randint(2, 9)))
        whole = joined(parts_of(grammar.name, [text], TOOLS))
        at = random.randrange(len(text) + 1)
        assert joined(parts_of(grammar.name, list(text), TOOLS)) == whole, text
        assert joined(parts_of(grammar.name, [text[:at], text[at:]], TOOLS)) == whole, text
        told = "".join(each if isinstance(each, str) else each[0] + each[1] for each in whole)
        assert told.count("é") == text.count("é"), "letters that are of no grammar are never lost"


@pytest.mark.spec("ORCH-3073-002")
@every_family
def test_reading_takes_as_many_steps_per_letter_however_long_a_text_is(grammar: Grammar) -> None:
    begin = grammar.begin[0]
    for piece in ("<", begin[:-1], begin, begin + "{", begin + "add", "\nadd{", "[", begin + CALLS[0], '"', "\n"):
        reading(grammar, [piece])  # makes the expressions, once
        for in_one in (False, True):
            few, many = (reading(grammar, [piece * n] if in_one else [piece] * n) for n in (60, 240))
            assert many <= 4.6 * few + 500, piece


@pytest.mark.spec("ORCH-3073-002")
@every_family
def test_a_megabyte_of_one_letter_is_text_at_once_and_nothing_of_it_is_kept(grammar: Grammar) -> None:
    parser = tool_call_parser(grammar.name, TOOLS)
    shown = 0
    for _ in range(64):
        shown += sum(len(part) for part in parser.feed("<" * (1 << 14)) if isinstance(part, str))
    rest = sum(len(part) for part in parser.finish() if isinstance(part, str))

    assert shown + rest == 1 << 20
    assert rest < 100
    assert reading(grammar, ["<" * (1 << 20)]) < 1000


@pytest.mark.spec("ORCH-3073-008")
@pytest.mark.parametrize("name", ["think", "mistral", "openai", "kimi"])
def test_thoughts_full_of_marks_take_as_many_steps_per_letter(name: str) -> None:
    thoughts = THOUGHTS_BY_NAME[name]

    def read(count: int) -> int:
        def work() -> None:
            parser = ReasoningParser(how=thoughts)
            for _ in range(count):
                parser.feed(thoughts.begin[0])
                parser.feed(thoughts.end[0][:-1])
            parser.finish()

        return steps(work)

    read(1)  # makes the expressions, once
    assert read(400) <= 4.6 * read(100) + 500

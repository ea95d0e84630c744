"""Thoughts told from answers, wherever the text was cut."""

from __future__ import annotations

from random import Random

import pytest

from adapter_kit.reasoning import ReasoningParser
from adapter_kit.thoughts import THOUGHTS, THOUGHTS_BY_NAME


def split(pieces: list[str], *, begun: bool = False, how: str = "think") -> tuple[str, str]:
    parser = ReasoningParser(begun=begun, how=THOUGHTS_BY_NAME[how])
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


WRITTEN = [
    (
        "openai",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>I look.<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|> So.<|end|><|start|>assistant<|channel|>final<|message|>"
        "It is <|end <b>.<|return|>",
        ("Hm. So.", "I look.It is <|end <b>."),
    ),
    (
        "openai",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f"
        "<|message|>{}<|call|>",
        ("Hm.", "<|start|>assistant<|channel|>commentary to=functions.f<|message|>{}<|call|>"),
    ),
    (
        "cohere_command",
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>",
        ("Hm.", "Yes."),
    ),
    ("cohere_command", "<|START_RESPONSE|>Yes.<|END_RESPONSE|>", ("", "Yes.")),
    ("kimi_k3", "<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>Yes.", ("Hm.", "Yes.")),
    (
        "kimi_k3",
        "<|open|>think<|sep|>Hm.<|open|>tools<|sep|><|open|>call",
        ("Hm.", "<|open|>tools<|sep|><|open|>call"),
    ),
    (
        "cohere_command4",
        "<|START_THINKING|>Hm.<|END_THINKING|><|START_TEXT|>Yes.<|END_TEXT|>",
        ("Hm.", "Yes."),
    ),
    ("kimi", "◁think▷Hm.◁/think▷Yes.", ("Hm.", "Yes.")),
    ("minimax_m3", "<mm:think>Hm.</mm:think>Yes.", ("Hm.", "Yes.")),
    ("apertus", "<|inner_prefix|>Hm.<|inner_suffix|>Yes.<|inner_prefix|> So.<|inner_suffix|>", ("Hm. So.", "Yes.")),
    (
        "apertus",
        "<|inner_prefix|>Hm.<|tools_prefix|>[{}]<|tools_suffix|><|inner_suffix|>Yes.",
        ("Hm.", "<|tools_prefix|>[{}]<|tools_suffix|>Yes."),
    ),
    ("gemma4", "<|channel>Hm.<channel|>Yes.", ("Hm.", "Yes.")),
    ("gemma4", "<|channel>thought\nHm.<|tool_call>call:f{}<tool_call|>", ("Hm.", "<|tool_call>call:f{}<tool_call|>")),
    ("granite", "Here's my thought process: Hm. Here's my response: Yes.", (" Hm. ", " Yes.")),
    ("qwen3", '<think>Hm.<tool_call>\n{"name": "f"}', ("Hm.", '<tool_call>\n{"name": "f"}')),
    ("qwen3", "<think>Hm.<tool_call>\n<function=f>", ("Hm.", "<tool_call>\n<function=f>")),
    (
        "qwen3",
        "<think>I write <tool_call>\n</tool_call> then.</think>Yes",
        ("I write <tool_call>\n</tool_call> then.", "Yes"),
    ),
    ("seed_oss", "<seed:think>Hm.</seed:think>Yes.", ("Hm.", "Yes.")),
    ("longcat", "<longcat_think>Hm.</longcat_think>Yes.", ("Hm.", "Yes.")),
    ("mistral", "[THINK]Hm.[/THINK]Yes [THINK].", ("Hm.", "Yes [THINK].")),
    ("apertus", "<|inner_prefix|>Hm.<|inner_suffix|>Yes.", ("Hm.", "Yes.")),
    ("gemma4", "<|channel>thought\nHm.<channel|>Yes.", ("Hm.", "Yes.")),
    ("hunyuan_a13b", "<think>\nHm.\n</think>\n<answer>\nYes.\n</answer>", ("\nHm.\n", "Yes.")),
    ("ernie45", "<think>Hm.</think>\n<response>\nYes.\n</response>", ("Hm.", "Yes.")),
    ("granite", "Here is my thought process: Hm. Here is my response: Yes.", (" Hm. ", " Yes.")),
    ("think", "<think>Hm.</think>Yes.", ("Hm.", "Yes.")),
    ("think", "<think>Hm.<|tool_calls_section_begin|>", ("Hm.", "<|tool_calls_section_begin|>")),
]


@pytest.mark.spec("ORCH-3073-005", "ORCH-3073-008")
@pytest.mark.parametrize("how, text, expected", WRITTEN)
def test_thoughts_of_every_family_are_told_wherever_the_text_is_cut(
    how: str, text: str, expected: tuple[str, str]
) -> None:
    for at in range(len(text) + 1):
        assert split([text[:at], text[at:]], how=how) == expected
    assert split(list(text), how=how) == expected


@pytest.mark.spec("ORCH-3073-005")
def test_every_family_that_thinks_is_tried() -> None:
    assert {THOUGHTS_BY_NAME[how].name for how, *_ in WRITTEN} == {each.name for each in THOUGHTS}

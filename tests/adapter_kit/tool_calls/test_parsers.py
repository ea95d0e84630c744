"""Calls told from text, wherever the text was cut; and nothing of it lost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from random import Random
from time import process_time
from typing import Any

import pytest

from adapter_api import ToolCallDelta
from adapter_api.bounds import MAX_PARTS
from adapter_kit.chat_template import ChatTemplate
from adapter_kit.tool_calls import FAMILIES, Part, found_in, tool_call_parser
from adapter_kit.tool_calls.parts import MOST_HELD
from tests.adapter_kit.tool_calls import reading
from tests.adapter_kit.tool_calls.reading import Joined, every_split, joined

TOOLS: dict[str, Any] = {"f": {}, "add": {}, "get_weather": {}}
GRAMMARS = [grammar.name for grammar in FAMILIES]

A, B = ("f", '{"a": "x}<\\"y", "b": [1,{}]}'), ("add", "{}")
CALLS: list[tuple[str, str, Joined]] = [
    (
        "hermes",
        f'I see <b>.\n<tool_call>\n{{"name": "f", "arguments": {A[1]}}}\n</tool_call>\n'
        '<tool_call>{"arguments": {}, "name": "add"}</tool_call> Done.',
        ["I see <b>.\n", A, B, " Done."],
    ),
    ("hermes", '\n<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>\n', [B]),
    ("hermes", '<tool_call>{"name": "add"}</tool_call>', [B]),
    ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [("f", '{"a": 1}')]),
    ("hermes", '<tool_call>{"id": 7, "name": "f", "arguments": {"a": 1}</tool_call>.', [("f", '{"a": 1}'), "."]),
    ("llama3_json", f'{{"name": "f", "parameters": {A[1]}}}; {{"name": "add", "parameters": {{}}}}', [A, B]),
    ("llama3_json", '<|python_tag|>{"type": "function", "name": "add", "parameters": {}}', [B]),
    ("llama3_json", 'So:\n{"name": "add", "parameters": {}}\nThat {"x"}', ["So:\n", B, '\nThat {"x"}']),
    ("llama3_json", '[{"name": "add", "parameters": {}}, {"name": "add", "parameters": {}}]', [B, B]),
    (
        "mistral",
        f'[TOOL_CALLS] [{{"name": "f", "arguments": {A[1]}}}, {{"name": "add", "arguments": {{}}, "id": "x"}}]',
        [A, B],
    ),
    ("mistral", f"Ok.[TOOL_CALLS]f[ARGS]{A[1]}[TOOL_CALLS]add[CALL_ID]x1[ARGS]{{}} End", ["Ok.", A, B, " End"]),
    ("mistral", "[TOOL_CALLS]add{}", [B]),
    ("mistral", '[{"name": "add", "arguments": {}}]', [B]),
    ("mistral", '[TOOL_CALLS][{"name": "add", "arguments": {}}, and so on', [B, ", and so on"]),
    ("pythonic", "[f(a='x)]', b={'k': None}, c=-2), add()]", [("f", '{"a": "x)]", "b": {"k": null}, "c": -2}'), B]),
    ("pythonic", "<|python_start|>[f(a=True)]<|python_end|> End", [("f", '{"a": true}'), " End"]),
    ("pythonic", "[add(), and so on", [B, ", and so on"]),
]  # fmt: skip
TEXTS: list[tuple[str, str]] = [
    ("hermes", "<tool_call>I call nobody</tool_call>"),
    ("hermes", '<tool_call>{"name": "f", "arguments'),
    ("hermes", '<tool_call>{"name": "", "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'),
    ("hermes", '<tool_call>{"arguments": {"a": 1}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>'),
    ("hermes", "<tool_call>\n<function=f>\n<parameter=a>1</parameter></function></tool_call>"),
    ("hermes", "a <tool_cal b </tool_call> <<<tool_cal"),
    ("hermes", '{"name": "f", "arguments": {}}'),
    ("llama3_json", '{"name": "Bob", "parameters": {"age": 5}}'),
    ("llama3_json", '{"name": "f"}'),
    ("llama3_json", '[1, 2, {"name": "f", "parameters": {}}]'),
    ("llama3_json", 'He said {"name": "f", "parameters": {}}'),
    ("llama3_json", "<|python_tag|>print(5)"),
    ("mistral", "[TOOL_CALLS] nothing"),
    ("mistral", "[link](http://example.org) [TOOL"),
    ("mistral", '[{"name": "Bob", "arguments": {}}]'),
    ("pythonic", "[link](http://example.org)"),
    ("pythonic", "[f(1)]"),
    ("pythonic", "[f(a=open('x'))]"),
    ("pythonic", "[f(a=1e999)]"),
    ("pythonic", "[f(**{'a': 1})]"),
    ("pythonic", f"[f(a={'(' * 40}1{')' * 40})]"),
    ("pythonic", "I would [f(a=1)]"),
    *((grammar, " \n ") for grammar in GRAMMARS),
]


def parts_of(grammar: str, pieces: Iterable[str]) -> list[Part]:
    return reading.parts_of(grammar, pieces, TOOLS)


@pytest.mark.spec("ORCH-3073-001")
@pytest.mark.parametrize("grammar, text, expected", CALLS)
def test_calls_are_told_from_the_text_around_them_wherever_it_is_cut(grammar: str, text: str, expected: Joined) -> None:
    for pieces in every_split(text):
        assert joined(parts_of(grammar, pieces)) == expected


@pytest.mark.spec("ORCH-3073-002")
@pytest.mark.parametrize("grammar, text", TEXTS)
def test_what_only_looks_like_a_call_stays_text_to_the_letter(grammar: str, text: str) -> None:
    for pieces in every_split(text):
        assert joined(parts_of(grammar, pieces)) == [text]


@pytest.mark.spec("ORCH-3073-001", "ORCH-3073-002")
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_whatever_a_model_writes_comes_out_the_same_wherever_it_is_cut(grammar: str) -> None:
    random = Random(grammar)
    scraps = [
        *("<tool_call>", "</tool_call>", "<|python_tag|>", '"', "\\", "\n", " "),
        *( "[TOOL_CALLS]", "[ARGS]", "<|python_start|>", "<|python_end|>"),
        *('{"name": "f"', '"arguments": {', '"parameters": {}', "{", "}", "[", "]", ",", ";", ":"),
        *("f", "add", "(", ")", "a=1", "'", "x", "é", '{"name": "add", "arguments": {}}', "f(a=1)", "<", "_", "."),
    ]  # fmt: skip
    for _ in range(100):
        text = "".join(random.choices(scraps, k=random.randint(1, 14)))
        whole = joined(parts_of(grammar, [text]))
        assert joined(parts_of(grammar, list(text))) == whole, text
        at = random.randrange(len(text) + 1)
        assert joined(parts_of(grammar, [text[:at], text[at:]])) == whole, text
        if not any(isinstance(each, tuple) for each in whole):
            assert "".join(map(str, whole)) == text


@pytest.mark.spec("ORCH-3073-003")
@pytest.mark.parametrize(
    "grammar, before",
    [
        ("hermes", '<tool_call>{"name": "f", "arguments": '),
        ("llama3_json", '{"name": "f", "parameters": '),
        ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": '),
        ("mistral", "[TOOL_CALLS]f[ARGS]"),
    ],
)
def test_arguments_come_as_the_model_writes_them_once_the_name_is_known(grammar: str, before: str) -> None:
    parser = tool_call_parser(grammar, TOOLS)
    assert parser.feed(before) == []
    assert parser.feed('{"a": ') == [ToolCallDelta(call=0, name="f", arguments='{"a": ')]
    assert parser.open
    assert parser.feed("12") == [ToolCallDelta(call=0, arguments="12")]
    assert parser.feed("34 }") == [ToolCallDelta(call=0, arguments="34 }")]


@pytest.mark.spec("ORCH-3073-003")
def test_arguments_that_are_no_json_are_given_on_as_they_are() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"a": oops!</tool_call> tail'
    for pieces in every_split(text):
        assert joined(parts_of("hermes", pieces)) == [("f", '{"a": oops!'), " tail"]
    parser = tool_call_parser("hermes", TOOLS)
    parser.feed('<tool_call>{"name": "f", "arguments": {"a": "cut off')
    assert parser.finish() == []
    assert parser.open


@pytest.mark.spec("ORCH-3073-002")
def test_a_call_that_does_not_begin_is_not_held_back_for_ever() -> None:
    beginnings: dict[str, str] = {
        "hermes": '<tool_call>{"name": "',
        "llama3_json": '{"x": "',
        "mistral": '[TOOL_CALLS][{"x": "',
        "pythonic": '[f(a="',
    }
    for grammar, beginning in beginnings.items():
        parser = tool_call_parser(grammar, TOOLS)
        assert parser.feed(beginning) == []
        fed, shown = len(beginning), 0
        for _ in range(100):
            fed += 1000
            shown += sum(len(part) for part in parser.feed("y" * 1000) if isinstance(part, str))
            assert fed - shown <= MOST_HELD + 1000


@pytest.mark.spec("ORCH-3073-002")
def test_an_answer_has_at_most_as_many_calls_as_the_contract_allows() -> None:
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    found = joined(parts_of("hermes", [call * (MAX_PARTS + 1)]))
    assert found == [("f", "{}")] * MAX_PARTS + [call]


@pytest.mark.spec("ORCH-3073-002")
@pytest.mark.parametrize("grammar", ["hermes", "mistral", "qwen3_coder", "glm45", "gemma4", "pythonic"])
@pytest.mark.parametrize(
    "piece", ["<tool_call>{", "[", "[{", '{"a":', "<tool_call", "\n[", "[TOOL_CALLS]f[", "f(", " ", "((("]
)
def test_reading_costs_the_same_per_character_however_long_a_text_is(grammar: str, piece: str) -> None:
    def cost(count: int) -> float:
        parser = tool_call_parser(grammar, TOOLS)
        began = process_time()
        for _ in range(count):
            parser.feed(piece)
        parser.finish()
        return process_time() - began

    small = min(cost(500) for _ in range(3))
    assert cost(4000) < 8 * 6 * small + 0.05


@pytest.mark.spec("ORCH-3073-004")
@pytest.mark.parametrize(
    "template, grammar",
    [
        ('return <tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>', "hermes"),
        ("{{ '[TOOL_CALLS]' }}{{ tool_calls }}", "mistral"),
        ("Respond in the format {\"name\": function name, \"parameters\": dictionary of arguments}.", "llama3_json"),
        ("{{- '<|python_tag|>' + tool_call.name }}", "llama3_json"),
        ("[func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]", "pythonic"),
        ("<tool_call>\n<function=example_function_name>\n<parameter=x>", "qwen3_coder"),
        ("{% for message in messages %}{{ message.content }}{% endfor %}", "hermes"),
    ],
)  # fmt: skip
def test_a_template_tells_the_grammar_that_it_teaches(template: str, grammar: str | None) -> None:
    assert found_in(ChatTemplate("{{ tools }}{% raw %}" + template + "{% endraw %}")).grammar == grammar


@pytest.mark.spec("ORCH-3073-001")
def test_the_arguments_of_calls_in_python_are_json() -> None:
    [call] = joined(parts_of("pythonic", ['[f(a="\\u00e9\\n", t=(1, 2), d={"k": [true, null]})]']))
    assert isinstance(call, tuple)
    assert json.loads(call[1]) == {"a": "é\n", "t": [1, 2], "d": {"k": [True, None]}}

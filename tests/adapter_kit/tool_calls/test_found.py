"""The grammar of a chat template, told from what it writes and from its marks; and said to whoever runs it."""

from __future__ import annotations

import pytest

from adapter_kit.chat_template import ChatTemplate, PlainLayout
from adapter_kit.thoughts import THOUGHTS, THOUGHTS_BY_NAME
from adapter_kit.told_apart import calls_told, thoughts_told
from adapter_kit.tool_calls import BY_NAME, FAMILIES, found_in
from tests.orchestrator.real_clients.tool_model.layouts import CALLS, template_of

_TURNS = (
    "{{ tools | tojson if tools else '' }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for c in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
NAMED_ONLY = {"qwen2_5_coder"}
"""Templates of these models teach another grammar than they write: only settings can name theirs."""
_JSON = '{"name": "{{ c.function.name }}", "KEY": {{ c.function.arguments | tojson }}}'


def writing(call: str) -> ChatTemplate:
    return ChatTemplate(_TURNS.replace("CALL", call))


def saying(words: str) -> ChatTemplate:
    """A template that shows no call of its own, and tells the model in words."""
    return ChatTemplate(
        "{{ tools }}{% raw %}" + words + "{% endraw %}{% for m in messages %}{{ m.content }}{% endfor %}"
    )


@pytest.mark.spec("ORCH-3073-004")
@pytest.mark.parametrize("grammar", CALLS)
def test_a_template_is_made_to_write_a_call_and_tells_its_grammar_by_it(grammar: str) -> None:
    found = found_in(ChatTemplate(template_of(grammar)))
    assert found.grammar == grammar
    assert not found.doubtful


@pytest.mark.spec("ORCH-3073-004")
@pytest.mark.parametrize("call, grammar", [
    ("<tool_call>" + _JSON.replace("KEY", "arguments") + "</tool_call>", "hermes"),
    ("[TOOL_CALLS][" + _JSON.replace("KEY", "arguments") + "]", "mistral"),
    ("[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}", "mistral"),
    (_JSON.replace("KEY", "parameters"), "llama3_json"),
    ("<tool_calls>[" + _JSON.replace("KEY", "arguments") + "]</tool_calls>", "tool_calls"),
    ("<|tool_call|>[" + _JSON.replace("KEY", "arguments") + "]", "granite"),
    ("functools[" + _JSON.replace("KEY", "arguments") + "]", "granite"),
    ("<TOOLCALL>[" + _JSON.replace("KEY", "arguments") + "]</TOOLCALL>", "nemotron"),
    ("<function={{ c.function.name }}>{{ c.function.arguments | tojson }}</function>", "functionary"),
    (">>>{{ c.function.name }}\n{{ c.function.arguments | tojson }}", "functionary_v32"),
    ('<|tools_prefix|>[{"{{ c.function.name }}": {{ c.function.arguments | tojson }}}]<|tools_suffix|>', "apertus"),
    ("[{{ c.function.name }}(town=\"{{ c.function.arguments.town }}\")]", "pythonic"),
    ("<|tool_call_start|>[{{ c.function.name }}(town=\"{{ c.function.arguments.town }}\")]<|tool_call_end|>", "lfm2"),
    ("{{ '<function=' + c.function.name + '>' + c.function.arguments + '</function>' }}", "functionary"),
    ("<|tool_call>call:{{ c.function.name }}{town:<|\"|>{{ c.function.arguments.town }}<|\"|>}<tool_call|>", "gemma4"),
])  # fmt: skip
def test_the_grammar_that_leaves_least_of_what_a_template_writes_is_its_own(call: str, grammar: str) -> None:
    assert found_in(writing(call)).grammar == grammar


@pytest.mark.spec("ORCH-3073-004")
@pytest.mark.parametrize("name", [each.name for each in FAMILIES if each.name not in NAMED_ONLY])
def test_a_template_that_only_tells_of_a_grammar_s_mark_is_known_by_it(name: str) -> None:
    grammar = BY_NAME[name]
    marks = {
        "qwen3_coder": "<tool_call>\n<function=name>\n<parameter=key>", "kimi_k3": '<|open|>call tool="name"',
        "glm45": "<tool_call>name\n<arg_key>key</arg_key>", "command_r": "Action: ```json",
        "xlam": '[{"name": "function", "arguments": {}}]', "deepseek_v32": "<｜DSML｜function_calls>",
        "gigachat3": "function call<|role_sep|>", "openai": "<|channel|>commentary to=functions.x",
        "functionary_v32": ">>>all\n",
    }  # fmt: skip
    found = found_in(saying(marks.get(name, grammar.begin[0] if grammar.begin else "")))
    assert found.grammar == name
    assert "chat template" in found.why


@pytest.mark.spec("ORCH-3073-004", "ORCH-3073-018")
def test_a_template_that_writes_something_else_is_taken_for_none() -> None:
    template = writing("(call-function {{ c.function.name }} with {{ c.function.arguments.town }})")
    told = calls_told("auto", template)
    assert told.name is None
    assert "not known" in told.why
    assert told.advice is not None
    assert all(grammar.name in told.advice for grammar in FAMILIES)


@pytest.mark.spec("ORCH-3073-018")
def test_a_template_that_shows_no_call_is_a_guess_and_says_so() -> None:
    told = calls_told("auto", saying("Use the tools."))
    assert told.name == "hermes"
    assert told.advice is not None


@pytest.mark.spec("ORCH-3073-018")
def test_what_settings_say_holds_whatever_the_template_shows() -> None:
    template = writing(_JSON.replace("KEY", "parameters"))
    assert str(calls_told("hermes", template)) == "hermes: the settings say so"
    assert calls_told("none", template).name is None
    assert calls_told("auto", PlainLayout()).name is None


@pytest.mark.spec("ORCH-3073-008", "ORCH-3073-018")
@pytest.mark.parametrize("name", [each.name for each in THOUGHTS])
def test_marks_of_thoughts_are_told_from_a_template_when_settings_ask_for_it(name: str) -> None:
    thoughts = THOUGHTS_BY_NAME[name]
    template = saying(" ".join((thoughts.begin[0], *thoughts.silent)))
    assert thoughts_told("auto", template).name == name
    told = thoughts_told("none", template)
    assert told.name is None
    assert told.advice is not None
    assert name in told.advice
    assert thoughts_told("auto", PlainLayout()).name is None

"""The family of a model of 2025 and 2026, told from a template that has its marks and its quirks.

The templates are written here, small, after what is known of the models' own: layout of turns, words about tools, how a
call of the history is written, and what breaks when a stranger renders them.
"""

from __future__ import annotations

import pytest

from adapter_kit.chat_template import ChatTemplate
from adapter_kit.thoughts import thoughts_in
from adapter_kit.told_apart import calls_told
from adapter_kit.tool_calls import found_in

_ARGUMENTS = "{{ c.function.arguments | tojson(ensure_ascii=False) }}"
_OBJECT = '{"name": "{{ c.function.name }}", "arguments": ' + _ARGUMENTS + "}"
_EACH = "{% for k, v in c.function.arguments | items %}"
_VALUE = "{{ v | tojson if v is mapping or (v is sequence and v is not string) else v | string }}"
_THINKS = "{% if add_generation_prompt %}<think>\n{% endif %}"


def _template(
    calls: str, words: str = "", *, before: str = "<|im_start|>{{ m.role }}\n", after: str = "<|im_end|>\n",
    content: str = "{{ m.content or '' }}", end: str = "",
) -> str:  # fmt: skip
    """`calls` is what a message with calls has behind its text, `words` what is told about tools."""
    return (
        "{% if tools %}<|system|>{{ tools | tojson }}{% raw %}" + words + "{% endraw %}{% endif %}"
        "{% for m in messages %}" + before + content + "{% if m.tool_calls %}" + calls + "{% endif %}" + after
        + "{% endfor %}" + end
    )  # fmt: skip


def _for_each(call: str) -> str:
    return "{% for c in m.tool_calls %}" + call + "{% endfor %}"


_HERMES_WORDS = '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
_CODER_WORDS = (
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "</function>\n</tool_call>\n- an inner <function=...> block must be nested within <tool_call> tags"
)
TEMPLATES: dict[str, tuple[str, str, str | None]] = {
    "Qwen 3": (_template(_for_each(f"\n<tool_call>\n{_OBJECT}\n</tool_call>"), _HERMES_WORDS, end=_THINKS),
               "hermes", "think"),
    "Granite 4, which has the tools' words only": (_template("", _HERMES_WORDS), "hermes", None),
    "Qwen3-Coder, Qwen 3.5 and Step 3.7, which read arguments that are a text": (
        _template(
            _for_each(
                "<tool_call>\n<function={{ c.function.name }}>\n"
                "{% set all = c.function.arguments | fromjson if c.function.arguments is string "
                "else c.function.arguments %}{% for k, v in all | items %}<parameter={{ k }}>\n" + _VALUE
                + "\n</parameter>\n{% endfor %}</function>\n</tool_call>"
            ),
            _CODER_WORDS, end=_THINKS,
        ),
        "qwen3_coder", "think",
    ),
    "GLM 4.6": (
        _template(
            _for_each(
                "\n<tool_call>{{ c.function.name }}" + _EACH + "<arg_key>{{ k }}</arg_key>\n<arg_value>"
                + _VALUE + "</arg_value>\n{% endfor %}</tool_call>"
            ),
            "<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>{arg-value-1}</arg_value>",
            before="<|{{ m.role }}|>\n<think></think>\n", after="",
        ),
        "glm45", "think",
    ),
    "Kimi K2 Thinking": (
        _template(
            "<|tool_calls_section_begin|>"
            + _for_each("<|tool_call_begin|>{{ c.id }}<|tool_call_argument_begin|>" + _ARGUMENTS + "<|tool_call_end|>")
            + "<|tool_calls_section_end|>",
            before="<|im_assistant|>{{ m.role }}<|im_middle|><think></think>",
        ),
        "kimi_k2", "think",
    ),
    "DeepSeek V3.1": (
        _template(
            "<｜tool▁calls▁begin｜>"
            + _for_each("<｜tool▁call▁begin｜>{{ c.function.name }}<｜tool▁sep｜>" + _ARGUMENTS + "<｜tool▁call▁end｜>")
            + "<｜tool▁calls▁end｜>",
            before="<｜Assistant｜></think>", after="<｜end▁of▁sentence｜>", end=_THINKS,
        ),
        "deepseek_v3", "think",
    ),
    "gpt-oss": (
        _template(
            _for_each(" to=functions.{{ c.function.name }}<|channel|>commentary json<|message|>" + _ARGUMENTS
                      + "<|call|>"),
            "# Valid channels: analysis, commentary, final.",
            before="<|start|>{{ m.role }}", after="", content="{{ '<|channel|>analysis<|message|>' if m.content }}",
        ),
        "openai", "openai",
    ),
    "Mistral Small 3.2, whose ids have nine letters": (
        _template(
            _for_each(
                "{% if c.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}"
                "[TOOL_CALLS]{{ c.function.name }}[CALL_ID]{{ c.id }}[ARGS]" + _ARGUMENTS
            ),
            before="[INST]", after="</s>",
        ),
        "mistral", None,
    ),
    "Devstral 2": (_template(_for_each("[TOOL_CALLS]{{ c.function.name }}[ARGS]" + _ARGUMENTS), after="</s>"),
                   "mistral", None),
    "Magistral": (
        _template(_for_each("[TOOL_CALLS]{{ c.function.name }}[ARGS]" + _ARGUMENTS), "[THINK]here[/THINK]"),
        "mistral", "mistral",
    ),
    "MiniMax M2": (
        _template(
            "<minimax:tool_call>\n"
            + _for_each(
                '<invoke name="{{ c.function.name }}">' + _EACH + '<parameter name="{{ k }}">' + _VALUE
                + "</parameter>{% endfor %}</invoke>\n"
            )
            + "</minimax:tool_call>",
            '<minimax:tool_call>\n<invoke name="tool-name-1">\n<parameter name="param-key-1">v</parameter>',
            before="]~b]{{ m.role }}\n", after="[e~[\n", end=_THINKS,
        ),
        "minimax_m2", "think",
    ),
    "Gemma 4": (
        _template(
            _for_each(
                "<|tool_call>call:{{ c.function.name }}{{ '{' }}" + _EACH
                + "{{ k }}:<|\"|>{{ v }}<|\"|>{% endfor %}{{ '}' }}<tool_call|>"
            ),
            before="<|turn>{{ m.role }}\n", after="<turn|>\n",
        ),
        "gemma4", None,
    ),
    "LFM 2.5, which takes no message without a text": (
        _template(
            "<|tool_call_start|>[" + _for_each("{{ c.function.name }}(" + _EACH + "{{ k }}='{{ v }}'{% endfor %})")
            + "]<|tool_call_end|>",
            content="{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}"
                    "{% endfor %}{% endif %}",
        ),
        "lfm2", None,
    ),
    "Seed-OSS": (
        _template(
            _for_each(
                "<seed:tool_call>\n<function={{ c.function.name }}>\n" + _EACH + "<parameter={{ k }}>" + _VALUE
                + "</parameter>\n{% endfor %}</function>\n</seed:tool_call>"
            ),
            "<seed:tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>value_1</parameter>",
            before="<seed:bos>{{ m.role }}\n", after="<seed:eos>", end="<seed:think>",
        ),
        "seed_oss", "seed_oss",
    ),
    "Nemotron Nano 2": (
        _template(
            "<TOOLCALL>[" + _for_each(_OBJECT + "{{ ', ' if not loop.last }}") + "]</TOOLCALL>",
            '<TOOLCALL>[{"name": "tool_name", "arguments": {}}]</TOOLCALL>',
            before="<SPECIAL_11>{{ m.role }}\n", after="\n<SPECIAL_12>\n", end=_THINKS,
        ),
        "nemotron", "think",
    ),
    "Apriel 1.6, which writes ids too": (
        _template(
            "\n<tool_calls>[" + _for_each(_OBJECT[:-1] + ', "id": "{{ c.id }}"}{{ ", " if not loop.last }}')
            + "]</tool_calls>",
            'within <tool_calls></tool_calls> XML tags:\n<tool_calls>[\n{"name": <function-name-1>, "arguments": {}}]',
            before="\n<|begin_{{ m.role }}|>\n", after="\n<|end|>\n",
        ),
        "tool_calls", None,
    ),
    "Llama 3.3, which calls one tool at a time": (
        _template(
            "{% if m.tool_calls | length != 1 %}{{ raise_exception('one tool at a time') }}{% endif %}"
            + _for_each('{"name": "{{ c.function.name }}", "parameters": ' + _ARGUMENTS + "}"),
            'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.',
            before="<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n", after="<|eot_id|>",
        ),
        "llama3_json", None,
    ),
    "Llama 4": (
        _template(
            "<|python_start|>[" + _for_each("{{ c.function.name }}(" + _EACH + "{{ k }}={{ v | tojson }}{% endfor %})")
            + "]<|python_end|>",
            before="<|header_start|>{{ m.role }}<|header_end|>\n\n", after="<|eot|>",
        ),
        "pythonic", None,
    ),
    "Command A": (
        _template(
            '<|START_ACTION|>[\n' + _for_each('    {"tool_call_id": "0", "tool_name": "{{ c.function.name }}", '
                                              '"parameters": ' + _ARGUMENTS + "}") + "\n]<|END_ACTION|>",
            "<|START_THINKING|> and <|START_RESPONSE|>",
            before="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", after="<|END_OF_TURN_TOKEN|>",
        ),
        "cohere_command", "cohere_command",
    ),
    "GigaChat 3": (
        _template(
            _for_each('function call<|role_sep|>\n{"name": "{{ c.function.name }}", "arguments": ' + _ARGUMENTS + "}"
                      "<|message_sep|>\n\n"),
            before="{{ m.role }}<|role_sep|>\n", after="<|message_sep|>\n\n",
        ),
        "gigachat3", None,
    ),
    "OLMo 3": (
        _template(
            "<function_calls>" + _for_each("{{ c.function.name }}(" + _EACH + "{{ k }}={{ v | tojson }}{% endfor %})\n")
            + "</function_calls>",
        ),
        "olmo3", None,
    ),
    "Apertus": (
        _template(
            "<|tools_prefix|>[" + _for_each('{"{{ c.function.name }}": ' + _ARGUMENTS + "}") + "]<|tools_suffix|>",
            before="<|assistant_start|>", after="<|assistant_end|>",
        ),
        "apertus", None,
    ),
    "Gemma 3, which takes no tools": ("{% for m in messages %}{{ m.content }}{% endfor %}", "", None),
}  # fmt: skip
"""By the models that write so: a template, the grammar of its calls, the marks of its thoughts."""


@pytest.mark.spec("ORCH-3073-004", "ORCH-3073-018")
@pytest.mark.parametrize("models", TEMPLATES)
def test_the_family_of_a_model_is_told_from_its_template(models: str) -> None:
    text, grammar, thoughts = TEMPLATES[models]
    template = ChatTemplate(text)

    found = found_in(template)

    assert (found.grammar or "") == grammar
    assert not found.doubtful
    assert thoughts_in(text) == thoughts
    assert str(calls_told("auto", template)).startswith(f"{grammar or 'none'}: the chat template ")

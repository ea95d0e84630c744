"""Chat templates of one layout that teach one grammar each."""

from __future__ import annotations

_EACH = "{%- for name, value in call.function.arguments | items %}"
_RAW = "{{- value if value is string else value | tojson }}"
CALLS = {
    "deepseek_v3": (
        "{{- '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' ~ call.function.name ~ '<｜tool▁sep｜>' }}"
        "{{- call.function.arguments | tojson ~ '<｜tool▁call▁end｜><｜tool▁calls▁end｜>' }}"
    ),
    "kimi_k2": (
        "{{- '<|tool_calls_section_begin|><|tool_call_begin|>' ~ call.id ~ '<|tool_call_argument_begin|>' }}"
        "{{- call.function.arguments | tojson ~ '<|tool_call_end|><|tool_calls_section_end|>' }}"
    ),
    "openai": (
        "{{- '<|channel|>commentary to=functions.' ~ call.function.name ~ ' <|constrain|>json<|message|>' }}"
        "{{- call.function.arguments | tojson ~ '<|call|>' }}"
    ),
    "qwen3_coder": (
        "{{- '<tool_call>\\n<function=' ~ call.function.name ~ '>\\n' }}"
        + _EACH
        + "{{- '<parameter=' ~ name ~ '>\\n' }}"
        + _RAW
        + "{{- '\\n</parameter>\\n' }}{%- endfor %}{{- '</function>\\n</tool_call>' }}"
    ),
    "glm45": (
        "{{- '<tool_call>' ~ call.function.name ~ '\\n' }}"
        + _EACH
        + "{{- '<arg_key>' ~ name ~ '</arg_key>\\n<arg_value>' }}"
        + _RAW
        + "{{- '</arg_value>\\n' }}{%- endfor %}{{- '</tool_call>' }}"
    ),
    "minimax_m2": (
        "{{- '<minimax:tool_call>\\n<invoke name=\"' ~ call.function.name ~ '\">\\n' }}"
        + _EACH
        + "{{- '<parameter name=\"' ~ name ~ '\">' }}"
        + _RAW
        + "{{- '</parameter>\\n' }}{%- endfor %}{{- '</invoke>\\n</minimax:tool_call>' }}"
    ),
    "cohere_command": (
        '{{- \'<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "\' ~ call.function.name ~ \'", "parameters": \' }}'
        "{{- call.function.arguments | tojson ~ '}]<|END_ACTION|>' }}"
    ),
    "olmo3": (
        "{{- '<function_calls>' ~ call.function.name ~ '(' }}"
        + _EACH
        + "{{- name ~ '=' ~ (value | tojson) ~ ('' if loop.last else ', ') }}{%- endfor %}{{- ')</function_calls>' }}"
    ),
}
"""How each writes a call."""
_SHELL = """
{{- '<|im_start|>system\\nYou help.' }}
{%- if tools %}
    {{- '\\nThese functions are there:' }}
    {%- for tool in tools %}{{- '\\n' ~ (tool | tojson) }}{%- endfor %}
    {{- '\\nThis is how calls are written: SIGN' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ (message.content or '') }}
    {%- for call in message.tool_calls or [] %}CALL{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
{%- if think %}{{- '<think>\\n' }}{%- endif %}
"""
SIGNS = {
    "deepseek_v3": "<｜tool▁sep｜>", "kimi_k2": "<|tool_call_begin|>", "openai": "<|channel|>analysis<|message|>",
    "qwen3_coder": "<function=", "glm45": "<arg_key>", "minimax_m2": "<minimax:tool_call>",
    "cohere_command": "<|START_ACTION|>", "olmo3": "<function_calls>",
}  # fmt: skip
"""What each prompt has from its grammar before there is any call."""


def template_of(grammar: str) -> str:
    return _SHELL.replace("CALL", CALLS[grammar]).replace("SIGN", SIGNS[grammar])

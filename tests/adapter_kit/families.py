"""Chat templates written in the style of well-known families of models, and conversations for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapter_api import TaskRequest

CHATML = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- 'You may call these functions:\\n<tools>' }}
    {%- for tool in tools %}
        {{- '\\n' ~ (tool | tojson) }}
    {%- endfor %}
    {{- '\\n</tools>\\nAnswer with <tool_call>{"name": ..., "arguments": ...}</tool_call>.<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' ~ messages[0].content ~ '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
            {{- call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA_3 = """
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim }}
        {{- '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("Only one call of a tool at a time!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {%- generation %}{{- call.arguments | tojson }}{{- "}<|eot_id|>" }}{% endgeneration %}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or (message.content is iterable and message.content is not string) %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """
{{- bos_token }}
{%- set ns = namespace(turn=0) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- continue %}
    {%- endif %}
    {%- set speaks = message.role in ('user', 'assistant') and not message.tool_calls %}
    {%- if speaks and (message.role == 'user') != (ns.turn % 2 == 0) %}
        {{- raise_exception('After the system message, roles must alternate user/assistant/user/assistant') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {%- set ns.turn = ns.turn + 1 %}
        {{- '[INST] ' }}
        {%- if messages[0].role == 'system' and loop.last %}{{ messages[0].content }}{{ '\\n\\n' }}{% endif %}
        {{- message.content + '[/INST]' }}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- '[TOOL_CALLS] [' }}
        {%- for call in message.tool_calls %}
            {%- set out = call.function | tojson %}
            {{- out[:-1] }}
            {%- if call.id is not defined or call.id | length != 9 %}
                {{- raise_exception("Ids of tool calls have 9 characters!") }}
            {%- endif %}
            {{- ', "id": "' + call.id + '"}' }}
            {%- if not loop.last %}{{- ', ' }}{% else %}{{- ']' + eos_token }}{% endif %}
        {%- endfor %}
    {%- elif message.role == 'assistant' %}
        {%- set ns.turn = ns.turn + 1 %}
        {{- ' ' + message.content | trim + eos_token }}
    {%- elif message.role == 'tool' %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content | string + ', "call_id": "' + message.tool_call_id + '"}' }}
        {{- '[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}
"""

VISION = """
{%- macro content_of(content) %}
    {%- if content is string %}
        {{- content }}
    {%- else %}
        {%- for part in content %}
            {%- if part.type == 'image' or 'image_url' in part %}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif 'text' in part %}
                {{- part.text }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {{- content_of(message.content) }}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""

PARTS_ONLY = """
{%- for message in messages -%}
{{ message.role | capitalize }}{{ ':' if message.content[0].type == 'image' else ': ' }}
{%- for line in message.content -%}
{% if line.type == 'text' %}{{ line.text }}{% elif line.type == 'image' %}{{ '<image>' }}{% endif %}
{%- endfor %}<end_of_utterance>
{% endfor %}
{%- if add_generation_prompt %}Assistant:{% endif %}
"""

FAMILIES = {"chatml": CHATML, "llama3": LLAMA_3, "mistral": MISTRAL, "vision": VISION, "parts": PARTS_ONLY}
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief, & <kind>."},
    {"role": "user", "content": "It's 5 < 6?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Und in Köln? 日本 🙂"},
]
CALL = {"location": "Köln & <Bonn>", "days": [1, 2.5], "exact": True, "it's": None}
CALLED: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather in Köln?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": CALL}}],
    },
    {"role": "tool", "content": '{"rain": "no"}', "tool_call_id": "call00001", "name": "weather"},
]
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather's forecast <for a place>",
            "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
PICTURES: list[dict[str, Any]] = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "What is "}, {"type": "image"}, {"type": "text", "text": "?"}],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "A bird."}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "And these?"}]},
]

CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "chat": (CHAT, []),
    "called": (CALLED, []),
    "tools": (CHAT[:2], TOOLS),
    "called tools": (CALLED, TOOLS),
    "pictures": (PICTURES, []),
}
IMAGE = "iVBORw0KGgo="
PROMPTS: dict[str, str] = json.loads(Path(__file__).with_name("prompts.json").read_text(encoding="utf-8"))
"""What `family/case` is rendered to by transformers 5.24.0 (`render_jinja_template`, `add_generation_prompt=True`, the
special tokens `TOKENS`), from exactly these templates and conversations."""


def task_of(case: str, **fields: Any) -> TaskRequest:
    """Return a case as a task: as a client of the OpenAI API would say it, by the contract's own fields."""
    messages, tools = CASES[case]
    turns = []
    for message in messages:
        turn = dict(message)
        if "tool_calls" in turn:
            turn["tool_calls"] = [
                {
                    "id": call["id"],
                    "name": call["function"]["name"],
                    "arguments": json.dumps(call["function"]["arguments"]),
                }
                for call in turn["tool_calls"]
            ]
        if isinstance(turn["content"], list):
            turn["content"] = [
                {**part, **({"data": IMAGE} if part["type"] == "image" else {})} for part in turn["content"]
            ]
        turns.append(turn)
    functions = [tool["function"] for tool in tools]
    return TaskRequest.parse({"model": "m", "messages": turns, "tools": functions} | fields)

"""Families whose calls are a name, and then arguments in JSON."""

from __future__ import annotations

import re

from adapter_kit.tool_calls.grammar import NAME, Grammar, JsonObject, NameThenJson

_READ = "2026-11-29"
"""When the sources here were opened last."""
_VLLM = "https://github.com/vllm-project/vllm/blob/"
_SGLANG = "https://github.com/sgl-project/sglang/blob/"
_FUNCTIONARY = "https://github.com/MeetKai/functionary/blob/25fa129527c1/functionary/prompt_template/jinja_templates/"
_PLAIN_NAME = r"[\w.\-/]+"
# Its marks are special tokens, too; vLLM asks no Mistral tokenizer to keep them, for that cannot. Calls are found bare.
_MISTRAL = Grammar(
    names=("mistral",),
    families="Mistral, Mixtral, Magistral, Devstral",
    source=_VLLM + "021235c55cb8/vllm/entrypoints/openai/tool_parsers/mistral_tool_parser.py",
    checked=_READ,
    sign=re.compile(r"\[TOOL_CALLS\]"),
    begin=("[TOOL_CALLS]",),
    how=(
        JsonObject(),
        NameThenJson(
            head=re.compile(rf"(?P<name>{NAME})\s*+(?:\[CALL_ID\]\s*+(?P<id>[\w\-]*)\s*+)?(?:\[ARGS\])?\s*+"),
            id_letters=9,
        ),
    ),
    bare=True,
)
NAMED: tuple[Grammar, ...] = (
    _MISTRAL,
    Grammar(
        names=("deepseek_v3", "deepseek_v31"),
        families="DeepSeek R1, V3, V3.1",
        source=_VLLM + "061b11ddf138/vllm/entrypoints/openai/tool_parsers/deepseekv3_tool_parser.py",
        checked=_READ,
        sign=re.compile(r"<｜tool▁call"),
        begin=("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
        after=("<｜tool▁call▁end｜>",),
        end=("<｜tool▁calls▁end｜>",),
        how=(
            NameThenJson(
                head=re.compile(
                    rf"(?:\w+<｜tool▁sep｜>(?=[^{{]))?(?P<name>{NAME})\s*+(?:<｜tool▁sep｜>)?\s*+(?:```(?:json)?)?\s*+"
                )
            ),
        ),
    ),
    Grammar(
        names=("kimi_k2",),
        families="Kimi K2",
        source=_VLLM + "c853e15405fb/vllm/tool_parsers/kimi_k2_tool_parser.py",
        checked=_READ,
        sign=re.compile(r"<\|tool_calls_section_begin\|>|<\|tool_call_argument_begin\|>"),
        begin=("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>", "<|tool_call_begin|>"),
        after=("<|tool_call_end|>",),
        end=("<|tool_calls_section_end|>", "<|tool_call_section_end|>"),
        how=(
            NameThenJson(
                head=re.compile(
                    rf"(?P<id>(?:functions\.)?(?P<name>{_PLAIN_NAME}?)(?::\d+)?)"
                    r"\s*+(?:<\|tool_call_argument_begin\|>)?\s*+"
                )
            ),
        ),
        bare=True,
    ),
    Grammar(
        names=("openai", "harmony", "gptoss"),
        families="gpt-oss",
        source=_SGLANG + "006359c45321/python/sglang/srt/function_call/gpt_oss_detector.py",
        checked=_READ,
        special=True,
        sign=re.compile(r"<\|channel\|>"),
        begin=(
            "<|start|>assistant<|channel|>commentary to=functions.",
            "<|start|>assistant<|channel|>analysis to=functions.",
            "<|start|>assistant to=functions.",
            "<|channel|>commentary to=functions.",
            "<|channel|>analysis to=functions.",
        ),
        end=("<|call|>", "<|end|>"),
        how=(
            NameThenJson(
                head=re.compile(
                    rf"(?P<name>{NAME})\s*+(?:<\|channel\|>\w+\s*+)?(?:<\|constrain\|>)?\s*+\w*\s*+<\|message\|>\s*+"
                )
            ),
        ),
        silent=(
            "<|start|>assistant<|channel|>final<|message|>",
            "<|start|>assistant<|channel|>commentary<|message|>",
            "<|channel|>final<|message|>",
            "<|channel|>commentary<|message|>",
            "<|end|>",
            "<|return|>",
        ),
    ),
    Grammar(
        names=("functionary",),
        families="Functionary v3.1, Llama 3.1 with tools of its user",
        source=_FUNCTIONARY + "v3-llama3.1.txt",
        checked=_READ,
        sign=re.compile(r"<function="),
        begin=("<function=",),
        after=("</function>",),
        how=(NameThenJson(head=re.compile(rf"(?P<name>{NAME})>\s*+")),),
    ),
    Grammar(
        names=("functionary_v32",),
        families="Functionary v3.2",
        source=_FUNCTIONARY + "v3.llama3.txt",
        checked=_READ,
        sign=re.compile(r">>>(?:all|\$\{)|['\"]>>>"),
        begin=(">>>",),
        how=(NameThenJson(head=re.compile(rf"(?P<name>{NAME})\n\s*+")),),
        silent=(">>>all\n",),
        prompted=">>>",
    ),
)

"""Families whose calls are a name, and then arguments in JSON."""

from __future__ import annotations

import re

from adapter_kit.tool_calls.grammar import NAME, Grammar, JsonObject, NameThenJson

_HF = "https://huggingface.co/"
_PLAIN_NAME = r"[\w.\-/]+"
_MISTRAL = Grammar(
    names=("mistral",),
    families="Mistral, Mixtral, Magistral, Devstral",
    source="https://github.com/mistralai/mistral-common",
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
        source=_HF + "deepseek-ai/DeepSeek-V3.1",
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
        source=_HF + "moonshotai/Kimi-K2-Instruct",
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
        source="https://github.com/openai/harmony",
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
        source="https://github.com/MeetKai/functionary",
        sign=re.compile(r"<function="),
        begin=("<function=",),
        after=("</function>",),
        how=(NameThenJson(head=re.compile(rf"(?P<name>{NAME})>\s*+")),),
    ),
    Grammar(
        names=("functionary_v32",),
        families="Functionary v3.2",
        source="https://github.com/MeetKai/functionary",
        sign=re.compile(r">>>(?:all|\$\{)|['\"]>>>"),
        begin=(">>>",),
        how=(NameThenJson(head=re.compile(rf"(?P<name>{NAME})\n\s*+")),),
        silent=(">>>all\n",),
        prompted=">>>",
    ),
)

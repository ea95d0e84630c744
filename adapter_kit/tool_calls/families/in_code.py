"""Families whose calls are Python, or nearly JSON."""

from __future__ import annotations

import re

from adapter_kit.tool_calls.grammar import Grammar, JsonObject, LooseObject, PythonCall

_READ = "2026-11-29"
"""When the sources here were opened last."""
_VLLM = "https://github.com/vllm-project/vllm/blob/"
_SGLANG = "https://github.com/sgl-project/sglang/blob/"
IN_CODE: tuple[Grammar, ...] = (
    Grammar(
        names=("functiongemma",),
        families="FunctionGemma",
        source=_VLLM + "fe3771baa0a0/vllm/tool_parsers/functiongemma_tool_parser.py",
        checked=_READ,
        special=True,
        sign=re.compile(r"<start_function_call>"),
        begin=("<start_function_call>",),
        end=("<end_function_call>",),
        how=(LooseObject(begin="call:", quote="<escape>"),),
    ),
    Grammar(
        names=("gemma4",),
        families="Gemma 4",
        source=_SGLANG + "008b79d2358b/python/sglang/srt/function_call/gemma4_detector.py",
        checked=_READ,
        special=True,
        sign=re.compile(r"<\|tool_call>"),
        begin=("<|tool_call>",),
        end=("<tool_call|>",),
        how=(LooseObject(begin="call:", quote='<|"|>'),),
    ),
    Grammar(
        names=("gemma3",),
        families="Gemma 3, told to write `tool_code`",
        sign=re.compile(r"```tool_code"),
        begin=("```tool_code",),
        end=("```",),
        how=(PythonCall(),),
    ),
    Grammar(
        names=("lfm2",),
        families="LFM 2",
        source=_VLLM + "011cde7c177a/vllm/tool_parsers/lfm2_tool_parser.py",
        checked=_READ,
        special=True,
        sign=re.compile(r"<\|tool_call_start\|>"),
        begin=("<|tool_call_start|>",),
        end=("<|tool_call_end|>",),
        how=(PythonCall(listed=True), JsonObject()),
        bare=True,
        echoes=True,
    ),
    Grammar(
        names=("olmo3",),
        families="OLMo 3",
        source=_VLLM + "2ca253f2ef2f/vllm/entrypoints/openai/tool_parsers/olmo3_tool_parser.py",
        checked=_READ,
        sign=re.compile(r"<function_calls>"),
        begin=("<function_calls>",),
        end=("</function_calls>",),
        how=(PythonCall(),),
    ),
    Grammar(
        names=("pythonic", "llama4_pythonic"),
        families="Llama 4, Llama 3.2, ToolACE, Gemma 3",
        source=_VLLM + "e2fc92ec91d7/vllm/tool_parsers/llama4_pythonic_tool_parser.py",
        checked=_READ,
        sign=re.compile(r"<\|python_start\|>|\[\s*\w+\(\w+\s*="),
        begin=("<|python_start|>",),
        end=("<|python_end|>",),
        how=(PythonCall(listed=True), JsonObject()),
        bare=True,
        fenced=True,
    ),
)

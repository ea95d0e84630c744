"""Families whose calls are Python, or nearly JSON."""

from __future__ import annotations

import re

from adapter_kit.tool_calls.grammar import Grammar, JsonObject, LooseObject, PythonCall

_HF = "https://huggingface.co/"
IN_CODE: tuple[Grammar, ...] = (
    Grammar(
        names=("functiongemma",),
        families="FunctionGemma",
        source=_HF + "google/functiongemma-270m-it",
        sign=re.compile(r"<start_function_call>"),
        begin=("<start_function_call>",),
        end=("<end_function_call>",),
        how=(LooseObject(begin="call:", quote="<escape>"),),
    ),
    Grammar(
        names=("gemma4",),
        families="Gemma 4",
        source=_HF + "google/gemma-4-31B-it",
        sign=re.compile(r"<\|tool_call>"),
        begin=("<|tool_call>",),
        end=("<tool_call|>",),
        how=(LooseObject(begin="call:", quote='<|"|>'),),
    ),
    Grammar(
        names=("gemma3",),
        families="Gemma 3",
        source="https://ai.google.dev/gemma/docs/capabilities/function-calling",
        sign=re.compile(r"```tool_code"),
        begin=("```tool_code",),
        end=("```",),
        how=(PythonCall(),),
    ),
    Grammar(
        names=("lfm2",),
        families="LFM 2",
        source=_HF + "LiquidAI/LFM2-1.2B",
        sign=re.compile(r"<\|tool_call_start\|>"),
        begin=("<|tool_call_start|>",),
        end=("<|tool_call_end|>",),
        how=(PythonCall(listed=True), JsonObject()),
        bare=True,
    ),
    Grammar(
        names=("olmo3",),
        families="OLMo 3",
        source=_HF + "allenai/Olmo-3-7B-Instruct",
        sign=re.compile(r"<function_calls>"),
        begin=("<function_calls>",),
        end=("</function_calls>",),
        how=(PythonCall(),),
    ),
    Grammar(
        names=("pythonic", "llama4_pythonic"),
        families="Llama 4, Llama 3.2, ToolACE",
        source="https://www.llama.com/docs/model-cards-and-prompt-formats/llama4/",
        sign=re.compile(r"<\|python_start\|>|\[\s*\w+\(\w+\s*="),
        begin=("<|python_start|>",),
        end=("<|python_end|>",),
        how=(PythonCall(listed=True), JsonObject()),
        bare=True,
        fenced=True,
    ),
)

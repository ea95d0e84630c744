"""A parser by the name of its grammar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_kit.tool_calls.call_parser import CallParser
from adapter_kit.tool_calls.families import BY_NAME
from adapter_kit.tool_calls.parts import ToolCallParser


def tool_call_parser(name: str, tools: Mapping[str, Mapping[str, Any]]) -> ToolCallParser:
    """Return a parser for one answer.

    Args:
        name: What the grammar is called in which the model writes its calls: one of `BY_NAME`.
        tools: The schemas of the arguments of the tools that it may call, by name. What stands where a call is
            expected, with no mark before it, is one only if it names one of them.
    """
    return CallParser(BY_NAME[name], tools)

"""The grammars by name, and which of them a chat template teaches."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Literal, get_args

from adapter_kit.tool_calls.hermes import HERMES
from adapter_kit.tool_calls.llama3 import LLAMA3
from adapter_kit.tool_calls.marked_json import MarkedJson
from adapter_kit.tool_calls.mistral import MISTRAL
from adapter_kit.tool_calls.parts import ToolCallParser
from adapter_kit.tool_calls.pythonic import Pythonic

Grammar = Literal["hermes", "llama3_json", "mistral", "pythonic"]
GRAMMARS: tuple[Grammar, ...] = get_args(Grammar)

_PARSERS: dict[Grammar, Callable[[Collection[str]], ToolCallParser]] = {
    "hermes": lambda tools: MarkedJson(HERMES, tools),
    "llama3_json": lambda tools: MarkedJson(LLAMA3, tools),
    "mistral": lambda tools: MarkedJson(MISTRAL, tools),
    "pythonic": Pythonic,
}
# In the order in which they are looked for: some templates of one family quote another's words.
_SIGNS: tuple[tuple[Grammar | None, re.Pattern[str]], ...] = (
    ("mistral", re.compile(r"\[TOOL_CALLS\]")),
    (None, re.compile(r"<function=|<arg_key>|<｜tool▁call")),  # grammars that none of these parsers reads
    ("hermes", re.compile(r"<tool_call>")),
    ("pythonic", re.compile(r"<\|python_start\|>|\[\s*\w+\(\w+\s*=")),
    ("llama3_json", re.compile(r"""<\|python_tag\|>|["']name\\?["']\s*:[^{}]{0,80}["']parameters\\?["']""")),
)


def tool_call_parser(grammar: Grammar, tools: Collection[str]) -> ToolCallParser:
    """Return a parser for one answer.

    Args:
        grammar: How the model writes its calls.
        tools: The names of the tools that it may call. What stands where a call is expected, with no mark before it, is
            one only if it names one of them.
    """
    return _PARSERS[grammar](frozenset(tools))


def grammar_of(template: str) -> Grammar | None:
    """Return the grammar that a chat template teaches its model; `None` where it shows no sign of one that is known."""
    return next((grammar for grammar, sign in _SIGNS if sign.search(template)), None)

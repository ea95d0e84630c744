"""Which grammar a chat template teaches: told from a call that it is made to write, or from the marks in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from adapter_api import AdapterError, Message, TaskRequest, Tool, ToolCall
from adapter_kit.chat_template import TakesLong, Template
from adapter_kit.tool_calls.call_parser import CallParser
from adapter_kit.tool_calls.families import FAMILIES
from adapter_kit.tool_calls.grammar import Grammar

USUAL = "hermes"
_NAME, _ARGUMENTS = "look_up_place", {"town": "Aberystwyth"}
_TOWN = {"type": "string", "description": "The name of the town."}
_SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {"town": _TOWN}, "required": ["town"]}
_SEAM = re.compile(r"[\n>\]]")
"""What a turn may begin behind."""


class Found(msgspec.Struct, frozen=True):
    """How a model writes its calls, as far as its template tells."""

    grammar: str | None
    """The name of the grammar; `None` where it is none that is known, or there are no calls."""
    why: str
    """What it was told from."""
    doubtful: bool = False
    """Whether somebody who knows the model should say it."""


def found_in(template: Template) -> Found:
    """Return how a model with this template writes its calls. It is rendered twice to find out, the first time."""
    given: Any = template
    return _found_in(given)


@lru_cache(maxsize=64)
def _found_in(template: Any) -> Found:
    if not template.takes_tools:
        return Found(None, "the chat template has no place for tools")
    written = _written_by(template)
    signs = [grammar for grammar in FAMILIES if grammar.sign.search(template.text)]
    if written is not None:
        readers = [(left, grammar) for grammar in FAMILIES if (left := _left_by(grammar, written)) is not None]
        if readers:
            least = min(left for left, _ in readers)
            best = [grammar for left, grammar in readers if left == least]
            return Found(_choice(best, signs, written).name, "the chat template writes calls so")
    if signs:
        return Found(signs[0].name, f"the chat template has {_shown(signs[0], template.text)}")
    if written is not None:
        return Found(None, "the chat template writes calls in a way that is not known", doubtful=True)
    return Found(USUAL, "the chat template does not show how calls are written, and most do so", doubtful=True)


def _choice(best: list[Grammar], signs: list[Grammar], written: str) -> Grammar:
    """Return one of the grammars that read a call equally well: one whose sign or mark is there, or that which has the
    least marks."""
    shown = [grammar for grammar in best if grammar in signs]
    shown = shown or [grammar for grammar in best if any(mark in written for mark in grammar.begin)]
    return shown[0] if shown else best[-1]


def _written_by(template: Template) -> str | None:
    """Return the turn that a template makes of a call; `None` where it makes none of it."""
    tool = Tool(name=_NAME, description="Says where a town is.", parameters=_SCHEMA)
    asked = Message(role="user", content="Where is it?")
    call = ToolCall(id=f"functions.{_NAME}:0", name=_NAME, arguments=json.dumps(_ARGUMENTS))
    try:
        before = template.render(_task(tool, asked))
        after = template.render(_task(tool, asked, Message(role="assistant", content=None, tool_calls=(call,))))
    except (AdapterError, TakesLong):
        return None
    same = next((at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    begins = max((found.end() for found in _SEAM.finditer(after, 0, same)), default=0)
    turn = after[begins:]
    return turn if _NAME in turn else None


def _task(tool: Tool, *messages: Message) -> TaskRequest:
    return TaskRequest(model="model", messages=messages, tools=(tool,))


def _left_by(grammar: Grammar, written: str) -> int | None:
    """Return how much text is left of a turn when its call is read; `None` where the call is not read from it."""
    parser = CallParser(grammar, {_NAME: _SCHEMA})
    left, name, arguments = 0, "", ""
    for part in (*parser.feed(written), *parser.finish()):
        if isinstance(part, str):
            left += len("".join(part.split()))  # some drop whitespace as layout, and it says nothing
        else:
            name += part.name or ""
            arguments += part.arguments
    try:
        return left if name == _NAME and json.loads(arguments) == _ARGUMENTS else None
    except ValueError:
        return None


def _shown(grammar: Grammar, text: str) -> str:
    mark = next((mark for mark in grammar.begin if mark in text), None)
    return repr(mark) if mark is not None else f"what {grammar.families.partition(',')[0]} and others are taught with"

"""From the text of a model to its answer: the tool calls and the thoughts in it become events of their own.

That is for messages which the host itself made a prompt of: then the model's calls are part of its text. What an engine
tells apart itself is passed on as it is.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import uuid4

import msgspec

from adapter_api import End, Error, Metrics, Reasoning, Started, TaskRequest, Token, TokenEvent, ToolCallDelta
from adapter_kit.chat_template import Template
from adapter_kit.reasoning import BEGIN, ReasoningParser
from adapter_kit.tool_calls import Grammar, Part, ToolCallParser, grammar_of, tool_call_parser
from orchestrator.config.settings import PoolSettings
from orchestrator.pools.tool_choice import must_call, only_tool

_USUAL: Grammar = "hermes"


def reader_for(
    task: TaskRequest, fitted: TaskRequest, settings: PoolSettings, template: Template | None
) -> AnswerReader | None:
    """Return what reads the answer to a task that a model gets as `fitted`; `None` where that is all text."""
    if task.messages is None:
        return None
    thoughts = None
    if settings.reasoning_parser == "think":
        thoughts = ReasoningParser(begun=fitted.prompt is not None and fitted.prompt.rstrip().endswith(BEGIN))
    calls = None
    if fitted.messages is None and task.tools and task.tool_choice != "none":
        calls = _calls(task, settings, template)
    return None if thoughts is None and calls is None else AnswerReader(calls, thoughts)


def _calls(task: TaskRequest, settings: PoolSettings, template: Template | None) -> ToolCallParser | None:
    names = [tool.name for tool in task.tools]
    if must_call(task):
        tool = only_tool(task)
        return tool_call_parser("mistral", names) if tool is None else _ArgumentsOnly(tool.name)
    if settings.tool_parser == "none":
        return None
    if settings.tool_parser == "auto":
        return tool_call_parser(_told("" if template is None else template.text), names)
    return tool_call_parser(settings.tool_parser, names)


@lru_cache(maxsize=64)
def _told(template: str) -> Grammar:
    return grammar_of(template) or _USUAL


class AnswerReader:
    """Reads one answer, batch by batch."""

    def __init__(self, calls: ToolCallParser | None, thoughts: ReasoningParser | None) -> None:
        self._calls = calls
        self._thoughts = thoughts
        self._tokens = self._thought = self._first_call = 0
        self._held: list[Token] = []
        """Tokens of which nothing was given on yet."""

    def read(self, batch: list[TokenEvent]) -> list[TokenEvent]:
        """Return the events that may be shown now; there may be none."""
        out: list[TokenEvent] = []
        for event in batch:
            if isinstance(event, Token):
                self._token(event, out)
            elif isinstance(event, Reasoning):
                out.append(msgspec.structs.replace(event, index=self._thought))
                self._thought += 1
            elif isinstance(event, ToolCallDelta):
                self._engines_call(event, out)
            elif isinstance(event, End):
                self._finish(out)
                out.append(self._ended(event))
            elif isinstance(event, Error):
                if self._tokens or self._thought or (self._calls is not None and self._calls.calls):
                    self._finish(out)  # else the task may go on elsewhere, for nothing of it was seen
                out.append(event)
            else:
                assert isinstance(event, Started | Metrics)
                out.append(event)
        return out

    def _token(self, token: Token, out: list[TokenEvent]) -> None:
        self._held.append(token)
        thoughts, text = ("", token.text) if self._thoughts is None else self._thoughts.feed(token.text)
        parts = self._parts_of(text)
        if not thoughts and parts == ["".join(each.text for each in self._held)]:
            for each in self._held:  # as the engine cut them, with all that it says of each
                out.append(msgspec.structs.replace(each, index=self._tokens))
                self._tokens += 1
            self._held.clear()
            return
        self._say(thoughts, parts, out)

    def _parts_of(self, text: str) -> list[Part]:
        if not text:
            return []
        return [text] if self._calls is None else self._calls.feed(text)

    def _say(self, thoughts: str, parts: list[Part], out: list[TokenEvent]) -> None:
        if thoughts:
            out.append(Reasoning(index=self._thought, text=thoughts))
            self._thought += 1
        for part in parts:
            if isinstance(part, str):
                out.append(Token(index=self._tokens, text=part))
                self._tokens += 1
            elif part.name is not None and part.id is None:  # here, for shadows look at it before the guard does
                out.append(msgspec.structs.replace(part, id=f"call_{uuid4().hex[:24]}"))
            else:
                out.append(part)
        if thoughts or parts:
            self._held.clear()

    def _engines_call(self, piece: ToolCallDelta, out: list[TokenEvent]) -> None:
        """Pass on a call that the engine tells apart itself; what it calls text is text then."""
        if self._calls is not None:
            self._first_call = self._calls.calls
            self._finish(out)
            self._calls = None
        out.append(msgspec.structs.replace(piece, call=piece.call + self._first_call) if self._first_call else piece)

    def _finish(self, out: list[TokenEvent]) -> None:
        thoughts, text = ("", "") if self._thoughts is None else self._thoughts.finish()
        parts = self._parts_of(text)
        if self._calls is not None:
            parts += self._calls.finish()
        self._say(thoughts, parts, out)

    def _ended(self, end: End) -> End:
        calls = self._calls
        if calls is not None and calls.calls and not calls.open and end.finish_reason in ("stop", "unknown"):
            return msgspec.structs.replace(end, finish_reason="tool_calls")
        return end


class _ArgumentsOnly:
    """A `ToolCallParser` of an answer that is nothing but the arguments of one call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.calls = 0
        self.open = False

    def feed(self, text: str) -> list[Part]:
        name = None if self.calls else self._name
        self.calls, self.open = 1, True
        return [ToolCallDelta(call=0, name=name, arguments=text)]

    def finish(self) -> list[Part]:
        self.open = False
        return []

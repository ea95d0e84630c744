"""From the text of a model to its answer: the tool calls and the thoughts in it become events of their own.

That is for messages which were made a prompt here: then the model's calls are part of its text. What an engine tells
apart itself is passed on as it is.

    given = as_one_text(task, template.render(task))   # what the model gets
    reader = reader_for(task, given.prompt, calls="auto", thoughts="think", template=template)
    for batch in stream:
        show(batch if reader is None else reader.read(batch))
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any
from uuid import uuid4

import msgspec
from pydantic import AfterValidator

from adapter_api import (
    End,
    Error,
    Metrics,
    PromptLogprobs,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
)
from adapter_kit.chat_template import Template
from adapter_kit.reasoning import ReasoningParser
from adapter_kit.thoughts import THOUGHTS_BY_NAME, Thoughts
from adapter_kit.told_apart import calls_told, thoughts_by
from adapter_kit.tool_calls import BY_NAME, Part, ToolCallParser, tool_call_parser
from adapter_kit.tool_choice import format_of_calls, must_call, only_tool

_NO_NAME = ("auto", "none")


def _calls_by(name: str) -> str:
    return _one_of(name, BY_NAME)


def _thoughts_by(name: str) -> str:
    return _one_of(name, THOUGHTS_BY_NAME)


def _one_of(name: str, known: Mapping[str, Any]) -> str:
    if name not in known and name not in _NO_NAME:
        raise ValueError(f"must be one of {', '.join((*_NO_NAME, *known))}")
    return name


CallsBy = Annotated[str, AfterValidator(_calls_by)]
"""How a model writes its calls: in a grammar, in that which its template teaches (`auto`), or not to be told apart
(`none`)."""
ThoughtsBy = Annotated[str, AfterValidator(_thoughts_by)]
"""How a model sets off its thoughts: by the marks of a family, by those that its template has (`auto`), or not to be
told apart (`none`)."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def as_one_text(task: TaskRequest, prompt: Any) -> TaskRequest:
    """Return the task as a model of one text gets it: with a prompt in place of its messages and its tools. A tool that
    has to be called is in the format of the answer.

    Args:
        task: With messages.
        prompt: What a template that takes tools, if there are any, made of them.

    Raises:
        InvalidRequest: What has to be called is no tool there is, or the answer is to have another format, too.
    """
    return task.model_copy(
        update={
            "messages": None,
            "prompt": prompt,
            "prompt_images": task.images,
            "response_format": format_of_calls(task) if must_call(task) else task.response_format,
            # These are in the prompt now.
            "tools": (),
            "tool_choice": None,
            "chat_template_kwargs": _NOTHING,
            "continue_final_message": False,
            "add_generation_prompt": None,
        }
    )


def reader_for(
    task: TaskRequest, prompt: str | None, *, calls: CallsBy, thoughts: ThoughtsBy, template: Template | None = None
) -> AnswerReader | None:
    """Return what reads the answer to a task; `None` where that is all text.

    Args:
        task: As it came.
        prompt: What was made of its messages; `None` where the model gets messages, and tells its calls apart itself.
        calls: How the model writes its calls.
        thoughts: And its thoughts.
        template: The chat template that made the prompt, for `auto`.
    """
    if task.messages is None:
        return None
    thinking = None
    how = thoughts_by(thoughts, template)
    if how is not None:
        thinking = ReasoningParser(begun=prompt is not None and _has_begun(task, prompt, how), how=how)
    calling = None
    if prompt is not None and task.tools and task.tool_choice != "none":
        calling = _calls(task, calls, template)
    return None if thinking is None and calling is None else AnswerReader(calling, thinking)


def _calls(task: TaskRequest, calls: CallsBy, template: Template | None) -> ToolCallParser | None:
    tools = {tool.name: tool.parameters for tool in task.tools}
    if must_call(task):
        tool = only_tool(task)
        return tool_call_parser("mistral", tools) if tool is None else _ArgumentsOnly(tool.name)
    name = calls_told(calls, template).name
    return None if name is None else tool_call_parser(name, tools)


def _has_begun(task: TaskRequest, prompt: str, how: Thoughts) -> bool:
    """Whether the prompt ends with the first mark, or a message that is continued breaks off within its thoughts."""
    said = task.messages[-1].text if task.continue_final_message and task.messages else ""
    return prompt.rstrip().endswith(tuple(mark.rstrip() for mark in how.begin)) or (
        max(map(said.rfind, how.begin)) > max(map(said.rfind, how.end))
    )


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
                assert isinstance(event, Started | TokenIds | PromptLogprobs | Metrics)
                out.append(event)
        return out

    def _token(self, token: Token, out: list[TokenEvent]) -> None:
        self._held.append(token)
        thoughts, text = ("", token.text) if self._thoughts is None else self._thoughts.feed(token.text)
        parts = self._parts_of(text)
        if not thoughts and self._is_all_held(parts):
            for each in self._held:  # as the engine cut them, with all that it says of each
                out.append(msgspec.structs.replace(each, index=self._tokens))
                self._tokens += 1
            self._held.clear()
            return
        self._say(thoughts, parts, out)

    def _is_all_held(self, parts: list[Part]) -> bool:
        # Looked at only when something is given back: what a parser holds back may be thousands of tokens.
        return len(parts) == 1 and parts[0] == "".join(each.text for each in self._held)

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

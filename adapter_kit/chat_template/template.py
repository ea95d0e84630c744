"""A chat template, and the prompt that it makes of a task."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from adapter_api import ConfigurationError, InvalidRequest, Message, TaskRequest, Unsupported
from adapter_kit.chat_template.bounds import Meter, TakesLong, TooMuch
from adapter_kit.chat_template.plain import PlainLayout
from adapter_kit.chat_template.values import marked, plain, value_of, value_of_tool
from adapter_kit.foreign_text import one_line
from adapter_kit.installing import install

if TYPE_CHECKING:
    import jinja2

    from adapter_kit.chat_template.analysis import Expected

RESERVED = frozenset({"messages", "tools", "raise_exception", "strftime_now"})
"""Variables that are no setting's and no task's to choose."""
_SHORTEST_PHRASE = 8
_MARK = "(here the last message goes on)"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Template(Protocol):
    """Makes one prompt of messages: a `ChatTemplate`, or the `PlainLayout`."""

    @property
    def takes_tools(self) -> bool:
        """Whether it has a place for tools."""
        ...

    @property
    def takes_variables(self) -> bool:
        """Whether a task may bring `chat_template_kwargs`."""
        ...

    @property
    def text(self) -> str:
        """The template itself, that for tools where there are two; empty where there is none to read."""
        ...

    def render(self, task: TaskRequest) -> str:
        """Return the prompt; raises `InvalidRequest` or `Unsupported` when the messages cannot be one.

        May run in a thread beside the event loop (`beside.py`).
        """
        ...


def prompt_of(task: TaskRequest, template: Template | None = None) -> str:
    """Return the task's own prompt, or its messages as one; `task.images` then go beside it, in their order.

    Args:
        task: The task.
        template: Renders the messages; the plain layout when absent.

    Raises:
        InvalidRequest: The template refuses the messages.
        Unsupported: They have something that it has no place for.
    """
    return task.prompt if task.prompt is not None else (template or _PLAIN).render(task)


_PLAIN = PlainLayout()


class ChatTemplate:
    """Renders messages by a template in jinja2, as models bring it. Safe for use by several threads.

    Args:
        source: The template.
        tool_use: Another one, for tasks that have tools.
        variables: What the template finds beside the messages: special tokens as `bos_token`, and what settings say.

    Raises:
        ConfigurationError: It is no template that could ever be run; or jinja2 is not installed.
    """

    takes_variables = True

    def __init__(self, source: str, *, tool_use: str | None = None, variables: Mapping[str, Any] = _NOTHING) -> None:
        if taken := sorted(RESERVED & variables.keys()):
            raise ConfigurationError(f"a chat template's {taken[0]!r} is not for settings to choose")
        self._variables = {"bos_token": "", "eos_token": "", "add_generation_prompt": True, **plain(variables)}
        self.text = source if tool_use is None else tool_use
        self._default = _Compiled(source)
        self._tool_use = None if tool_use is None else _Compiled(tool_use)

    @property
    def takes_tools(self) -> bool:
        return "tools" in (self._tool_use or self._default).expected.variables

    def render(self, task: TaskRequest) -> str:
        """Return the prompt that `task.messages` make, with a mark of the model's in each image's place.

        Raises:
            InvalidRequest: The template refuses the messages, or comes to no end with them. The message has the
                template's own words, and nothing of the task's.
            Unsupported: It has no place for tools, tool calls or images that the task has.
        """
        model, messages = task.model, task.messages or ()
        tools = self._tools_of(task)
        if taken := sorted((RESERVED | {"chat_template"}) & task.chat_template_kwargs.keys()):
            raise InvalidRequest(f"chat_template_kwargs: {taken[0]!r} is not for a task to choose")
        compiled = self._tool_use if tools and self._tool_use is not None else self._default
        if not compiled.expected.tool_calls and any(message.tool_calls for message in messages):
            raise Unsupported(f"the chat template of model {model!r} has no place for messages with tool_calls")
        variables = {**self._variables, **plain(task.chat_template_kwargs), "tools": tools}
        if task.continue_final_message or task.add_generation_prompt is not None:
            variables["add_generation_prompt"] = bool(task.add_generation_prompt)
        mark = _mark_for(messages[-1]) if task.continue_final_message else ""
        shown = messages if not mark else (*messages[:-1], marked(messages[-1], mark))
        values = variables | {"messages": [value_of(message, compiled.expected) for message in shown]}
        try:
            prompt = compiled.render(model, values)
        except InvalidRequest as exc:
            if not isinstance(exc.__cause__, TypeError) or not any(message.tool_calls for message in messages):
                raise
            # Some add the arguments of a call to a text, where most have `tojson` make one of them.
            as_texts = [value_of(message, compiled.expected, arguments_as_text=True) for message in shown]
            values["messages"] = as_texts
            prompt = compiled.render(model, values)
        if not prompt:
            raise InvalidRequest(f"the chat template of model {model!r} makes nothing of these messages")
        if task.images and not compiled.places_images(shown, values, prompt):
            raise Unsupported(f"the chat template of model {model!r} has no place for images, or not in these messages")
        return prompt if not mark else _open_end(prompt, mark, messages[-1], model)

    def _tools_of(self, task: TaskRequest) -> list[dict[str, Any]] | None:
        if task.tool_choice == "none" or (not task.tools and task.tool_choice in (None, "auto")):
            return None
        if task.tool_choice not in (None, "auto"):
            raise Unsupported(f"a chat template cannot make model {task.model!r} call a tool: leave `tool_choice` out")
        if not self.takes_tools:
            raise Unsupported(f"the chat template of model {task.model!r} has no place for `tools`")
        return [value_of_tool(tool) for tool in task.tools]


def _mark_for(message: Message) -> str:
    """Return what is put behind the text that is continued, to find its end again in the prompt. The blank at its end
    shows whether the template strips its messages."""
    mark = _MARK
    while mark in message.text:
        mark += "x"
    return mark + " "


def _open_end(prompt: str, mark: str, last: Message, model: str) -> str:
    """Return the prompt up to where the text of its last message ends: what the template writes behind it is its end of
    a turn, or the beginning of the next.

    Raises:
        InvalidRequest: The template does not show that message as it is.
    """
    at = prompt.rfind(mark.rstrip())
    head = prompt[: max(at, 0)]
    if not prompt.startswith(mark, at):
        head = head.rstrip()
    if at < 0 or not head.rstrip().endswith(last.last_text.strip()):
        raise InvalidRequest(
            f"the chat template of model {model!r} does not show the last message as it is, so that "
            "'continue_final_message' cannot go on from it"
        )
    return head


class _Compiled:
    """One template, ready to run."""

    expected: Expected

    def __init__(self, source: str) -> None:
        try:
            from adapter_kit.chat_template import analysis, sandbox
        except ImportError as exc:
            raise ConfigurationError(
                f"a chat template needs jinja2, which is not installed: run `{install('jinja2>=3.1,<4')}`"
            ) from exc
        self._sandbox = sandbox
        try:
            tree = sandbox.parse(source)
            self.expected = analysis.expected_by(tree)
            lines = list(analysis.other_files(tree))
            self._template: jinja2.Template = sandbox.compile_template(tree)
        except Exception as exc:  # jinja2 finds most faults itself, and leaves others to Python's own compiler
            raise ConfigurationError(
                f"the chat template is not valid jinja2: {_fault(exc, sandbox.line_of(exc))}"
            ) from exc
        if lines:
            raise ConfigurationError(
                f"the chat template wants another file in line {lines[0]}, and there is only this one"
            )

    def render(self, model: str, values: Mapping[str, Any]) -> str:
        """Return the prompt; raises `InvalidRequest` with words that quote no message."""
        sandbox = self._sandbox
        refused = f"the chat template of model {model!r} does not take these messages"
        try:
            prompt: str = sandbox.run(self._template, values, Meter())
            prompt.encode()
            return prompt
        except TakesLong:
            raise
        except sandbox.Refused as exc:
            if words := self._own_words(str(exc)):
                refused = f"the chat template of model {model!r} refuses these messages: {words}"
            raise InvalidRequest(refused) from exc
        except TooMuch as exc:
            raise InvalidRequest(f"{refused}: {exc}") from exc
        except Exception as exc:  # a template is a stranger's program: whatever it does to these messages
            raise InvalidRequest(refused) from exc

    def places_images(self, messages: tuple[Message, ...], values: Mapping[str, Any], prompt: str) -> bool:
        """Return whether the prompt has a place for every image: it is another one without any of them.

        Raises:
            InvalidRequest: It takes too long to find out.
        """
        if not self.expected.parts:
            return False
        sandbox = self._sandbox
        meter = Meter(renders=8)
        for index, message in enumerate(messages):
            for image in range(len(message.images)):
                without = [*values["messages"]]
                without[index] = value_of(message, self.expected, without_image=image)
                try:
                    if sandbox.run(self._template, {**values, "messages": without}, meter) == prompt:
                        return False
                except TooMuch as exc:
                    raise InvalidRequest("these are too many images, or too much text beside them") from exc
                except TakesLong:
                    raise
                except Exception:  # so it was needed
                    continue
        return True

    def _own_words(self, said: str) -> str:
        """Return the words of a refusal as far as they stand in the template itself: the rest may quote a message."""
        if said in self.expected.phrases:
            return one_line(said)
        beginnings = [each for each in self.expected.phrases if len(each) >= _SHORTEST_PHRASE and said.startswith(each)]
        return one_line(max(beginnings, key=len)) + " …" if beginnings else ""


def _fault(exc: Exception, line: int | None) -> str:
    if isinstance(exc, RecursionError):
        return "it is nested too deep"
    said = one_line(str(exc).splitlines()[0] if str(exc) else type(exc).__name__)
    return f"line {line}: {said}" if line is not None else said

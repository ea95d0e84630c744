"""The prompt of a task: its own, or its messages rendered for a model that takes one text."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from adapter_api import ConfigurationError, InvalidRequest, Message, TaskRequest, Unsupported


def prompt_of(task: TaskRequest, chat_template: str | None = None) -> str:
    """Return the task's prompt, or its messages as one text.

    Without a `chat_template` (jinja2, as in a tokenizer's configuration) each message is one `role: text` block, blocks
    are set apart by an empty line, and `assistant:` at the end invites the answer:

        system: Be brief.

        user: Hello

        assistant:

    Raises:
        Unsupported: The messages hold tool calls and there is no template to render them.
        InvalidRequest: The template refuses the messages.
        ConfigurationError: The template is broken, or jinja2 is not installed.
    """
    if task.prompt is not None:
        return task.prompt
    messages = task.messages or ()
    if chat_template is not None:
        return _render(chat_template, messages)
    if any(message.tool_calls for message in messages):
        raise Unsupported(
            f"model {task.model!r} takes one text, and messages with tool_calls need a chat_template to become one"
        )
    return "\n\n".join([*(f"{message.role}: {message.text}" for message in messages), "assistant:"])


def _render(template: str, messages: tuple[Message, ...]) -> str:
    render, refused, broken = _compiled(template)
    try:
        return str(render(messages=[_as_dict(message) for message in messages], add_generation_prompt=True))
    except refused as exc:
        raise InvalidRequest(f"the model's chat_template refuses these messages: {exc}") from exc
    except broken as exc:
        raise ConfigurationError(f"the chat_template of the model fails with {type(exc).__name__}") from exc


def _as_dict(message: Message) -> dict[str, Any]:
    fields = message.model_dump(exclude_none=True, exclude_defaults=True)
    if not isinstance(message.content, str):
        # Templates look at the types of the parts, and put the model's own marks where the images are.
        fields["content"] = [
            {"type": "text", "text": part.text} if part.type == "text" else {"type": "image"}
            for part in message.content
        ]
    return fields | {"role": message.role}


@lru_cache(maxsize=32)
def _compiled(template: str) -> tuple[Any, type[Exception], type[Exception]]:
    try:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as exc:
        raise ConfigurationError(
            "a chat_template needs jinja2; install it with `pip install 'worker-adapter[server]'`"
        ) from exc

    class Refused(Exception):
        """Raised by the template itself."""

    def refuse(reason: str) -> None:
        raise Refused(reason)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(raise_exception=refuse, bos_token="", eos_token="")
    try:
        return environment.from_string(template).render, Refused, TemplateError
    except TemplateError as exc:
        raise ConfigurationError(f"the chat_template is no valid jinja2: {exc}") from exc

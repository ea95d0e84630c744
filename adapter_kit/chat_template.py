"""Messages as one prompt, for models that take only text, or that their pool has a template for.

A template is jinja2 as in a model's `tokenizer_config.json`, run in a sandbox: it comes with a model, from strangers.
Without one a plain layout is used, a line `role: text` per message and `assistant:` at the end.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from adapter_api import ConfigurationError, InvalidRequest, Message, TaskRequest, ToolCall, Unsupported

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


class ChatTemplate:
    """Renders messages; make one with `plain` or `from_file`."""

    def __init__(self, source: str, tokens: dict[str, str] | None = None) -> None:
        # What templates are written for: https://huggingface.co/docs/transformers/chat_templating_writing
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
        environment.filters["tojson"] = _to_json
        self._tokens = tokens or {}
        try:
            self._template = environment.from_string(source)
        except TemplateError as exc:
            raise ConfigurationError(f"the chat template is not valid jinja2: {exc}") from exc

    @classmethod
    def plain(cls) -> ChatTemplate:
        return cls(PLAIN)

    @classmethod
    def of(cls, path: Path | None) -> ChatTemplate:
        """Return the template in a file, or the plain one where none is named; raises as `from_file` does."""
        return cls.plain() if path is None else cls.from_file(path)

    @classmethod
    def from_file(cls, path: Path) -> ChatTemplate:
        """Return the template of a `tokenizer_config.json`, or of a file that is itself one.

        Raises:
            ConfigurationError: The file cannot be read, or has no template.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"cannot read the chat template {path}: {exc}") from exc
        if path.suffix != ".json":
            return cls(text)
        try:
            config = json.loads(text)
        except ValueError as exc:
            raise ConfigurationError(f"{path} is not JSON: {exc}") from exc
        source = config.get("chat_template") if isinstance(config, dict) else None
        if isinstance(source, list):  # several by name, as newer tokenizers have them
            source = next((each.get("template") for each in source if each.get("name") == "default"), None)
        if not isinstance(source, str):
            raise ConfigurationError(f"{path} has no chat_template")
        return cls(source, {name: _content(config.get(name)) for name in ("bos_token", "eos_token")})

    def render(self, task: TaskRequest) -> str:
        """Return the prompt that `task.messages` make.

        Raises:
            Unsupported: There is an image among them.
            InvalidRequest: The template refuses them.
        """
        if task.images:
            raise Unsupported(f"model {task.model!r} takes text only, and the messages have an image")
        messages = [_plain(message) for message in task.messages or ()]
        tools = [_tool(tool) for tool in task.tools] or None
        try:
            return self._template.render(messages=messages, tools=tools, add_generation_prompt=True, **self._tokens)
        except Exception as exc:  # a template is a stranger's program: whatever it does to these messages
            # Its own words may quote a message.
            raise InvalidRequest(f"the chat template of model {task.model!r} does not take these messages") from exc


def _plain(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        fields["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        fields["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        fields["name"] = message.name
    return fields


def _arguments(call: ToolCall) -> Any:
    """Templates write arguments out with `tojson`: what is a JSON text already would be quoted."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As templates expect it; jinja2's own escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _tool(tool: Any) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _content(token: Any) -> str:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _raise(message: str) -> None:
    raise TemplateError(message)

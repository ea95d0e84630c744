"""A tool that has to be called, of a model that takes one text: what its answer must look like. No I/O."""

from __future__ import annotations

from typing import Any

from adapter_api import InvalidRequest, ResponseFormat, TaskRequest, Tool
from adapter_kit.chat_template import plain
from adapter_kit.json_schema import why_no_schema


def must_call(task: TaskRequest) -> bool:
    """Whether `tool_choice` leaves the model no choice but to call a tool."""
    return task.tool_choice not in (None, "auto", "none")


def only_tool(task: TaskRequest) -> Tool | None:
    """Return the one tool that has to be called; `None` where the model chooses among several."""
    if task.tool_choice == "required" and len(task.tools) != 1:
        return None
    return next((tool for tool in task.tools if task.tool_choice in ("required", tool.name)), None)


def format_of_calls(task: TaskRequest) -> ResponseFormat:
    """Return the format of an answer that calls as `tool_choice` has it: the arguments of the `only_tool`, or a list of
    objects with `name` and `arguments`.

    Raises:
        InvalidRequest: There is no such tool, or its parameters are no JSON Schema; or the answer is to have another
            format, too.
    """
    if not task.tools:
        raise InvalidRequest("'tool_choice' chooses among 'tools', and there are none")
    if task.response_format is not None:
        raise InvalidRequest("'response_format' and a 'tool_choice' that has a tool called exclude each other")
    if (tool := only_tool(task)) is not None:
        return _format(_parameters(tool))
    if task.tool_choice != "required":
        raise InvalidRequest("'tool_choice' names a tool that is not among 'tools'")
    definitions: dict[str, Any] = {}
    calls = []
    for tool in task.tools:
        schema = _parameters(tool)
        # References start at the root of the whole schema, so that definitions have to be there.
        for name, definition in schema.pop("$defs", {}).items():
            if definitions.setdefault(name, definition) != definition:
                raise InvalidRequest(
                    f"two tools define {name[:64]!r} in '$defs' differently, which 'tool_choice': 'required' cannot "
                    "join; name one tool, or call the definitions differently"
                )
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"enum": [tool.name]}, "arguments": schema},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    schema = {"type": "array", "minItems": 1, "items": {"anyOf": calls}}
    return _format(schema | ({"$defs": definitions} if definitions else {}))


def _format(schema: dict[str, Any]) -> ResponseFormat:
    return ResponseFormat(type="json_schema", json_schema=schema)


def _parameters(tool: Tool) -> dict[str, Any]:
    """Return the schema of a tool's arguments, which are an object whatever else it says."""
    schema = {"type": "object", **plain(tool.parameters)}
    if (fault := why_no_schema(schema)) is not None:
        raise InvalidRequest(f"'tools': the parameters of {tool.name[:64]!r} are no JSON Schema: {fault}")
    return schema

"""The demo model that calls tools, without a server: what it writes after the prompts of its own template."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_api import TaskRequest
from adapter_kit.chat_template import prompt_of, read_chat_template
from adapter_kit.told_apart import calls_told
from triton_adapter.embedded import demo_repository
from triton_adapter.embedded.model_code.tiny.calling import answer

TEMPLATE = read_chat_template(demo_repository() / "tinytools")


def tool(name: str, description: str, **properties: str) -> dict[str, Any]:
    kinds = {each: {"type": kind} for each, kind in properties.items()}
    return {"name": name, "description": description, "parameters": {"type": "object", "properties": kinds}}


TOOLS = [
    tool("get_weather", "Tell the weather in a town", town="string"),
    tool("add", "Add two numbers", a="integer", b="number"),
]


def said(question: str, *more: dict[str, Any], tools: list[dict[str, Any]] | None = TOOLS) -> str | None:
    messages = [{"role": "user", "content": question}, *more]
    task = TaskRequest.parse({"model": "tinytools", "messages": messages, "tools": tools or []})
    return answer(prompt_of(task, TEMPLATE))


@pytest.mark.parametrize(
    "question, name, arguments",
    [
        ("What is the weather in Oslo?", "get_weather", {"town": "Oslo"}),
        ("What will the weather be in New York tomorrow?", "get_weather", {"town": "New York"}),
        ("the weather for oslo.", "get_weather", {"town": "oslo"}),
        ("Add 2 and 2.5", "add", {"a": 2, "b": 2.5}),
        ("adding numbers, what comes of -7?", "add", {"a": -7, "b": 0}),
    ],
)
def test_it_calls_the_tool_that_the_question_is_about(question: str, name: str, arguments: dict[str, Any]) -> None:
    text = said(question)

    assert text is not None
    call = text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    assert json.loads(call) == {"name": name, "arguments": arguments}


def test_it_tells_what_a_tool_answered() -> None:
    call = {"id": "c", "name": "add", "arguments": '{"a": 2, "b": 3}'}
    turns: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "5"},
    ]

    assert said("Add 2 and 3", *turns) == "The answer is 5."


def test_it_says_so_where_no_tool_fits_and_leaves_a_chat_without_tools_to_the_language_model() -> None:
    assert said("Who are you?") == "None of my tools is for this: Who are you?"
    assert said("Add 2 and 3", tools=None) is None


def test_how_it_writes_calls_is_told_from_its_template() -> None:
    assert calls_told("auto", TEMPLATE).name == "hermes"

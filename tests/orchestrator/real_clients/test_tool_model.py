"""The model that others' clients talk to: it computes its calls from what it is asked, in any grammar."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_api import TaskRequest
from adapter_kit.chat_template import ChatTemplate
from adapter_kit.reasoning import ReasoningParser
from adapter_kit.told_apart import thoughts_by
from adapter_kit.tool_calls import found_in, tool_call_parser
from tests.orchestrator.real_clients.shop import GRAMMARS, HERE
from tests.orchestrator.real_clients.tool_model.answer import answer
from tests.orchestrator.real_clients.tool_model.layouts import CALLS, template_of

NUMBER, TEXT = {"type": "number"}, {"type": "string"}


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": description, "parameters": parameters}


UNITS = {"type": "string", "enum": ["celsius", "fahrenheit"]}
TOOLS = [
    tool("calculator", "Evaluate an arithmetic expression.", expression=TEXT),
    tool("get_weather", "Get the current weather in a city", city=TEXT),
    tool("get_price", "Look up the price of an item in the shop.", item=TEXT),
    tool("multiply", "Multiply two numbers.", a=NUMBER, b=NUMBER),
]


class Agent:
    """Goes on with the model until it needs no tool."""

    def __init__(self, grammar: str, tools: list[dict[str, Any]]) -> None:
        path = HERE / "templates" / f"{grammar}.jinja"
        self._template = ChatTemplate(path.read_text() if path.exists() else template_of(grammar))
        found = found_in(self._template).grammar
        assert found == grammar
        self._grammar = found
        self._tools = tools

    def ask(self, question: str, **results: Any) -> tuple[list[tuple[str, Any]], str]:
        """Return what was called, in order, and the answer; `results` are what the tools say."""
        messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
        called: list[tuple[str, Any]] = []
        for _ in range(5):
            said, calls = self._turn(messages)
            if not calls:
                return called, said
            called += [(name, json.loads(arguments)) for name, arguments in calls]
            named = [{"id": f"call_{len(messages)}_{at}", "name": n, "arguments": a} for at, (n, a) in enumerate(calls)]
            messages.append({"role": "assistant", "content": said or None, "tool_calls": named})
            messages += [
                {"role": "tool", "tool_call_id": each["id"], "content": str(results[each["name"]])} for each in named
            ]
        raise AssertionError(f"it does not come to an end: {called}")

    def _turn(self, messages: list[dict[str, Any]]) -> tuple[str, list[tuple[str, str]]]:
        task = TaskRequest.parse({"model": "m", "messages": messages, "tools": self._tools})
        parser = tool_call_parser(self._grammar, {each["name"]: each["parameters"] for each in self._tools})
        how = thoughts_by("auto", self._template)
        said = answer(self._template.render(task))
        _, said = (said, said) if how is None else ReasoningParser(how=how).feed(said)
        parts = [*parser.feed(said), *parser.finish()]
        calls: dict[int, list[str]] = {}
        for part in parts:
            if not isinstance(part, str):
                calls.setdefault(part.call, [part.name or "", ""])[1] += part.arguments
        return "".join(part for part in parts if isinstance(part, str)), [(n, a) for n, a in calls.values()]


@pytest.mark.spec("ORCH-3073-004", "ORCH-3073-006")
@pytest.mark.parametrize("grammar", [*GRAMMARS, *CALLS])
def test_two_steps_are_taken_one_after_the_other(grammar: str) -> None:
    called, said = Agent(grammar, TOOLS).ask(
        "Look up the price of a lamp, then multiply it by 3.", get_price=12.5, multiply=37.5
    )

    assert called == [("get_price", {"item": "lamp"}), ("multiply", {"a": 12.5, "b": 3})]
    assert said == "The answer is 37.5."


no_result: Any = {"calculator": 1, "multiply": 1, "get_weather": "sunny", "get_price": 2}


@pytest.mark.spec("ORCH-3073-004")
@pytest.mark.parametrize("question, calls", [
    ("what is 17*23? use the calculator", [("calculator", {"expression": "17*23"})]),
    ("Please use the calculator to find 3+4", [("calculator", {"expression": "3+4"})]),
    ("What is 6 times 7?", [("multiply", {"a": 6, "b": 7})]),
    ("What's the weather in Paris?", [("get_weather", {"city": "Paris"})]),
    ("What is the weather in Paris and Rome?", [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]),
    ("How much does a 'red chair' cost?", [("get_price", {"item": "red chair"})]),
    ("Tell me a joke", []),
])  # fmt: skip
def test_calls_are_made_of_what_is_asked(question: str, calls: list[Any]) -> None:
    called, _ = Agent("hermes", TOOLS).ask(question, **no_result)

    assert called == calls


@pytest.mark.spec("ORCH-3073-004")
def test_names_and_arguments_are_those_of_the_tools_that_are_shown() -> None:
    tools = [
        tool("add_numbers", "Adds", first=NUMBER, second=NUMBER),
        tool("forecast", "The weather forecast for a place", place=TEXT, unit=UNITS),
    ]

    sums, _ = Agent("hermes", tools).ask("Please add 20 and 22", add_numbers=42, forecast="")
    weather, _ = Agent("hermes", tools).ask("What is the weather in Rome in fahrenheit?", add_numbers=0, forecast="hot")

    assert sums == [("add_numbers", {"first": 20, "second": 22})]
    assert weather == [("forecast", {"place": "Rome", "unit": "fahrenheit"})]

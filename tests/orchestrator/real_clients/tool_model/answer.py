"""What the model writes after a prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .filling import Filler
from .layouts import SIGNS
from .planning import Step, is_final, score, stems, steps_of
from .prompts import Prompt, Tool, read
from .writing import ONE_AT_A_TIME, written


def answer(text: str, schema: Any = None) -> str:
    """Return what comes after a prompt, with the thoughts that it asks for."""
    said = _answer(text, schema)
    if text.rstrip().endswith("<think>"):
        return f"I have to look.\n</think>\n\n{said}"
    if schema is None and SIGNS["openai"] in text:
        final = said if said.startswith("<|") else f"<|start|>assistant<|channel|>final<|message|>{said}<|return|>"
        return f"<|channel|>analysis<|message|>I have to look.<|end|>{final}"
    return said


def _answer(text: str, schema: Any) -> str:
    """Return the answer itself.

    Args:
        text: The whole prompt.
        schema: The JSON Schema that the answer has to keep; `{}` for any JSON object.
    """
    prompt = read(text)
    steps = steps_of(prompt.question, prompt.tools)
    last = prompt.results[-1] if prompt.results else None
    if schema is not None:
        return json.dumps(_by_schema(schema, prompt, steps, last), ensure_ascii=False)
    due = _due(steps, len(prompt.results), prompt.grammar)
    if due:
        calls = [(step.tool.name, _filler(step, last).fill(step.tool.parameters)) for step in due]
        return written(calls, prompt.grammar)
    if prompt.schema is not None and last is None and not prompt.tools:
        return f"```json\n{json.dumps(Filler(prompt.question).fill(prompt.schema), ensure_ascii=False)}\n```"
    said = f"The answer is {last}." if last is not None else _words(prompt.question)
    final = next(filter(is_final, prompt.tools), None)
    if final is None:
        return said
    return written([(final.name, _final(final, prompt, last if last is not None else said))], prompt.grammar)


def _final(tool: Tool, prompt: Prompt, said: str) -> dict[str, Any]:
    """Return the arguments of the call that is the answer."""
    if list(tool.parameters.get("properties") or ()) == ["answer"]:
        return {"answer": said}
    arguments: dict[str, Any] = Filler(said if prompt.results else prompt.question, said).fill(tool.parameters)
    return arguments


def _filler(step: Step, last: str | None) -> Filler:
    return Filler(step.clause, last, stems(f"{step.tool.name.replace('_', ' ')} {step.tool.description}"))


def _due(steps: list[Step], done: int, grammar: str) -> list[Step]:
    """Return the steps that can be taken now: those after which have nothing to do with each other go together."""
    left = steps[done:]
    together = 1
    while together < len(left) and not left[together].needs_last and left[together].tool == left[0].tool:
        together += 1
    return left[: 1 if grammar in ONE_AT_A_TIME else together]


def _by_schema(schema: Any, prompt: Prompt, steps: list[Step], last: str | None) -> Any:
    schema = schema or prompt.schema
    if not isinstance(schema, Mapping):
        return {"answer": last or _words(prompt.question)}
    due = _due(steps, len(prompt.results), "one")
    clause = due[0].clause if due else prompt.question
    calls = schema.get("items", {}).get("anyOf") if schema.get("type") == "array" else None
    if not calls:
        return Filler(clause, last).fill(schema)
    named = {call["properties"]["name"]["enum"][0]: call for call in calls}
    tools = {tool.name: tool for tool in prompt.tools}
    final = next((tool for tool in tools.values() if is_final(tool) and tool.name in named), None)
    if final is not None and not due:
        return [{"name": final.name, "arguments": _final(final, prompt, last or _words(prompt.question))}]
    name = due[0].tool.name if due else max(named, key=lambda name: score(clause, tools[name]) if name in tools else 0)
    return [{"name": name, "arguments": Filler(clause, last).fill(named[name]["properties"]["arguments"], root=schema)}]


def _words(question: str) -> str:
    if counted := re.search(r"\bcount (?:from 1 )?to (\d{1,4})\b", question, re.IGNORECASE):
        return " ".join(map(str, range(1, int(counted[1]) + 1)))
    return f"I have no tool for this: {question}" if question else "I was asked nothing."

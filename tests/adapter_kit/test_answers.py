"""From a model's text to its answer, batch by batch."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from adapter_api import (
    End,
    Error,
    Message,
    Metrics,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    Tool,
    ToolCallDelta,
    gather_tool_calls,
)
from adapter_api.testing import find_violation, reasoning_of, text_of
from adapter_kit.answers import AnswerReader, reader_for
from adapter_kit.chat_template import ChatTemplate

TASK = TaskRequest(model="m", messages=(Message(role="user", content="hi"),), tools=(Tool(name="f"),))
FITTED = TaskRequest(model="m", prompt="hi <think>\n")
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
STARTED = Started(job_id="j", engine="e", model="m")


TEMPLATE = ChatTemplate("{{ tools }}<tool_call>")


def reader(task: TaskRequest = TASK, fitted: TaskRequest = FITTED, **settings: Any) -> AnswerReader:
    ways: Any = {"calls": "auto", "thoughts": "none", "template": TEMPLATE} | settings
    found = reader_for(task, fitted.prompt, **ways)
    assert found is not None
    return found


def read(found: AnswerReader, *events: TokenEvent) -> list[TokenEvent]:
    return [told for event in (STARTED, *events) for told in found.read([event])]


def tokens(text: str, **fields: Any) -> list[TokenEvent]:
    return [Token(index, letter, **fields) for index, letter in enumerate(text)]


@pytest.mark.spec("ORCH-3073-006", "ORCH-3073-008")
def test_thoughts_text_and_calls_come_in_the_models_order_and_lawfully() -> None:
    answer = tokens(f"Hm.</think>Yes. {CALL} So.")
    events = read(reader(thoughts="think"), *answer, Metrics(tokens_out=3), End(finish_reason="stop"))

    assert find_violation(events) is None
    assert reasoning_of(events) == "Hm."
    assert text_of(events) == "Yes.  So."
    [call] = gather_tool_calls(events)
    assert (call.name, call.arguments) == ("f", '{"a": 1}')
    assert events[-1] == End(finish_reason="tool_calls")
    kinds = [type(event) for event in events if not isinstance(event, Started | Metrics | End)]
    assert [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] is not kind] == [
        Reasoning, Token, ToolCallDelta, Token
    ]  # fmt: skip


@pytest.mark.spec("ORCH-3073-006")
def test_text_that_is_no_call_comes_token_by_token_with_all_that_the_engine_said_of_each() -> None:
    answer = tokens("a <b> <tool", token_id=7, logprob=-0.5)
    end = End(finish_reason="stop")
    assert read(reader(), *answer, end) == [STARTED, *answer[:6], Token(6, "<tool"), end]


@pytest.mark.spec("ORCH-3073-006")
def test_calls_that_an_engine_tells_apart_itself_pass_through() -> None:
    theirs: list[TokenEvent] = [
        ToolCallDelta(call=0, id="x", name="g", arguments="{"),
        ToolCallDelta(call=0, arguments="}"),
    ]
    assert read(reader(), *theirs, End(finish_reason="stop")) == [STARTED, *theirs, End(finish_reason="stop")]

    events = read(reader(), *tokens(f"{CALL} <tool"), *theirs, End(finish_reason="tool_calls"))
    assert find_violation(events) is None
    assert [call.name for call in gather_tool_calls(events)] == ["f", "g"]
    assert text_of(events) == " <tool"


@pytest.mark.spec("ORCH-3073-006")
@pytest.mark.parametrize("said, told", [("length", "length"), ("cancelled", "cancelled"), ("unknown", "tool_calls")])
def test_why_an_answer_with_calls_ended_is_told_as_the_engine_said_it(said: Any, told: str) -> None:
    *_, end = read(reader(), *tokens(CALL), End(finish_reason=said))
    assert end == End(finish_reason=told)  # type: ignore[arg-type]
    *_, end = read(reader(), *tokens(CALL[:45]), End(finish_reason="unknown"))
    assert end == End(finish_reason="unknown")


@pytest.mark.spec("ORCH-3073-006")
def test_a_failure_before_anything_was_shown_leaves_nothing_shown() -> None:
    failure = Error(code="engine_failed", message="", retryable=True)
    assert read(reader(), *tokens("<tool_"), failure) == [STARTED, failure]
    events = read(reader(), *tokens("Oh <tool_"), failure)
    assert text_of(events) == "Oh <tool_"
    assert events[-1] == failure


@pytest.mark.spec("ORCH-3073-006")
def test_what_nobody_made_a_prompt_of_is_not_read() -> None:
    text: Any = {"calls": "auto", "thoughts": "none"}
    thinking: Any = {"calls": "auto", "thoughts": "think"}
    plain = TaskRequest(model="m", prompt="hi")
    assert reader_for(TASK, None, **text) is None, "the engine's own affair"
    assert reader_for(plain, plain.prompt, **thinking) is None
    assert reader_for(TASK.model_copy(update={"tools": ()}), FITTED.prompt, **text) is None
    assert reader_for(TASK.model_copy(update={"tool_choice": "none"}), FITTED.prompt, **text) is None
    assert reader_for(TASK, None, **thinking) is not None


@pytest.mark.spec("ORCH-3073-002")
def test_what_is_held_back_costs_the_same_per_token_however_much_it_is() -> None:
    def cost(count: int) -> float:
        found = reader(calls="pythonic")
        batches: list[list[TokenEvent]] = [[token] for token in tokens('[f(a="' + "x" * count)]
        began = process_time()
        for batch in batches:
            assert found.read(batch) == []
        return process_time() - began

    small = min(cost(1000) for _ in range(3))
    assert cost(16_000) < 16 * 4 * small + 0.05

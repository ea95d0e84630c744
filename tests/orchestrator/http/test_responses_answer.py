"""From a task's events to a response's items, whatever order an engine says them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from adapter_api import Alternative, End, FinishReason, Reasoning, Token, TokenEvent, ToolCallDelta, Usage
from orchestrator.http.responses_answer import ResponseAnswer


def read(*events: TokenEvent, logprobs: bool = False) -> tuple[ResponseAnswer, list[tuple[str, Mapping[str, Any]]]]:
    told: list[tuple[str, Mapping[str, Any]]] = []

    def note(kind: str, fields: Mapping[str, Any]) -> None:
        item = fields.get("item")
        told.append((kind, {**fields, **({} if item is None else {"item": dict(item)})}))

    answer = ResponseAnswer({"id": "resp_j"}, "j", logprobs=logprobs, emit=note)
    answer.begin()
    for event in events:
        answer.read(event)
    answer.conclude()
    return answer, told


def call(place: int, name: str | None = None, arguments: str = "") -> ToolCallDelta:
    return ToolCallDelta(call=place, name=name, id=None if name is None else f"call_{place}", arguments=arguments)


@pytest.mark.spec("ORCH-3075-008")
def test_words_in_the_middle_of_a_call_cost_none_of_it() -> None:
    answer, told = read(
        call(0, "f", '{"a"'),
        Token(0, "Well."),
        call(0, None, ": 1}"),
        call(1, "g", "{}"),
        End(finish_reason="tool_calls"),
    )

    assert [(item["type"], item.get("arguments"), item["status"]) for item in answer.items] == [
        ("function_call", '{"a": 1}', "completed"),
        ("message", None, "completed"),
        ("function_call", "{}", "completed"),
    ]
    opened = [fields["output_index"] for kind, fields in told if kind == "response.output_item.added"]
    closed = [fields["output_index"] for kind, fields in told if kind == "response.output_item.done"]
    assert (opened, sorted(closed)) == ([0, 1, 2], [0, 1, 2])
    assert [call.name for call in answer.answered.tool_calls] == ["f", "g"]


@pytest.mark.spec("ORCH-3075-008")
def test_thoughts_and_words_in_turn_are_items_of_their_own() -> None:
    answer, _ = read(
        Reasoning(0, "Hm"), Token(0, "One"), Token(1, " two"), Reasoning(1, "Well"), Token(2, "three"),
        End(finish_reason="stop"),
    )  # fmt: skip

    assert [(item["type"], item["content"][0]["text"]) for item in answer.items] == [
        ("reasoning", "Hm"), ("message", "One two"), ("reasoning", "Well"), ("message", "three"),
    ]  # fmt: skip
    assert answer.answered.content == "One twothree"
    assert len({item["id"] for item in answer.items}) == 4


@pytest.mark.spec("ORCH-3075-008")
def test_an_answer_of_nothing_is_an_empty_message() -> None:
    answer, told = read(End(finish_reason="stop"))

    assert [(item["type"], item["content"][0]["text"]) for item in answer.items] == [("message", "")]
    assert told[-1][0] == "response.completed"
    assert answer.answered.content == ""


@pytest.mark.spec("ORCH-3075-014")
@pytest.mark.parametrize(
    "reason, status, details, last",
    [
        ("stop", "completed", None, "completed"),
        ("tool_calls", "completed", None, "completed"),
        ("unknown", "completed", None, "completed"),
        ("length", "incomplete", {"reason": "max_output_tokens"}, "incomplete"),
        ("content_filter", "incomplete", {"reason": "content_filter"}, "incomplete"),
        ("cancelled", "cancelled", None, "incomplete"),
    ],
)
def test_every_end_has_a_status_that_clients_know(reason: FinishReason, status: str, details: Any, last: str) -> None:
    answer, told = read(call(0, "f", "{"), Token(0, "x"), End(finish_reason=reason))

    assert (answer.status, answer.body["incomplete_details"], told[-1][0]) == (status, details, f"response.{last}")
    cut = "completed" if status == "completed" else "incomplete"
    assert [item["status"] for item in answer.items] == ["completed", cut]


@pytest.mark.spec("ORCH-3075-008")
def test_usage_is_the_engines_and_absent_where_it_counts_nothing() -> None:
    counted, _ = read(
        Reasoning(0, "a"), Reasoning(1, "b"), End(finish_reason="stop", usage=Usage(tokens_in=3, tokens_out=1))
    )
    uncounted, _ = read(End(finish_reason="stop"))

    assert counted.body["usage"]["output_tokens_details"] == {"reasoning_tokens": 1}
    assert counted.body["usage"]["total_tokens"] == 4
    assert uncounted.body["usage"] is None


@pytest.mark.spec("ORCH-3075-009")
def test_log_probabilities_come_with_the_pieces_and_with_the_whole() -> None:
    token = Token(0, "é", logprob=-0.5, alternatives=(Alternative("e", -1.0),))
    answer, told = read(token, End(finish_reason="stop"), logprobs=True)
    scored = {
        "token": "é", "logprob": -0.5, "bytes": [195, 169],
        "top_logprobs": [{"token": "e", "logprob": -1.0, "bytes": [101]}],
    }  # fmt: skip

    assert [fields["logprobs"] for kind, fields in told if kind == "response.output_text.delta"] == [[scored]]
    assert answer.items[0]["content"][0]["logprobs"] == [scored]

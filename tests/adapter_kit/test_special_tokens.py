"""Marks that engines leave out are asked for where that is needed, and known to be taken."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_api import TaskRequest
from adapter_kit.answers import as_one_text
from adapter_kit.special_tokens import keeping_marks

TOOLS: Any = [{"name": "add", "parameters": {"type": "object"}}]


def parameters(*, dialect: str | None = "vllm", calls: str = "lfm2", thoughts: str = "none", **fields: Any) -> Any:
    """Return the parameters of a task with tools as its engine gets them."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "Add."}], "tools": TOOLS, **fields}
    task = TaskRequest.parse(asked)
    kept = keeping_marks(
        task,
        as_one_text(task, "Add."),
        namespace="triton",
        dialect=dialect,
        calls=calls,
        thoughts=thoughts,
        template=None,
    )
    return dict(kept.parameters)


KEPT = {"triton.skip_special_tokens": False}


@pytest.mark.spec("ORCH-3073-019")
@pytest.mark.parametrize("fields", [
    {}, {"tool_choice": "auto"}, {"calls": "openai"}, {"calls": "jamba"}, {"calls": "none", "thoughts": "gemma4"},
    {"tools": [], "thoughts": "openai"},
])  # fmt: skip
def test_marks_that_are_special_tokens_are_asked_for(fields: Any) -> None:
    assert parameters(**fields) == KEPT


@pytest.mark.spec("ORCH-3073-019")
@pytest.mark.parametrize("fields", [
    {"dialect": "trtllm"}, {"dialect": None}, {"calls": "hermes"}, {"calls": "mistral"}, {"calls": "none"},
    {"tools": []}, {"tool_choice": "none"}, {"tool_choice": "required"}, {"thoughts": "think", "calls": "hermes"},
])  # fmt: skip
def test_nothing_is_asked_of_an_engine_that_needs_or_knows_it_not(fields: Any) -> None:
    assert parameters(**fields) == {}


@pytest.mark.spec("ORCH-3073-019")
@pytest.mark.parametrize("said", [True, False])
def test_a_task_that_says_itself_what_it_wants_has_it(said: bool) -> None:
    asked = {"triton.skip_special_tokens": said, "triton.min_p": 0.1}
    assert parameters(parameters=asked) == asked


@pytest.mark.spec("ORCH-3073-019")
def test_a_model_that_renders_its_messages_itself_is_left_alone() -> None:
    task = TaskRequest.parse({"model": "m", "messages": [{"role": "user", "content": "Add."}], "tools": TOOLS})
    for each in (task, as_one_text(task, "Add.")):
        given = keeping_marks(
            each, each, namespace="triton", dialect="vllm", calls="lfm2", thoughts="none", template=None
        )
        assert given is each

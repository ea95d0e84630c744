"""Tasks in token ids, and the ids that a stream tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapter_api import (
    Capability,
    End,
    Error,
    HealthReport,
    HealthState,
    InvalidRequest,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    TokenIds,
    WorkerAdapter,
    decode_event,
    encode_event,
)
from adapter_api.bounds import MAX_PROMPT_TOKENS, MAX_TOKEN_ID
from adapter_api.props import EngineProps
from adapter_api.testing import MockAdapter, MockSettings, collect, find_violation

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I say"}]


@pytest.mark.spec("ORCH-3076-006")
@pytest.mark.parametrize(
    "fields, said",
    [
        ({"prompt": "a", "prompt_token_ids": [1]}, "give one of them"),
        ({"messages": MESSAGES, "prompt_token_ids": [1]}, "give one of them"),
        ({"prompt_token_ids": []}, "the prompt is empty"),
        ({"prompt_token_ids": [-1]}, "prompt_token_ids"),
        ({"prompt_token_ids": [MAX_TOKEN_ID + 1]}, "prompt_token_ids"),
        ({"prompt_token_ids": [True]}, "prompt_token_ids"),
        ({"prompt_token_ids": [1.0]}, "prompt_token_ids"),
        ({"prompt_token_ids": ["1"]}, "prompt_token_ids"),
        ({"prompt_token_ids": [1], "prompt_images": [{"data": "AA=="}]}, "'prompt_images' go with 'prompt'"),
        ({"prompt_token_ids": [1], "continue_final_message": True}, "for the template of 'messages'"),
        ({"prompt": "a", "add_generation_prompt": False}, "for the template of 'messages'"),
    ],
)
def test_a_prompt_that_is_none_is_refused_by_its_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        TaskRequest.parse({"model": "m", **fields})


@pytest.mark.spec("ORCH-3076-006")
def test_more_token_ids_than_may_be_are_refused_before_each_is_looked_at() -> None:
    with pytest.raises(InvalidRequest, match=f"there may be {MAX_PROMPT_TOKENS}"):
        TaskRequest.parse({"model": "m", "prompt_token_ids": ["x"] * (MAX_PROMPT_TOKENS + 1)})


@pytest.mark.spec("ORCH-3076-006")
def test_a_task_in_token_ids_survives_its_json_form() -> None:
    task = TaskRequest.parse({"model": "m", "prompt_token_ids": [0, 5, MAX_TOKEN_ID], "return_token_ids": True})

    assert TaskRequest.parse_json(task.model_dump_json()) == task
    assert task.needs == {Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS}


@pytest.mark.spec("ORCH-3076-011")
@pytest.mark.parametrize(
    "fields, said",
    [
        ({"continue_final_message": True, "add_generation_prompt": True}, "begins one"),
        (
            {"messages": [*MESSAGES, {"role": "assistant", "content": " "}], "continue_final_message": True},
            "end with a text",
        ),
    ],
)
def test_what_cannot_be_continued_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        TaskRequest.parse({"model": "m", "messages": MESSAGES, **fields})


class Old(WorkerAdapter):
    """As adapters were before tasks could be in token ids."""

    engine = "old"
    sent = 0

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        self.sent += 1
        yield Started(job_id=task.job_id, engine="old", model=task.model)
        yield Token(0, f"You said {task.prompt}")
        yield End(finish_reason="stop")

    async def _health(self, *, canary: bool) -> HealthReport:
        return HealthReport(state=HealthState.READY, live=True, ready=True)

    async def _props(self) -> EngineProps:
        return EngineProps(engine="old")


@pytest.mark.spec("ORCH-3076-005")
@pytest.mark.parametrize(
    "fields, named",
    [
        ({"prompt_token_ids": [1, 2]}, "prompt_token_ids"),
        ({"prompt": "a", "return_token_ids": True}, "token_ids"),
        ({"prompt": "a", "prompt_logprobs": 0}, "prompt_logprobs"),
        ({"messages": MESSAGES, "continue_final_message": True}, "continue_final_message"),
        ({"messages": MESSAGES, "add_generation_prompt": False}, "continue_final_message"),
    ],
)
async def test_what_an_older_adapter_would_overlook_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    async with Old() as adapter:
        [error] = await collect(adapter.submit(TaskRequest.parse({"model": "m", **fields})))
        plain = await collect(adapter.submit(TaskRequest(model="m", prompt="a", running_usage=True)))

    assert isinstance(error, Error)
    assert (error.code, adapter.sent) == ("unsupported", 1)
    assert f"does not know {named};" in error.message
    assert isinstance(plain[-1], End)


@pytest.mark.spec("ORCH-3076-002")
async def test_the_mock_tells_the_ids_that_it_was_asked_in_and_one_for_each_token() -> None:
    async with MockAdapter(MockSettings(token_ids=True, reply="a b a")) as adapter:
        task = TaskRequest(model="mock", prompt_token_ids=(7, 8), return_token_ids=True)
        events = await collect(adapter.submit(task))
        refused = await collect(adapter.submit(TaskRequest(model="mock", prompt="a")))

    told = [event for event in events if isinstance(event, TokenIds)]
    assert told[0] == TokenIds(prompt=(7, 8))
    assert [len(event.output) for event in told[1:]] == [1, 1, 1]
    assert not any(isinstance(event, TokenIds) for event in refused)


STARTED = Started(job_id="j", engine="e", model="m")
END = End(finish_reason="stop")


@pytest.mark.spec("ORCH-3076-002")
@pytest.mark.parametrize(
    "events, said",
    [
        ([STARTED, TokenIds(prompt=(1,)), TokenIds(output=(2,)), Token(0, "a"), TokenIds(output=(3,)), END], None),
        ([STARTED, Token(0, "a"), TokenIds(prompt=(1,)), END], "event 2: the ids of the prompt after output"),
        ([STARTED, TokenIds(prompt=(1,)), TokenIds(prompt=(1,)), END], "event 2: the ids of the prompt a second time"),
        ([TokenIds(output=(1,)), STARTED, END], "event 0: token_ids before started"),
    ],
)
def test_the_order_of_ids_is_held_against_the_law(events: list[TokenEvent], said: str | None) -> None:
    assert find_violation(events) == said


class Odd(Old):
    heeds = frozenset({Capability.TOKEN_IDS})
    told: Any = ()

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="old", model=task.model)
        yield TokenIds(output=self.told)
        yield Token(0, "a")
        yield End(finish_reason="stop")


@pytest.mark.spec("ORCH-3076-002")
@pytest.mark.parametrize("told", [(-1,), (True,), ("a",), (1.5,), (2**31,), [1], None])
async def test_ids_that_are_none_never_reach_a_reader(told: Any) -> None:
    async with Odd() as adapter:
        adapter.told = told
        events = await collect(adapter.submit(TaskRequest(model="m", prompt="a", return_token_ids=True)))

    assert isinstance(events[-1], Error)
    assert events[-1].code == "protocol_violation"
    assert not any(isinstance(event, TokenIds) for event in events)


@pytest.mark.spec("ORCH-3076-002")
def test_token_ids_survive_their_json_form() -> None:
    event = TokenIds(prompt=(1, 2), output=(3,))

    assert decode_event(encode_event(event)) == event
    assert encode_event(event) == b'{"type":"token_ids","prompt":[1,2],"output":[3]}'

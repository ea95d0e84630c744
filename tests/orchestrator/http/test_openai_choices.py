"""Several answers to one request: `n`, several prompts, and the prompt before its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from hashlib import sha256
from typing import Any, cast

import anyio
import openai
import pytest

from adapter_api import (
    Capability,
    Error,
    InvalidRequest,
    Overloaded,
    Reasoning,
    Started,
    TaskRequest,
    Token,
    TokenEvent,
    Unsupported,
    Usage,
)
from adapter_api.errors import EngineFailed
from adapter_api.events import End
from adapter_api.testing import MockAdapter
from adapter_kit.chat_template import ChatTemplate
from orchestrator.http.openai_choices import Choices
from orchestrator.http.openai_requests import MAX_ECHOED, MOST_CHOICES, parse_chat, parse_completion
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.openai_client import client_of
from tests.orchestrator.observability.test_metrics import value
from tests.orchestrator.pooling import adapter_of
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = [pytest.mark.anyio, pytest.mark.spec("ORCH-3073-015")]

USER: Any = [{"role": "user", "content": "Hello"}]


class Seeds(MockAdapter):
    """Answers with the prompt and the seed, in two tokens; a prompt `bad` fails after the first, `wait` waits there."""

    waiting = 0
    cancelled = 0

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        said = task.prompt if task.prompt is not None else "chat"
        yield Token(index=0, text=f"{said}:")
        if said == "bad":
            raise EngineFailed("it broke")
        if said == "wait":
            type(self).waiting += 1
            try:
                await asyncio.Event().wait()
            finally:
                type(self).cancelled += 1
        yield Token(index=1, text=str(task.seed))
        yield End(finish_reason="stop", usage=Usage(tokens_in=3, tokens_out=2))


@pytest.fixture
def seeds(serve: Serve) -> Any:
    Seeds.waiting = Seeds.cancelled = 0
    return lambda: serve(plugins=plugin_host(mock="tests.orchestrator.http.test_openai_choices:Seeds"))


@pytest.mark.parametrize("streamed", [False, True])
async def test_n_answers_to_each_prompt_come_in_order_with_one_usage(seeds: Any, streamed: bool) -> None:
    async with seeds() as host, client_of(host) as client:
        asked: Any = {"model": "mock", "prompt": ["a", "b"], "n": 2, "seed": 7}
        if streamed:
            texts, reasons, usage = await streamed_completion(client, asked)
        else:
            answer = await client.completions.create(**asked)
            assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
            texts = {choice.index: choice.text for choice in answer.choices}
            reasons = {choice.index: choice.finish_reason for choice in answer.choices}
            usage = answer.usage

    assert texts == {0: "a:7", 1: "a:8", 2: "b:7", 3: "b:8"}
    assert set(reasons.values()) == {"stop"}
    assert len(reasons) == 4
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (6, 8, 14)


async def streamed_completion(client: openai.AsyncOpenAI, asked: Any) -> tuple[dict[int, str], dict[int, str], Any]:
    stream = await client.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    texts: dict[int, str] = {}
    reasons: dict[int, str] = {}
    usage: Any = None
    ids = set()
    async for chunk in stream:
        ids.add(chunk.id)
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert len(ids) == 1
    return texts, reasons, usage


async def test_a_chat_has_several_answers_each_with_its_own_beginning(seeds: Any) -> None:
    async with seeds() as host, client_of(host) as client:
        stream = await client.chat.completions.create(model="mock", messages=USER, n=3, seed=1, stream=True)
        chunks = [chunk async for chunk in stream]
        whole = await client.chat.completions.create(model="mock", messages=USER, n=3, seed=1)

    choices = [chunk.choices[0] for chunk in chunks]
    texts = {index: "".join(c.delta.content or "" for c in choices if c.index == index) for index in range(3)}
    assert texts == {0: "chat:1", 1: "chat:2", 2: "chat:3"}
    assert sorted(choice.index for choice in choices if choice.delta.role) == [0, 1, 2]
    assert [choice.message.content for choice in whole.choices] == ["chat:1", "chat:2", "chat:3"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_of_one_answer_ends_all(seeds: Any, streamed: bool) -> None:
    async with seeds() as host, client_of(host) as client:
        asked: Any = {"model": "mock", "prompt": ["wait", "bad"]}
        with pytest.raises(openai.APIError, match="it broke"):
            await (streamed_completion(client, asked) if streamed else client.completions.create(**asked))
        await eventually(lambda: Seeds.cancelled == Seeds.waiting)


class Endless:
    """Stands for a task that was taken in: one token after the other, and a moment until it has stopped."""

    stopped = False

    @property
    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        try:
            while True:
                yield [Token(index=0, text="more")]
        finally:
            await asyncio.sleep(0)
            self.stopped = True


async def test_who_leaves_in_the_middle_of_several_answers_ends_their_reading_and_nothing_else() -> None:
    tasks = [Endless(), Endless()]
    left = iter(tasks)

    async def accept(task: TaskRequest, *, comes_again: bool) -> Any:
        return next(left)

    choices = Choices([TaskRequest(model="m", prompt="a")] * 2, accept)
    await choices.begin()
    with anyio.CancelScope() as scope:
        async with aclosing(cast(Any, choices.batches)) as batches:
            async for _ in batches:
                await asyncio.sleep(0)  # both have something for a reader who does not come again
                scope.cancel()
                await anyio.sleep_forever()

    assert scope.cancelled_caught  # another's cancellation would have come out as an error of the host
    assert all(task.stopped for task in tasks)


async def test_who_leaves_cancels_all(seeds: Any) -> None:
    async with seeds() as host, client_of(host) as client:
        stream = await client.completions.create(model="mock", prompt=["wait", "wait"], n=2, stream=True)
        await anext(aiter(stream))
        await eventually(lambda: Seeds.waiting == 4)
        await stream.close()
        await eventually(lambda: Seeds.cancelled == 4)


PLUGINS = plugin_host(mock="tests.orchestrator.http.test_openai_choices:Seeds")


def rejected(host: Host) -> float:
    return value(host.orchestrator, "tasks_rejected_total", pool_id="default", code="overloaded") or 0


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("policy", ["reject", "drop-lru"])
@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_more_answers_than_there_is_room_for_come_one_after_the_other(
    serve: Serve, limit: int, policy: str, streamed: bool
) -> None:
    prompts = [f"p{number}" for number in range(20)]
    queue = {"limit": limit, "policy": policy}
    async with serve({"slots": 2}, pool={"queue": queue}, plugins=PLUGINS) as host, client_of(host) as client:
        asked: Any = {"model": "mock", "prompt": prompts, "extra_body": {"timeout_s": 20}}
        if streamed:
            texts, reasons, usage = await streamed_completion(client, asked)
        else:
            answer = await client.completions.create(**asked)
            texts = {choice.index: choice.text for choice in answer.choices}
            reasons = {choice.index: choice.finish_reason for choice in answer.choices}
            usage = answer.usage
        left, pool = host.orchestrator.live_tasks, host.orchestrator.pools[0]
        refused = rejected(host)

    assert refused == 0  # nobody was
    assert texts == {number: f"{prompt}:None" for number, prompt in enumerate(prompts)}
    assert set(reasons.values()) == {"stop"}
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (60, 40)
    assert (left, pool.queue_depth, pool.in_flight) == ((), 0, 0)


async def test_several_answers_are_refused_where_there_is_room_for_none(serve: Serve) -> None:
    Seeds.waiting = Seeds.cancelled = 0
    async with serve({"slots": 1}, pool={"queue": {"limit": 0}}, plugins=PLUGINS) as host, client_of(host) as client:
        stream = await client.completions.create(model="mock", prompt="wait", stream=True)
        with pytest.raises(openai.RateLimitError):
            await client.completions.create(model="mock", prompt=["a", "b"])
        refused = rejected(host)
        await stream.close()

    assert refused == 1


async def test_an_engine_that_never_has_room_ends_several_answers_in_one_error(serve: Serve) -> None:
    async with serve({"fail": "overloaded"}, pool={"retry": {"attempts": 1}}) as host:
        with anyio.fail_after(5):
            answer = await host.client.post("/v1/completions", json={"model": "mock", "prompt": ["a"] * 5})

    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")


class Scripted:
    """A task that was taken in, with what comes of it."""

    def __init__(self, *batches: list[TokenEvent]) -> None:
        self._batches = batches
        self.closed = False

    @property
    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        for batch in self._batches:
            yield batch

    async def close(self) -> None:
        self.closed = True


async def test_one_that_was_driven_out_is_heard_though_its_first_reader_ends_late() -> None:
    no_room, end = Error.from_exception(Overloaded("no room")), End(finish_reason="stop", usage=Usage())
    scripts = [Scripted([Token(0, "a")], [end]), Scripted([no_room]), Scripted([Token(0, "a")], [end])]
    given = list(scripts)

    async def accept(task: TaskRequest, *, comes_again: bool) -> Any:
        return given.pop(0)

    choices = Choices([TaskRequest(model="m", prompt="x")] * 2, accept)
    await choices.begin()
    heard = [(choices.index, batch[0]) async for batch in choices.batches]
    await choices.close()

    assert heard == [(0, Token(0, "a")), (0, end), (1, Token(0, "a")), (1, end)]
    assert all(script.closed for script in scripts)


async def test_the_time_of_those_that_follow_counts_from_the_requests_arrival(serve: Serve) -> None:
    pool = {"queue": {"limit": 0}}
    async with serve({"slots": 1, "delay_s": 0.15, "reply": "a"}, pool=pool) as host:
        asked = {"model": "mock", "prompt": ["a"] * 20, "timeout_s": 0.5}
        answer = await host.client.post("/v1/completions", json=asked)
        run = len(cast(MockAdapter, adapter_of(host.orchestrator, "r0")).submitted)

    assert answer.status_code == 504
    assert "0.5 s" in answer.json()["error"]["message"]
    assert run <= 4


async def test_a_deadline_is_told_as_the_client_gave_it_and_not_as_what_was_left_of_it() -> None:
    late = Error(code="deadline_exceeded", message="within its 59.9 s", retryable=True, stage="total")
    given: list[Any] = [Scripted([End(finish_reason="stop")]), Overloaded("no room"), Scripted([late])]

    async def accept(task: TaskRequest, *, comes_again: bool) -> Any:
        if isinstance(found := given.pop(0), Overloaded):
            raise found
        return found

    choices = Choices([TaskRequest(model="m", prompt="x", timeout_s=60)] * 2, accept)
    await choices.begin()
    heard = [batch[-1] async for batch in choices.batches]
    await choices.close()

    assert isinstance(heard[-1], Error)
    assert heard[-1].message == "the answers did not end within 60 s"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_prompt_stands_before_its_answer(seeds: Any, streamed: bool) -> None:
    async with seeds() as host, client_of(host) as client:
        asked: Any = {"model": "mock", "prompt": ["a", "b"], "echo": True, "seed": 1}
        if streamed:
            texts, _, _ = await streamed_completion(client, asked)
        else:
            texts = {choice.index: choice.text for choice in (await client.completions.create(**asked)).choices}

    assert texts == {0: "aa:1", 1: "bb:1"}


@pytest.mark.parametrize(
    "fields, error, named",
    [
        ({"n": 0}, InvalidRequest, "'n'"),
        ({"n": True}, InvalidRequest, "'n'"),
        ({"n": "two"}, InvalidRequest, "'n'"),
        ({"n": MOST_CHOICES + 1}, InvalidRequest, "128"),
        ({"n": MOST_CHOICES + 1}, InvalidRequest, "^'n' asks for 129 answers"),
        ({"prompt": ["a"] * 65, "n": 2}, InvalidRequest, "^'prompt' has 65 prompts.*there may be 128.*send 64 prompts"),
        ({"prompt": []}, InvalidRequest, "'prompt'"),
        ({"prompt": ["a", 1]}, InvalidRequest, "'prompt'"),
        ({"prompt": [[1], ["a"]]}, InvalidRequest, "token ids"),
        ({"prompt": ["a", ""]}, InvalidRequest, "empty"),
        ({"best_of": 3}, Unsupported, "'best_of'"),
        ({"n": 2, "history": True, "session_id": "s"}, Unsupported, "'history'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        parse_completion({"model": "m", "prompt": "Hi", **fields}, {})


@pytest.mark.parametrize("most, statuses", [(3, [200, 200, 400, 200, 400]), (200, [200, 200, 200, 200, 200])])
async def test_how_many_answers_there_may_be_is_a_setting(serve: Serve, most: int, statuses: list[int]) -> None:
    asked: list[tuple[str, dict[str, Any]]] = [
        ("completions", {"prompt": "Hi"}),
        ("completions", {"prompt": "Hi", "n": 3}),
        ("completions", {"prompt": ["a", "b"], "n": 2}),
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "n": 3}),
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "n": 129}),
    ]
    async with serve(server={"limits": {"max_choices": most}}) as host:
        answers = [await host.client.post(f"/v1/{path}", json={"model": "mock", **body}) for path, body in asked]

    assert [answer.status_code for answer in answers] == statuses
    if most == 3:
        assert "there may be 3 to a request (server.limits.max_choices)" in answers[-1].json()["error"]["message"]


def test_what_several_answers_repeat_is_bounded() -> None:
    long = "x" * (MAX_ECHOED // 8)
    assert len(parse_completion({"model": "m", "prompt": long, "n": 8, "echo": True}, {}).tasks) == 8
    assert len(parse_completion({"model": "m", "prompt": long * 9, "echo": True}, {}).tasks) == 1
    with pytest.raises(InvalidRequest, match=r"^'echo'"):
        parse_completion({"model": "m", "prompt": long, "n": 9, "echo": True}, {})


async def test_answers_are_counted_all_or_none_against_a_key(serve: Serve) -> None:
    key = {"name": "k", "sha256": sha256(b"secret").hexdigest(), "requests_per_minute": 6}
    async with serve(server={"api_keys": [key]}) as host:
        host.client.headers["Authorization"] = "Bearer secret"

        async def ask(n: int) -> Any:
            return await host.client.post("/v1/completions", json={"model": "mock", "prompt": "Hi", "n": n})

        never, first, too_many, second, none = [await ask(n) for n in (7, 3, 3, 1, 1)]

    assert [each.status_code for each in (never, first, too_many, second, none)] == [429, 200, 429, 200, 429]
    assert never.headers["x-should-retry"] == "false"
    assert "Retry-After" not in never.headers
    assert int(too_many.headers["Retry-After"]) >= 19


async def test_a_conversation_is_rendered_once_for_all_its_answers(serve: Serve, monkeypatch: Any) -> None:
    rendered: list[TaskRequest] = []
    render = ChatTemplate.render

    def counted(self: ChatTemplate, task: TaskRequest) -> str:
        rendered.append(task)
        return render(self, task)

    monkeypatch.setattr(ChatTemplate, "render", counted)
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    async with serve({"reply": "hi"}, pool={"chat_template": template}) as host, client_of(host) as client:
        answer = await client.chat.completions.create(model="mock", messages=USER, n=5)

    assert [choice.message.content for choice in answer.choices] == ["hi"] * 5
    assert len(rendered) == 1


def test_a_chat_takes_n_and_no_echo() -> None:
    assert len(parse_chat({"model": "m", "messages": USER, "n": 3}, {}).tasks) == 3
    with pytest.raises(Unsupported, match="'echo'"):
        parse_chat({"model": "m", "messages": USER, "echo": True}, {})


@pytest.mark.spec("ORCH-3073-016")
@pytest.mark.parametrize(
    "field, value, sent",
    [
        ("logit_bias", {"5": 1.5}, '{"5":1.5}'),
        ("stop_token_ids", [5, 6], "[5,6]"),
        ("bad_words", ["x y"], '["x y"]'),
        ("allowed_token_ids", [5], "[5]"),
        ("thinking_token_budget", 10, 10),
    ],
)
def test_lists_for_an_engine_are_its_parameters_as_json(field: str, value: Any, sent: Any) -> None:
    for asked in (
        parse_chat({"model": "m", "messages": USER, field: value}, {}),
        parse_completion({"model": "m", "prompt": "Hi", field: value}, {}),
    ):
        assert dict(asked.task.parameters) == {f"engine.{field}": sent}
        assert Capability.STOP not in asked.task.needs


class Thinks(MockAdapter):
    """Thinks before it speaks."""

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        yield Started(job_id=task.job_id, engine="mock", model=task.model)
        yield Reasoning(index=0, text="Hm.")
        yield Token(index=0, text="Yes.")
        yield End(finish_reason="stop")


@pytest.mark.spec("ORCH-3073-011")
async def test_thoughts_are_left_out_for_whom_does_not_want_them(serve: Serve) -> None:
    asked: Any = {"model": "mock", "messages": USER}
    plugins = plugin_host(mock="tests.orchestrator.http.test_openai_choices:Thinks")
    async with serve(plugins=plugins) as host:
        shown = await host.client.post("/v1/chat/completions", json=asked)
        whole = await host.client.post("/v1/chat/completions", json=asked | {"include_reasoning": False})
        streamed = await host.client.post(
            "/v1/chat/completions", json=asked | {"include_reasoning": False, "stream": True}
        )

    assert shown.json()["choices"][0]["message"]["reasoning_content"] == "Hm."
    assert whole.json()["choices"][0]["message"] == {"role": "assistant", "content": "Yes.", "refusal": None}
    assert "Yes." in streamed.text
    assert "Hm." not in streamed.text


@pytest.mark.spec("ORCH-3073-011")
def test_documents_are_for_the_template_and_completions_have_a_format() -> None:
    documents = [{"title": "a", "text": "b"}]
    chat = parse_chat({"model": "m", "messages": USER, "documents": documents, "reasoning_effort": "low"}, {}).task
    text = parse_completion({"model": "m", "prompt": "Hi", "response_format": {"type": "json_object"}}, {}).task

    assert dict(chat.chat_template_kwargs) == {"documents": documents, "reasoning_effort": "low"}
    assert Capability.RESPONSE_FORMAT in text.needs

"""The worst that fits the bounds, and what is beyond them: the loop goes on, and the refusal says what."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
from collections.abc import Callable
from time import process_time
from typing import Any

import anyio.to_thread
import pytest

from adapter_api import Overloaded
from adapter_api.bounds import MAX_MESSAGES, MAX_PARTS, MAX_STOP_STRINGS
from orchestrator.http.pending import Pending, Share
from tests.orchestrator.http.conftest import Host, Serve
from tests.orchestrator.http.test_guard import KEYS, bearer, key
from tests.orchestrator.pools.test_monitor import eventually, plugin_host

pytestmark = pytest.mark.anyio

SIZE = 4 * 2**20
RUNS = 3
MOST_S = 0.25
"""However busy the machine is; on an idle one a tenth of it is enough."""
TIMES = 5
"""How much longer the loop may stand still than for a plain body of as many bytes."""
QUICK_S = 0.1
"""So little that it is compared with nothing, and once is enough."""

TASKS, CHAT, INFER = "/v2/tasks", "/v1/chat/completions", "/v2/models/mock/infer"
RESPONSES, EMBEDDINGS = "/v1/responses", "/v1/embeddings"
Body = Callable[[], bytes]


def task(**fields: Any) -> bytes:
    return json.dumps({"model": "mock", "prompt": "p", "max_tokens": 2, **fields}).encode()


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "mock", "messages": [], "max_tokens": 2, **fields}).encode()


def response(**fields: Any) -> bytes:
    return json.dumps({"model": "mock", "input": "p", **fields}).encode()


def tensor(data: bytes, datatype: str = "FP32", shape: str = "[1]") -> bytes:
    return b'{"inputs":[{"name":"x","datatype":"%b","shape":%b,"data":[%b]}]}' % (
        datatype.encode(), shape.encode(), data
    )  # fmt: skip


def message(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def deep() -> bytes:
    inner = b"[" * 300 + b"1" + b"]" * 300
    return gzip.compress(tensor(inner + b",1" * 200_000, shape=json.dumps([1] * 300)))


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
PART = {"type": "input_text", "text": "x"}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{'A' * SIZE}"}}
WORST: dict[str, tuple[str, Body, int]] = {
    "a number nested deep beside many": (INFER, deep, 400),
    "empty lists": (INFER, lambda: tensor(b"[]," * (SIZE // 3) + b"1"), 400),
    "numbers in lists of one": (INFER, lambda: tensor(b"[1]," * (2**19 - 1) + b"[1]", shape=f"[{2**19},1]"), 200),
    "texts": (INFER, lambda: tensor(b'"",' * (SIZE // 3) + b'""', "BYTES"), 400),
    "texts within the bound": (INFER, lambda: tensor(b'"a",' * 90_000 + b'"a"', "BYTES", "[90001]"), 200),
    "unknown fields": (TASKS, lambda: task(**{f"k{n}": 1 for n in range(SIZE // 12)}), 400),
    "stop strings beyond the bound": (TASKS, lambda: task(stop=[str(n) for n in range(SIZE // 8)]), 400),
    "stop strings": (TASKS, lambda: task(stop=["a" * 30 + chr(0x4E00 + n) for n in range(MAX_STOP_STRINGS)]), 200),
    "lists in a tool": (TASKS, lambda: task(tools=[{"name": "f", "parameters": {"a": [[1]] * 45_000}}]), 400),
    "quotes in a text, and depth": (
        TASKS, lambda: task(prompt='"' * (SIZE // 2), x=json.loads("[" * 70 + "]" * 70)), 400
    ),
    "messages beyond the bound": (CHAT, lambda: chat(messages=[message("x")] * (SIZE // 40)), 400),
    "messages": (CHAT, lambda: chat(messages=[message("x" * (SIZE // MAX_MESSAGES))] * MAX_MESSAGES), 200),
    "items of a response": (
        RESPONSES, lambda: response(input=[message("x" * (SIZE // MAX_MESSAGES))] * MAX_MESSAGES), 200
    ),
    "calls of one message": (RESPONSES, lambda: response(input=[CALL] * MAX_PARTS), 200),
    "parts that are joined": (
        RESPONSES, lambda: response(input=[{"role": "user", "content": [PART] * 30_000}]),
        200,
    ),
    "items beyond the bound": (RESPONSES, lambda: response(input=[CALL] * 15_000), 400),
    "items that are only named": (
        RESPONSES, lambda: response(input=[{"type": "item_reference", "id": "msg_a_0"}] * 8000), 404
    ),
    "instructions, which the response repeats": (RESPONSES, lambda: response(instructions="é" * (SIZE // 2)), 200),
    "texts to embed beyond the bound": (EMBEDDINGS, lambda: response(input=["x" * 40] * 90_000), 400),
    "token ids to embed": (EMBEDDINGS, lambda: response(input=[[7] * 30] * 3000), 400),
    "an image": (CHAT, lambda: chat(messages=[{"role": "user", "content": [IMAGE]}]), 400),
}  # fmt: skip


SLOW = frozenset({
    "many messages, looked at again for each", "few messages, looked at again for each", "many images", "a large tool",
    "empty lists", "unknown fields", "messages beyond the bound", "texts", "texts within the bound",
})  # fmt: skip
"""Those that take seconds: templates run to their limit of time many times over, and much that is no number."""


async def standstill(host: Host, path: str, body: bytes, status: int, enough_s: float = 0.0) -> float:
    """The longest time in which nothing else ran in the loop while a request was answered; of several runs the best,
    or the first that is better than `enough_s`.

    In seconds of this process's CPU, all threads of it: what else runs on the machine must not count.
    """
    headers = {"Content-Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}

    def send() -> int:  # in a thread: the client must not take the loop's time
        address, _, port = host.url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(address, int(port), timeout=60)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    found = []
    for _ in range(RUNS):
        gaps: list[float] = []

        async def beat(gaps: list[float]) -> None:
            last = process_time()
            while True:
                await asyncio.sleep(0)
                now = process_time()
                gaps.append(now - last)
                last = now

        beating = asyncio.create_task(beat(gaps))
        assert await anyio.to_thread.run_sync(send) == status
        beating.cancel()
        found.append(max(gaps))
        if found[-1] < enough_s:
            break
    return min(found)


async def bearable(host: Host, standstill_s: float, size: int) -> float:
    """How long the loop may stand still for a body of so many bytes, given how long it did."""
    if standstill_s < QUICK_S:
        return QUICK_S
    return min(MOST_S, max(QUICK_S, TIMES * await standstill(host, TASKS, task(prompt="p" * size), 200)))


@pytest.mark.spec("ORCH-3064-033")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else []) for name in WORST]
)
async def test_the_loop_goes_on_whatever_is_in_a_body(serve: Serve, name: str) -> None:
    path, made, status = WORST[name]
    body = made()
    async with serve() as host:
        worst = await standstill(host, path, body, status, QUICK_S)
        most = await bearable(host, worst, len(body))

    assert worst < most


ORDINARY = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}"
CUBIC = (
    "{% for a in messages %}{% for b in messages %}{% for c in messages %}"
    "{% if c.role == 'none' %}.{% endif %}{% endfor %}{% endfor %}{% endfor %}x"
)
PARTS = (
    "{% for m in messages %}{% for p in m.content %}{{ p.text if p.type == 'text' else '<i>' }}{% endfor %}{% endfor %}"
)
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TEMPLATES: dict[str, tuple[str, Body, int]] = {
    "much text": (ORDINARY, lambda: chat(messages=[message("x " * (SIZE // 512))] * 256), 200),
    "many messages": (ORDINARY, lambda: chat(messages=[message("x")] * MAX_MESSAGES), 200),
    "many messages, looked at again for each": (CUBIC, lambda: chat(messages=[message("x")] * 1000), 400),
    "few messages, looked at again for each": (CUBIC, lambda: chat(messages=[message("x")] * 200), 400),
    "many images": (PARTS, lambda: chat(messages=[{"role": "user", "content": [PICTURE] * 2000}]), 400),
    "a large tool": (
        "{{ tools | tojson(indent=1) }}",
        lambda: chat(
            messages=[message("x")],
            tools=[{"type": "function", "function": {"name": "f", "parameters": {"enum": [["x"]] * 45_000}}}],
        ),
        200,
    ),
}


@pytest.mark.spec("ORCH-3064-033")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else []) for name in TEMPLATES]
)
async def test_the_loop_goes_on_however_hard_messages_are_for_a_template(serve: Serve, name: str) -> None:
    template, made, status = TEMPLATES[name]
    body = made()
    plugins = plugin_host(seeing="tests.orchestrator.pools.test_fit:Seeing")
    async with serve(pool={"adapter": "seeing", "chat_template": template}, plugins=plugins) as host:
        worst = await standstill(host, CHAT, body, status, QUICK_S)
        most = await bearable(host, worst, len(body))

    assert worst < most


@pytest.mark.spec("ORCH-3064-034")
@pytest.mark.parametrize("path", [TASKS, CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings", INFER])
async def test_who_has_used_up_their_rate_is_told_so_before_the_body_is_read(serve: Serve, path: str) -> None:
    async with serve(server={"api_keys": [key("alice", requests_per_minute=1)]}) as host:
        first = await host.client.post(path, content=b"no json", headers=bearer("alice"))
        second = await host.client.post(path, content=b"no json", headers=bearer("alice"))

    assert first.status_code == 400
    assert second.status_code == 429
    assert int(second.headers["retry-after"]) >= 1


@pytest.mark.spec("ORCH-3064-034")
async def test_no_body_is_read_for_a_model_that_nobody_has(serve: Serve) -> None:
    async with serve() as host:
        response = await host.client.post("/v2/models/nope/infer", content=b"no json")

    assert response.status_code == 404


@pytest.mark.spec("ORCH-3064-035")
@pytest.mark.parametrize("path", [TASKS, CHAT, INFER])
async def test_a_body_that_grows_too_much_is_refused(serve: Serve, path: str) -> None:
    bomb = gzip.compress(b'{"a": "' + b"a" * (8 * 2**20) + b'"}')
    async with serve() as host:
        response = await host.client.post(path, content=bomb, headers={"Content-Encoding": "gzip"})

    assert response.status_code == 413
    assert "server.limits.max_inflation" in response.text


@pytest.mark.spec("ORCH-3064-035")
async def test_what_is_small_may_grow_as_it_likes(serve: Serve) -> None:
    body = gzip.compress(task(prompt="a" * 500_000))
    async with serve() as host:
        response = await host.client.post(TASKS, content=body, headers={"Content-Encoding": "gzip"})

    assert response.status_code == 200


@pytest.mark.spec("ORCH-3064-036")
async def test_all_bodies_together_are_bounded_and_counted_out(serve: Serve) -> None:
    limits = {"max_pending_bytes": 4096}
    async with serve({"delay_s": 30.0}, server={"limits": limits}) as host:
        pending = host.serving.service.pending
        async with host.client.stream("POST", TASKS, content=task(prompt="p" * 3000)):
            refused = await host.client.post(TASKS, content=task(prompt="p" * 3000))
            held = pending.bytes
        await eventually(lambda: not pending.bytes)
        again = await host.client.post(TASKS, content=b"x" * 3000)

    assert held > 3000
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    assert "retry-after" in refused.headers
    assert again.status_code == 400


@pytest.mark.spec("ORCH-3064-036")
def test_a_share_is_counted_until_all_have_let_go_of_it() -> None:
    pending = Pending(100)
    share = Share(pending)
    share.take(60)
    share.hold()

    share.release()
    with pytest.raises(Overloaded):
        Share(pending).take(41)
    share.release()

    assert pending.bytes == 0
    Share(pending).take(100)


@pytest.mark.spec("ORCH-3064-007")
async def test_too_many_headers_are_refused(serve: Serve) -> None:
    async with serve() as host:
        response = await host.client.get("/v1/models", headers={f"X-{n}": "1" for n in range(300)})

    assert response.status_code == 431


@pytest.mark.spec("ORCH-3064-037")
@pytest.mark.parametrize(
    "fields",
    [{"max_tokens": True}, {"max_tokens": "three"}, {"timeout_s": 1e10}, {"temperature": "warm"}, {"seed": 2**63}],
)
@pytest.mark.parametrize("path", [TASKS, CHAT, "/v1/completions"])
async def test_what_is_no_number_in_its_range_is_refused_by_name(
    serve: Serve, path: str, fields: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"messages": [message("p")]} if path == CHAT else {"prompt": "p"}
    async with serve() as host:
        response = await host.client.post(path, json={"model": "mock", **asked, **fields})

    assert response.status_code == 400
    assert next(iter(fields)) in response.json()["error"]["message"]


@pytest.mark.spec("ORCH-3064-037")
@pytest.mark.parametrize(
    "shape", [[2**63], [2**63 - 1], [2**63 - 1, 2], [2**32, 2**32], [1] * 33, [True], [1.0], ["1"], [-1], [1e3]]
)
@pytest.mark.parametrize("datatype", ["BYTES", "FP32"])
async def test_a_shape_that_no_tensor_has_is_refused(serve: Serve, shape: list[Any], datatype: str) -> None:
    head = {"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": 5}}]}
    encoded = json.dumps(head).encode()
    async with serve() as host:
        response = await host.client.post(
            INFER, content=encoded + b"\1\0\0\0a", headers={"Inference-Header-Content-Length": str(len(encoded))}
        )

    assert response.status_code == 400
    assert "'x'" in response.json()["error"]


@pytest.mark.spec("ORCH-3064-018")
async def test_strangers_bodies_are_not_parsed(serve: Serve) -> None:
    async with serve(server=KEYS) as host:
        response = await host.client.post(TASKS, content=b"no json")

    assert response.status_code == 401

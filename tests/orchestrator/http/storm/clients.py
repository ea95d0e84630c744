"""Clients of all faces: what they ask, how they leave, and what an answer that came whole must be."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import anyio
import httpx

from tests.orchestrator.http.storm.engine import BATCH, HOW

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
RESPONSE_TOOLS = [{"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}}]
_MAY_HANG = frozenset({"hang", "silent"})


class Wrong(AssertionError):
    """An answer that no client should get."""


class Client:
    """One of many; `tally` counts what became of what they asked."""

    def __init__(self, http: httpx.AsyncClient, random: Random, tally: Counter[str]) -> None:
        self._http = http
        self._random = random
        self._tally = tally
        self.kept: list[str] = []
        self.responses: list[str] = []

    async def ask(self) -> None:
        """Ask one thing, and read the answer or leave."""
        kinds = (self.chat, self.chat, self.completion, self.response, self.response, self.task, self.embeddings,
                 self.tensors, self.half_a_body)  # fmt: skip
        ask = self._random.choice(kinds)
        try:
            await ask()
        except httpx.HTTPError as exc:
            raise Wrong(f"{ask.__name__}: the connection broke: {exc!r}") from exc

    def _how(self) -> tuple[str, bool]:
        """What the engine is to do, and whether the client has to leave for it to end."""
        how = self._random.choice(HOW)
        return how, how in _MAY_HANG

    def _limits(self, hangs: bool) -> dict[str, Any]:
        if hangs or self._random.random() < 0.2:
            return {"timeout_s": self._random.choice((0.02, 0.1, 0.3))}
        return {}

    async def chat(self) -> None:
        how, hangs = self._how()
        body: dict[str, Any] = {
            "model": "mock",
            "messages": [{"role": "user", "content": f"how={how}"}],
            "stream": self._random.random() < 0.6,
            "n": self._random.choice((1, 1, 1, 2, 5, 12)),
            **self._limits(hangs),
        }
        if self._random.random() < 0.4:
            body["tools"] = TOOLS
        await self._openai("/v1/chat/completions", body, _chunks)

    async def completion(self) -> None:
        hows = [self._how() for _ in range(self._random.choice((1, 1, 2, 6)))]
        body: dict[str, Any] = {
            "model": "mock",
            "prompt": [f"how={how}" for how, _ in hows],
            "stream": self._random.random() < 0.6,
            **self._limits(any(hangs for _, hangs in hows)),
        }
        await self._openai("/v1/completions", body, _chunks)

    async def response(self) -> None:
        how, hangs = self._how()
        body: dict[str, Any] = {
            "model": "mock",
            "input": f"how={how}",
            "stream": self._random.random() < 0.6,
            "store": self._random.random() < 0.7,
            **self._limits(hangs),
        }
        if self.responses and self._random.random() < 0.5:
            body["previous_response_id"] = self._random.choice(self.responses)
        if self._random.random() < 0.4:
            body["tools"] = RESPONSE_TOOLS
        told = await self._openai("/v1/responses", body, _typed_events)
        if told is not None and told.get("store") and told["status"] in ("completed", "incomplete"):
            self.responses.append(told["id"])
            if self._random.random() < 0.2:
                await self._http.delete(f"/v1/responses/{told['id']}")

    async def task(self) -> None:
        how, hangs = self._how()
        keep = self._random.random() < 0.4
        job_id = f"job-{self._random.getrandbits(64):x}"
        body = {
            "model": "mock", "prompt": f"how={how}", "job_id": job_id, "on_disconnect": "keep" if keep else "cancel",
            "priority": self._random.choice(("interactive", "batch")), **({} if keep else self._limits(hangs)),
        }  # fmt: skip
        if keep:
            self.kept.append(job_id)
        cancels = self._random.random() < 0.3 or (keep and hangs and self._random.random() < 0.5)
        async with anyio.create_task_group() as group:
            if cancels:
                group.start_soon(self._cancel, job_id)
            await self._streamed("/v2/tasks", body, _task_events, leaves=keep and hangs)

    async def _cancel(self, job_id: str) -> None:
        await anyio.sleep(self._random.random() * 0.05)
        await self._http.delete(f"/v2/tasks/{job_id}")

    async def embeddings(self) -> None:
        texts = [f"text {number}" for number in range(self._random.choice((1, 3, BATCH * 5, BATCH * 30)))]
        if self._random.random() < 0.3:
            texts[-1] = self._random.choice(("how=fail", "how=hang"))
        body = {"model": "vectors", "input": texts, "timeout_s": self._random.choice((0.05, 0.5, 5))}
        response = await self._whole("/v1/embeddings", body)
        if response is not None and response.status_code == 200 and len(response.json()["data"]) != len(texts):
            raise Wrong("vectors are missing")

    async def tensors(self) -> None:
        how = self._random.choice(("x", "x", "how=fail", "how=hang"))
        tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [how]}
        body: dict[str, Any] = {"inputs": [tensor]}
        if self._random.random() < 0.5 or how == "how=hang":
            body["parameters"] = {"timeout": 100_000}
        await self._whole("/v2/models/vectors/infer", body, leaves=how == "how=hang")

    async def half_a_body(self) -> None:
        """Vanish in the middle of a body."""
        url = self._http.base_url
        path = self._random.choice(("/v1/chat/completions", "/v2/tasks", "/v1/embeddings", "/v1/responses"))
        body = json.dumps({"model": "mock", "prompt": "x" * self._random.randrange(1, 70_000)}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        async with await anyio.connect_tcp(url.host, url.port or 80) as stream:
            await stream.send(head + body[: self._random.randrange(len(body))])
        self._tally["half a body"] += 1

    # -- answers ------------------------------------------------------------------------------------------------------

    async def _openai(self, path: str, body: dict[str, Any], check: Any) -> dict[str, Any] | None:
        if body["stream"]:
            found = await self._streamed(path, body, check)
            return found if isinstance(found, dict) else None
        response = await self._whole(path, body)
        if response is None or response.status_code != 200:
            return None
        answer: dict[str, Any] = response.json()
        if "choices" in answer and len(answer["choices"]) != body.get("n", 1) * (
            len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
        ):
            raise Wrong(f"{len(answer['choices'])} choices to {body}")
        return answer

    async def _whole(self, path: str, body: dict[str, Any], *, leaves: bool = False) -> httpx.Response | None:
        response: httpx.Response | None = None
        patience = self._random.random() * 0.1 if leaves or self._random.random() < 0.2 else 30
        with anyio.move_on_after(patience):
            response = await self._http.post(path, json=body)
        if response is None:
            if patience == 30:
                raise Wrong(f"no answer to {path} {body}")
            self._tally["left"] += 1
            return None
        self._look(path, response)
        return response

    async def _streamed(self, path: str, body: dict[str, Any], check: Any, *, leaves: bool = False) -> Any:
        """Return what `check` makes of all that came, unless the client left before."""
        leaves_after = self._random.randrange(1500) if leaves or self._random.random() < 0.3 else None
        got = b""
        patience = 0.2 if leaves else 30
        with anyio.move_on_after(patience) as scope:
            async with self._http.stream("POST", path, json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    self._look(path, response)
                    return None
                async for piece in response.aiter_raw():
                    got += piece
                    if leaves_after is not None and len(got) > leaves_after:
                        self._tally["left"] += 1
                        return None
        if scope.cancelled_caught:
            if not leaves:
                raise Wrong(f"no end of {path} {body}: …{got[-300:]!r}")
            self._tally["left"] += 1
            return None
        self._tally[f"{path} streamed"] += 1
        return check(body, got)

    def _look(self, path: str, response: httpx.Response) -> None:
        self._tally[f"{path} {response.status_code}"] += 1
        if response.status_code == 500 and "internal" in response.text:
            raise Wrong(f"{path}: {response.text}")


def _data(got: bytes) -> list[Any]:
    lines = [line[6:] for line in got.decode().splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def _chunks(body: dict[str, Any], got: bytes) -> None:
    *found, end = _data(got) or [None]
    failed = ["error" in each for each in found]
    if end != "[DONE]" or "[DONE]" in found or any(failed[:-1]):
        raise Wrong(f"no one end of {body}: …{got[-300:]!r}")
    if not any(failed):
        finished = Counter(choice["index"] for each in found for choice in each["choices"] if choice["finish_reason"])
        wanted = body.get("n", 1) * (len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1)
        if finished != Counter(range(wanted)):
            raise Wrong(f"choices ended as {finished}, {wanted} were asked for")


def _typed_events(body: dict[str, Any], got: bytes) -> dict[str, Any]:
    found = _data(got)
    if [each["sequence_number"] for each in found] != list(range(len(found))):
        raise Wrong(f"numbers: {got!r}")
    opened = [each["item"]["id"] for each in found if each["type"] == "response.output_item.added"]
    closed = [each["item"]["id"] for each in found if each["type"] == "response.output_item.done"]
    lasts = [each for each in found if each["type"] in _LAST]
    if len(lasts) != 1 or found[-1] != lasts[0] or sorted(opened) != sorted(closed):
        raise Wrong(f"no one end of a response: …{got[-500:]!r}")
    answer: dict[str, Any] = lasts[0]["response"]
    return answer


_LAST = ("response.completed", "response.incomplete", "response.failed")


def _task_events(body: dict[str, Any], got: bytes) -> None:
    found = _data(got)
    kinds = [each["type"] for each in found]
    if sum(kind in ("end", "error") for kind in kinds) != 1 or kinds[-1] not in ("end", "error"):
        raise Wrong(f"events of {body}: {kinds}")
    indices = [each["index"] for each in found if each["type"] == "token"]
    if indices != list(range(len(indices))):
        raise Wrong(f"tokens {indices}")

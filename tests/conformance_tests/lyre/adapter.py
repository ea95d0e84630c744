"""An adapter as a new author writes it: HTTP and server-sent events, with httpx."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from adapter_api import (
    AdapterError,
    CancelReceipt,
    Capability,
    Capacity,
    ConnectFailed,
    ConnectionLost,
    End,
    EngineFailed,
    EngineProps,
    HealthReport,
    HealthState,
    InvalidRequest,
    ModelHealth,
    ModelNotFound,
    ModelProps,
    NotReady,
    Overloaded,
    PermissionDenied,
    Started,
    StreamIncomplete,
    TaskRequest,
    Token,
    TokenEvent,
    Unauthenticated,
    Unsupported,
    Usage,
    WorkerAdapter,
)
from adapter_kit.stops import StopCutter

CAPABILITIES = frozenset(
    {
        Capability.TEXT, Capability.MESSAGES, Capability.STREAMING, Capability.CANCEL_HARD, Capability.USAGE,
        Capability.FINISH_REASON, Capability.SEED, Capability.STOP, Capability.LOGPROBS,
    }
)  # fmt: skip
OPTIONS = ("max_tokens", "temperature", "top_p", "top_k", "seed", "stop")
UNHEARD = ("min_tokens", "presence_penalty", "frequency_penalty", "repetition_penalty")
ERRORS: dict[int, type[AdapterError]] = {
    400: InvalidRequest, 401: Unauthenticated, 403: PermissionDenied, 404: ModelNotFound, 429: Overloaded,
    503: NotReady,
}  # fmt: skip


class LyreAdapter(WorkerAdapter):
    engine = "lyre"

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url, token
        self._in_flight = 0

    async def _open(self) -> None:
        self._client = httpx.AsyncClient(
            base_url=self._url, trust_env=False, timeout=httpx.Timeout(5, read=None),
            headers={"Authorization": f"Bearer {self._token}"}, limits=httpx.Limits(max_connections=None),
        )  # fmt: skip

    async def _close(self) -> None:
        if hasattr(self, "_client"):
            await self._client.aclose()

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        self._check(task)
        index, stops = 0, StopCutter(task.stop)
        self._in_flight += 1
        try:
            async with self._asking("POST", "/generate", json=self._question(task)) as answer:
                async for event in self._events(answer):
                    if "version" in event:
                        yield Started(
                            job_id=task.job_id, engine="lyre", engine_version=event["version"], model=task.model
                        )
                    elif "error" in event:
                        raise EngineFailed("the lyre failed while it played; try again")
                    elif "done" in event:
                        if rest := stops.finish():
                            yield Token(index, rest, logprob=None if task.logprobs is None else 0.0)
                        usage = Usage(tokens_in=event["tokens_in"], tokens_out=event["tokens_out"])
                        yield End(finish_reason=event["done"], usage=usage)
                        return
                    elif (text := stops.feed(event["token"])) or task.logprobs is not None:
                        yield Token(index, text, logprob=None if task.logprobs is None else event["logprob"])
                        index += 1
            raise StreamIncomplete("the lyre fell silent before it said that it had ended")
        finally:
            self._in_flight -= 1

    def _check(self, task: TaskRequest) -> None:
        if missing := task.needs - CAPABILITIES:
            raise Unsupported(f"a lyre cannot take {', '.join(sorted(missing))}")
        for name in task.parameters_for(self.engine):
            raise InvalidRequest(f"a lyre has no parameter {name!r}")
        for name in UNHEARD:
            if getattr(task, name) is not None:
                raise Unsupported(f"a lyre does not heed {name!r}; leave it out")
        if task.logprobs:
            raise Unsupported("a lyre tells no alternatives: set `logprobs` to 0")

    def _question(self, task: TaskRequest) -> dict[str, Any]:
        messages = [{"role": message.role, "text": message.text} for message in task.messages or ()]
        options = {name: value for name in OPTIONS if (value := getattr(task, name)) is not None}
        return {
            "model": task.model, "version": task.model_version, "options": options,
            "messages": messages or [{"role": "user", "text": task.prompt}],
        }  # fmt: skip

    async def _events(self, answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    @asynccontextmanager
    async def _asking(self, method: str, path: str, **fields: Any) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream(method, path, **fields) as answer:
                if answer.status_code != 200:
                    error = ERRORS.get(answer.status_code, EngineFailed)(f"the lyre refused with {answer.status_code}")
                    if wait := answer.headers.get("retry-after"):
                        error.retry_after_s = float(wait)
                    raise error
                yield answer
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            raise ConnectFailed(f"no lyre at {self._url}; start one") from exc
        except httpx.HTTPError as exc:
            raise ConnectionLost(f"the lyre at {self._url} was lost") from exc

    async def _health(self, *, canary: bool) -> HealthReport:
        ready = (await self._get("/ready"))["ready"]
        models = (await self._get("/models"))["models"]
        return HealthReport(
            state=HealthState.READY if ready else HealthState.STARTING, live=True, ready=ready,
            models=tuple(ModelHealth(name=name, ready=ready) for name in models),
            capacity=Capacity(in_flight=self._in_flight), detail="" if ready else "the lyre is being tuned",
        )  # fmt: skip

    async def _props(self) -> EngineProps:
        told = await self._get("/models")
        models = tuple(ModelProps(name=name, capabilities=CAPABILITIES) for name in told["models"])
        return EngineProps(
            engine="lyre", engine_version=told["version"], capabilities=CAPABILITIES, models=models,
        )  # fmt: skip

    async def _cancel(self, job_id: str) -> CancelReceipt:
        # The guard closes `_submit` next, and with it the connection: that is what a lyre listens to.
        return CancelReceipt(found=True, sent=True, mode="hard")

    async def _get(self, path: str) -> Any:
        async with self._asking("GET", path) as answer:
            return json.loads(await answer.aread())

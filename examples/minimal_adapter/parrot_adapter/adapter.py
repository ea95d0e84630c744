"""Speaks to a parrot: one question as a line of JSON over TCP, its answer as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import BaseModel, ConfigDict

import adapter_api as api
from parrot_adapter.plugin import worker_adapter_register

CAPABILITIES = worker_adapter_register().capabilities
UNHEARD = (
    "model_version", "min_tokens", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty",
    "repetition_penalty",
)  # fmt: skip
ERRORS = {"unknown parrot": api.ModelNotFound, "busy": api.Overloaded, "tired": api.EngineFailed}


class ParrotSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "parrot://127.0.0.1:7007"


class ParrotAdapter(api.WorkerAdapter):
    engine = "parrot"

    def __init__(self, settings: ParrotSettings) -> None:
        self._host, _, port = settings.url.removeprefix("parrot://").partition(":")
        self._port = int(port)
        self._in_flight = 0

    async def _submit(self, task: api.TaskRequest) -> AsyncGenerator[api.TokenEvent]:
        if missing := task.needs - CAPABILITIES:
            raise api.Unsupported(f"a parrot cannot take {', '.join(sorted(missing))}")
        for name in task.parameters_for(self.engine):
            raise api.InvalidRequest(f"a parrot has no parameter {name!r}")
        for name in UNHEARD:
            if getattr(task, name) is not None:
                raise api.Unsupported(f"a parrot does not heed {name!r}; leave it out")
        question = {"parrot": task.model, "say": task.prompt, "words": task.max_tokens or 16}
        self._in_flight += 1
        try:
            async with aclosing(self._ask(question)) as lines:
                async for line in lines:
                    if "began" in line:
                        yield api.Started(job_id=task.job_id, engine="parrot", engine_version="1.0", model=task.model)
                    elif "word" in line:
                        yield api.Token(line["index"], line["word"])
                    elif "done" in line:
                        usage = api.Usage(tokens_in=line["heard"], tokens_out=line["said"])
                        yield api.End(finish_reason=line["done"], usage=usage)
        finally:
            self._in_flight -= 1

    async def _health(self, *, canary: bool) -> api.HealthReport:
        parrots = await self._parrots()
        return api.HealthReport(
            state=api.HealthState.READY if parrots else api.HealthState.STARTING, live=True, ready=bool(parrots),
            models=tuple(api.ModelHealth(name=name, ready=True) for name in parrots),
            capacity=api.Capacity(in_flight=self._in_flight), detail="" if parrots else "every parrot is asleep",
        )  # fmt: skip

    async def _props(self) -> api.EngineProps:
        models = tuple(api.ModelProps(name=name, capabilities=CAPABILITIES) for name in await self._parrots())
        return api.EngineProps(engine="parrot", engine_version="1.0", capabilities=CAPABILITIES, models=models)

    async def _cancel(self, job_id: str) -> api.CancelReceipt:
        # The guard closes `_submit` next, and with it the connection: that is what a parrot listens to.
        return api.CancelReceipt(found=True, sent=True, mode="hard")

    async def _parrots(self) -> list[str]:
        async with aclosing(self._ask({"who": True})) as lines:
            return [name async for line in lines for name in line["parrots"]]

    async def _ask(self, question: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yield the lines of the answer. A connection of its own for each question: closing it stops the parrot."""
        try:
            connection = await anyio.connect_tcp(self._host, self._port)
        except OSError as exc:
            raise api.ConnectFailed(f"no parrot at {self._host}:{self._port}; start one") from exc
        try:
            lines = BufferedByteReceiveStream(connection)
            await connection.send(json.dumps(question).encode() + b"\n")
            while "last" not in (line := json.loads(await lines.receive_until(b"\n", 65536))):
                if "error" in line:
                    raise ERRORS[line["error"]](f"the parrot {question.get('parrot')!r} says: {line['error']}")
                yield line
        except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead) as exc:
            raise api.ConnectionLost(f"the parrot at {self._host}:{self._port} flew away") from exc
        finally:
            await anyio.aclose_forcefully(connection)

"""The attempt: from the task to the head of an answer. Until then it is tried again where nothing can have happened."""

from __future__ import annotations

import asyncio
import re
from time import perf_counter

from adapter_api import (
    AdapterError,
    Capability,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Started,
    TaskRequest,
    Unsupported,
)
from adapter_kit.http import HttpAnswer
from adapter_kit.http.exchange import Exchange
from adapter_kit.retries import Retries
from adapter_kit.watchdog import Watchdog
from openai_adapter.engine.engine import FACE_OF, Engine
from openai_adapter.engine.facts import Facts
from openai_adapter.wire.errors import BODY_LIMIT, Said, error_for, read_body
from openai_adapter.wire.request import RUNNING, Body, Kind, make_body, private, quotable

_EXTRAS = (RUNNING, "stream_options")
"""Fields that some engine refuses and that an answer can do without: the inner one first."""
_BARE = frozenset({"", "not found", "404 page not found"})
_ABOUT_IMAGES = re.compile(r"image|multimodal|multi-modal|vision|mmproj", re.IGNORECASE)


class Attempt:
    """Gets one task to its engine: `prepare`, `send`, `answer`, in this order; `leave` at the end, in any case."""

    body: Body
    watch: Watchdog

    def __init__(self, engine: Engine, task: TaskRequest) -> None:
        self.engine = engine
        self.task = task
        self.what = engine.what(task.model)
        """The model, as messages name it."""
        self.sent = False
        """Whether the engine may have the task."""
        self.submitted = perf_counter()
        self._total_s = task.timeout_s if task.timeout_s is not None else engine.settings.timeout_s
        self._retries = Retries(engine.settings.max_retries)
        self.needs = task.needs
        self._ends = 0.0
        self._exchange: Exchange | None = None
        self._answer: HttpAnswer | None = None

    async def prepare(self) -> Started:
        """Find out whether the engine takes the task, make the request, and return the task's first event."""
        loop, engine, task = asyncio.get_running_loop(), self.engine, self.task
        # What is left of the time counts from `submit`, not from the first read.
        self._ends = loop.time() + self._total_s - (perf_counter() - self.submitted)
        # What it told before takes no time, and needs none to be watched.
        facts, version = engine.remembered(task.model) or await self._asked()
        self._refuse_what_is_known(facts)
        self.body = make_body(
            task,
            facts.takes,
            max_tokens_field=engine.settings.max_tokens_field,
            extra_fields=engine.settings.extra_fields,
        )
        return Started(
            job_id=task.job_id, engine="openai", engine_version=version, model=task.model,
            pool_id=engine.settings.pool_id, replica_id=engine.settings.replica_id, seed=task.seed,
        )  # fmt: skip

    def send(self) -> None:
        """Watch the time from now on: the request goes out when the answer is asked for."""
        settings = self.engine.settings
        self.watch = Watchdog(
            self._expire, first_token_s=self._patience_s, inter_token_s=settings.inter_token_timeout_s,
            ends=self._ends, total_s=self._total_s,
        )  # fmt: skip
        self.watch.start()
        self.sent = True

    async def answer(self) -> HttpAnswer:
        """Return the answer once its head is there and is no refusal; tries again as long as nothing came back."""
        self.watch.waiting_since = asyncio.get_running_loop().time()
        while True:
            try:
                answer = await self._enter()
                if answer.status == 200:
                    return answer
                raise await self._refusal(answer)
            except AdapterError as exc:
                error = self.read_error(exc)
                if error is exc and (self._gives_way(exc) or await self._retries.again(exc, ends=self._ends)):
                    await self.leave()
                    continue
                raise error from error.__cause__

    def read_error(self, error: AdapterError) -> AdapterError:
        """Return what a read that failed comes to: the deadline that ran out, if one did, and else `error` itself."""
        watch = self.watch
        if watch.stage is None and isinstance(error, DeadlineExceeded) and error.stage in ("first_token", "total"):
            watch.stage = error.stage
        if watch.stage is None:
            return error
        late = watch.error(self.what)
        late.__cause__ = error
        return late

    def refused(self, status: int | None, said: Said, headers: dict[str, str] | None = None) -> AdapterError:
        """Return what the engine's words mean."""
        hide = (*private(self.task), *self.engine.credentials.secrets())
        error = error_for(status, said, what=self.what, headers=headers, hide=hide, theirs=quotable(self.task))
        if isinstance(error, Unsupported) and self.task.images and _ABOUT_IMAGES.search(error.message):
            for form in self.task.needs & {Capability.IMAGES, Capability.IMAGE_URLS}:
                self.engine.learn(self.task.model, form, has=False)
        return error

    async def leave(self) -> None:
        """Give the connection back; it is closed, and the engine sees its client go, unless the answer was over."""
        exchange, self._exchange, self._answer = self._exchange, None, None
        if exchange is not None:
            await exchange.__aexit__(None, None, None)

    # -- inside -------------------------------------------------------------------------------------------------------

    async def _asked(self) -> tuple[Facts, str | None]:
        """Return what the engine tells of itself and its version, once it is known to have the model."""
        engine = self.engine
        while True:
            try:
                async with asyncio.timeout_at(self._ends):
                    await engine.require_model(self.task.model)
                    return await engine.facts(), await engine.version()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"{self.what}: the engine did not describe itself within the task's {self._total_s:g} s",
                    stage="total",
                ) from None
            except AdapterError as exc:
                if not await self._retries.again(exc, ends=self._ends):
                    raise

    async def _enter(self) -> HttpAnswer:
        engine = self.engine
        now = asyncio.get_running_loop().time()
        since = self.watch.waiting_since or now
        headers = [
            *engine.credentials.headers(),
            ("Content-Type", "application/json"),
            ("Accept", "text/event-stream, application/json"),
            ("X-Request-Id", self.task.job_id),
            *self.task.trace_headers,
        ]
        exchange = engine.client.stream(
            "POST", engine.address.api + self.body.path, headers=headers,
            body=self.body.encode(without=engine.refused),
            timeout_s=max(self._ends - now, 0.001),
            headers_s=max(since + self._patience_s - now, 0.001),
        )  # fmt: skip
        self._answer = await exchange.__aenter__()
        self._exchange = exchange
        return self._answer

    async def _refusal(self, answer: HttpAnswer) -> AdapterError:
        patience = asyncio.get_running_loop().call_later(self.engine.settings.control_timeout_s, answer.abort)
        parts: list[bytes] = []
        try:
            while sum(map(len, parts)) < BODY_LIMIT and (data := await answer.next_chunk()):
                parts.append(data)
        except AdapterError:
            pass  # what came of it has to do
        finally:
            patience.cancel()
        said = read_body(b"".join(parts))
        if answer.status in (404, 405):
            return await self._missing(answer.status, said)
        return self.refused(answer.status, said, dict(answer.headers))

    async def _missing(self, status: int, said: Said) -> AdapterError:
        """Tell what is missing, the model or the path: not every engine says it, but it may list the model."""
        engine = self.engine
        listed = await engine.lists(self.task.model)
        if listed:
            engine.learn(self.task.model, FACE_OF[self.body.kind], has=False)
            return Unsupported(f"{self.what}: the engine has no {engine.address.api}{self.body.path} for it")
        if listed is None and said.message.strip().lower() in _BARE:
            return ModelNotFound(
                f"{self.what}: the engine has not both this model and {engine.address.api}{self.body.path}"
            )
        return self.refused(status, said)

    def _gives_way(self, error: AdapterError) -> bool:
        """Whether the engine refuses a field that can be left out: then it is, from now on."""
        if not isinstance(error, InvalidRequest | Unsupported):
            return False
        for name in _EXTRAS:
            if name in error.message and name not in self.engine.refused:
                self.engine.refused |= {name}
                return True
        return False

    def _refuse_what_is_known(self, facts: Facts) -> None:
        engine, task = self.engine, self.task
        kind: Kind = "completion" if task.messages is None else "chat"
        for capability in self.needs:
            knows = engine.learnt(task.model, capability)
            if knows is None and capability not in engine.settings.honours:
                knows = facts.tells(capability, kind)
            if knows is False:
                raise Unsupported(f"{self.what} does not take {capability}, as it said when it was tried or asked")

    @property
    def _patience_s(self) -> float:
        """How long the first output may take: of an answer that comes whole it is all of it."""
        if self.task.prompt_logprobs is not None:
            return self._total_s
        return self.engine.settings.first_token_timeout_s

    def _expire(self) -> None:
        if self._answer is not None:
            self._answer.abort()

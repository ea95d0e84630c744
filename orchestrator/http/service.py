"""What every face needs: the orchestrator, who asks, and one way to take a task in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from adapter_api import TaskRequest, TokenEvent, TokenStream
from orchestrator.config import HostSettings
from orchestrator.host import Orchestrator
from orchestrator.http.guard import Client, Guard
from orchestrator.http.header import header_of
from orchestrator.http.one_call import first_call_only
from orchestrator.http.pending import Pending, Share
from orchestrator.http.reading import coding_of, inflate, parse_object
from orchestrator.http.session_header import session
from orchestrator.http.turned_away import TurnedAway
from orchestrator.http.unknown_fields import UnknownFields
from orchestrator.pools.fleet import ReloadReport
from orchestrator.pools.prompts import Prompts
from orchestrator.sessions.conversation import Conversations
from orchestrator.sessions.responses import Responses
from orchestrator.work.journal import Journal
from orchestrator.work.journal_responses import ResponseFile
from orchestrator.work.keep import KeptTasks

T = TypeVar("T")

_LITTLE = 2**15
"""Bytes that are dealt with in less time than a thread takes to start."""
_PARSERS = 2
"""Bodies that are dealt with at a time, beside the event loop: more only get in each other's way."""


class Service:
    """One per host; the faces find it by `service_of(request)`."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        settings: HostSettings,
        conversations: Conversations,
        reload: Callable[[], Awaitable[ReloadReport]] | None,
        journal: Journal | None = None,
    ) -> None:
        self.orchestrator = orchestrator
        self.settings = settings.server
        self.conversations = conversations
        file = ResponseFile(journal) if journal is not None else None
        self.responses = Responses(settings.responses, monotonic, file)
        self.unknown_fields = UnknownFields(refuse=settings.server.unknown_fields == "refuse", clock=monotonic)
        self.guard = Guard(settings.server)
        self.turned_away = TurnedAway(orchestrator.metrics)
        limits = settings.server.limits
        self.kept = KeptTasks(
            tasks=limits.keep_tasks,
            events=limits.keep_events,
            task_bytes=limits.keep_task_bytes,
            all_bytes=limits.keep_bytes,
            keep_s=limits.keep_s,
            journal=journal,
            status_of=orchestrator.task,
        )
        self.pending = Pending(limits.max_pending_bytes)
        self._beside = anyio.CapacityLimiter(_PARSERS)
        self.closing = anyio.Event()
        """Set when the host is about to close: what would stream for ever ends."""
        self.hurry = anyio.Event()
        """Set when tasks shall not be waited for any longer."""
        self.reload = reload
        """Reads the settings' file again and goes over to it; `None` when the host has none."""

    async def beside(self, work: Callable[[], T], size: int | None = None) -> T:
        """Return what `work` returns, which runs in a thread unless there is little to do: `size` bytes or so."""
        if size is not None and size <= _LITTLE:
            return work()
        return await anyio.to_thread.run_sync(work, limiter=self._beside)

    def sweep(self) -> None:
        """Forget what is too old to be kept, though nobody asks for it."""
        self.kept.forget_old()
        self.conversations.histories.forget_old()
        self.responses.forget_old()

    async def accept(
        self,
        task: TaskRequest,
        client: Client,
        *,
        history: bool = False,
        share: Share | None = None,
        prompts: Prompts | None = None,
        comes_again: bool = False,
        one_call: bool = False,
    ) -> AcceptedTask:
        """Take a task in, of a request that was counted; raises `AdapterError` or `Refused` when it is not even
        queued. `prompts` are those of a task of the request that says the same; one that `comes_again` where there is
        no room is not told as refused; with `one_call` the answer has one tool call at most."""
        client.require_model(task.model)
        if task.session_id is None and (named := session.get()) is not None:
            task = task.model_copy(update={"session_id": named})
        ready = self.conversations.prepare(task, client.name, history=history)
        stream = await self.orchestrator.admit(
            ready, owner=client.name, held=share, prompts=prompts, comes_again=comes_again
        )
        return AcceptedTask(self, task, stream, client, history=history, one_call=one_call)


class AcceptedTask:
    """A task that has its place. Read `batches` and call `close`, whatever happens."""

    def __init__(
        self, service: Service, task: TaskRequest, stream: TokenStream, client: Client, *, history: bool, one_call: bool
    ) -> None:
        self.task = task
        self.stream = stream
        self.client = client
        self._service = service
        self._history = history
        self._one_call = one_call

    @property
    def batches(self) -> AsyncIterator[list[TokenEvent]]:
        batches = self.stream.batches()
        if self._one_call:
            batches = first_call_only(batches)
        if self._history:
            return self._service.conversations.remembering(batches, self.task, self.client.name)
        return batches

    @property
    def headers(self) -> dict[str, str]:
        """What is known on arrival, for the head of the answer: `started` comes with the first token only."""
        headers = {"X-Job-Id": self.task.job_id}
        place = self._service.orchestrator.place_of(self.task.job_id)
        if place is not None:
            position, predicted_ms = place
            if position is not None:
                headers["X-Queue-Position"] = str(position)
            if predicted_ms is not None:
                headers["X-Predicted-Start-Ms"] = f"{predicted_ms:.0f}"
        return headers

    async def close(self) -> None:
        """Cancel what still runs, and count the tokens against the client's share."""
        self.client.count_tokens(self.stream.outputs)
        await self.stream.aclose()


def service_of(request: Request) -> Service:
    found: Service = request.scope["state"]["service"]
    return found


def share_of(request: Request) -> Share:
    """Return what counts the bytes that the request makes the host hold."""
    found: Share = request.scope["state"]["share"]
    return found


def client_of(request: Request) -> Client:
    """Return who sent the request; `app.py` has let them in already."""
    found: Client = request.scope["state"]["client"]
    return found


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body, which must be one JSON object; raises `InvalidRequest` or `Refused`."""
    return await read_json(request, lambda fields: fields)


async def read_json(request: Request, make: Callable[[dict[str, Any]], T], *, numbers: int = 0) -> T:
    """Return what `make` makes of the body, which must be one JSON object; raises `InvalidRequest` or `Refused`.

    `numbers` are how many values it may have beyond the setting's, if they are numbers: token ids.
    """
    values = service_of(request).settings.limits.max_json_values
    return await read_body(request, lambda body: make(parse_object(body, values=values, numbers=numbers)))


async def read_body(request: Request, make: Callable[[bytes], T]) -> T:
    """Return what `make` makes of the body as it was before the client compressed it.

    A large body is unpacked, and `make` runs, in a thread beside the event loop, which others are served by.

    Raises:
        InvalidRequest: It is not what `Content-Encoding` says, or `make` raises it.
        Refused: It is too large or too slow.
    """
    service = service_of(request)
    coding = coding_of(header_of(request.scope, b"content-encoding"))
    body = await _body_of(request)
    if coding is None:
        return make(body) if len(body) <= _LITTLE else await service.beside(lambda: make(body))
    limits, share = service.settings.limits, share_of(request)

    def unpacked() -> T:
        return make(inflate(body, coding, limits.max_body_bytes, ratio=limits.max_inflation, take=share.take))

    return await service.beside(unpacked)


async def _body_of(request: Request) -> bytes:
    """Return the body; raises `ClientDisconnect` when the client leaves before its end."""
    message = await request.receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole
    pieces: list[bytes] = []
    while message["type"] == "http.request":
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)
        message = await request.receive()
    raise ClientDisconnect

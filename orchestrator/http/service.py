"""What every face needs: the orchestrator, who asks, and one way to take a task in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import anyio
from starlette.requests import Request

from adapter_api import TaskRequest, TokenEvent, TokenStream
from orchestrator.config import HostSettings
from orchestrator.host import Orchestrator
from orchestrator.http.guard import Client, Guard
from orchestrator.http.reading import inflate, parse_object
from orchestrator.pools.fleet import ReloadReport
from orchestrator.sessions.conversation import Conversations
from orchestrator.work.journal import Journal
from orchestrator.work.keep import KeptTasks


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
        self.guard = Guard(settings.server.api_keys)
        limits = settings.server.limits
        self.kept = KeptTasks(
            tasks=limits.keep_tasks, events=limits.keep_events, keep_s=limits.keep_s, journal=journal,
            status_of=orchestrator.task,
        )  # fmt: skip
        self.closing = anyio.Event()
        """Set when the host is about to close: what would stream for ever ends."""
        self.hurry = anyio.Event()
        """Set when tasks shall not be waited for any longer."""
        self.reload = reload
        """Reads the settings' file again and goes over to it; `None` when the host has none."""

    def accept(self, task: TaskRequest, client: Client, *, history: bool = False) -> AcceptedTask:
        """Take a task in; raises `AdapterError` or `Refused` when it is not even queued."""
        client.require_model(task.model)
        client.count_request()
        ready = self.conversations.prepare(task, client.name, history=history)
        stream = self.orchestrator.accept(ready, owner=client.name)
        return AcceptedTask(self, task, stream, client, history)


class AcceptedTask:
    """A task that has its place. Read `batches` and call `close`, whatever happens."""

    def __init__(self, service: Service, task: TaskRequest, stream: TokenStream, client: Client, history: bool) -> None:
        self.task = task
        self.stream = stream
        self.client = client
        self._service = service
        self._history = history

    @property
    def batches(self) -> AsyncIterator[list[TokenEvent]]:
        batches = self.stream.batches()
        if self._history:
            return self._service.conversations.remembering(batches, self.task, self.client.name)
        return batches

    @property
    def headers(self) -> dict[str, str]:
        """What is known on arrival, for the head of the answer: `started` comes with the first token only."""
        status = self._service.orchestrator.task(self.task.job_id)
        headers = {"X-Job-Id": self.task.job_id}
        if status is not None and status.queue_position is not None:
            headers["X-Queue-Position"] = str(status.queue_position)
        if status is not None and status.predicted_start_ms is not None:
            headers["X-Predicted-Start-Ms"] = f"{status.predicted_start_ms:.0f}"
        return headers

    async def close(self) -> None:
        """Cancel what still runs, and count the tokens against the client's share."""
        self.client.count_tokens(self.stream.tokens)
        await self.stream.aclose()


def service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


def client_of(request: Request) -> Client:
    """Return who sent the request; `app.py` has let them in already."""
    return cast(Client, request.state.client)


async def json_object(request: Request) -> dict[str, Any]:
    """Return the body, which must be one JSON object; raises `InvalidRequest`."""
    return parse_object(await read_body(request))


async def read_body(request: Request) -> bytes:
    """Return the body as it was before the client compressed it; raises `InvalidRequest` or `Refused`."""
    body = await request.body()
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    return body if coding == "identity" else inflate(body, coding, service_of(request).settings.limits.max_body_bytes)

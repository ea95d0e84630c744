"""The task API: submit and stream, look, cancel, resume."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from adapter_api import Error, InvalidRequest, TaskRequest, TokenEvent
from adapter_api.bounds import MAX_PROMPT_TOKENS
from orchestrator.config import ServerSettings
from orchestrator.http import bodies
from orchestrator.http.answers import Batches, StreamingAnswer
from orchestrator.http.problems import Refused
from orchestrator.http.reading import trace_of, whole_number
from orchestrator.http.service import client_of, read_json, service_of, share_of
from orchestrator.http.sse import task_frames
from orchestrator.pools.status import TaskStatus
from orchestrator.work.keep import EventLog, KeptTasks, Numbered

router = APIRouter(tags=["tasks"])

_SETTLE_S = 1.0
"""How long a receipt may wait for a slow disk."""


class TaskEvents(StreamingAnswer):
    """`event: started|token|reasoning|tool_call|metrics|end|error`, with `id:` lines that count from 0."""

    _next_id = 0

    def encode(self, batch: list[TokenEvent]) -> bytes:
        frames = task_frames(batch, self._next_id)
        self._next_id += len(batch)
        return frames


@router.post("/v2/tasks", openapi_extra=bodies.TASK)
async def submit(request: Request) -> Response:
    """Run a task and stream its events. Leaving cancels it, unless it came with `on_disconnect: keep`."""
    service, client = service_of(request), client_of(request)
    client.count_request()
    parse = partial(_parse, trace=trace_of(request.headers))
    task, keep, history = await read_json(request, parse, numbers=MAX_PROMPT_TOKENS)
    if keep:
        _require_room(service.kept)
    accepted = await service.accept(task, client, history=history, share=share_of(request))
    headers = accepted.headers
    if keep:
        try:
            _require_room(service.kept)  # others may have come while this one's messages were rendered
        except Refused:
            await accepted.close()
            raise
        share = share_of(request)
        share.hold()

        async def close() -> None:
            share.release()
            await accepted.close()

        log = await service.kept.start(task.job_id, client.name, accepted.batches, close)
        return _answer(log, 0, service.settings, headers)
    return TaskEvents(accepted.batches, accepted.close, service.settings, headers)


@router.get("/v2/tasks/{job_id}")
async def look(request: Request, job_id: str) -> Response:
    """Return how a task is, or how it ended."""
    return _json(await _status(request, job_id))


@router.get("/v2/tasks")
async def look_at_all(request: Request) -> Response:
    """Return the live tasks that the client may see."""
    client = client_of(request)
    tasks = service_of(request).orchestrator.live_tasks
    return _json({"tasks": [task for task in tasks if client.may_see(task.owner)]})


@router.delete("/v2/tasks/{job_id}")
async def cancel(request: Request, job_id: str) -> Response:
    """Cancel a task and return the receipt; 404 when no such task is known."""
    await _status(request, job_id)
    service = service_of(request)
    receipt = await service.orchestrator.cancel(job_id)
    # What a kept task said last may still be on its way through the journal; nothing shall be shown after the receipt.
    with anyio.move_on_after(_SETTLE_S):
        await service.kept.wait_until_ended(job_id)
    return _json(receipt)


@router.get("/v2/tasks/{job_id}/events")
async def resume(request: Request, job_id: str) -> Response:
    """Stream the events of a task that is kept, after the one whose id is in `Last-Event-ID`."""
    service = service_of(request)
    log = await service.kept.get(job_id)
    if log is None or not client_of(request).may_see(log.owner):
        await _status(request, job_id)
        raise Refused("gone", f"task {job_id!r} is not kept: only tasks with on_disconnect: keep can be resumed")
    start = _after(request.headers.get("last-event-id"))
    if start > log.written:
        raise InvalidRequest(f"Last-Event-ID is not the id of an event of task {job_id!r}, which had {log.written}")
    if start == log.written and log.ended_at is not None:
        return Response(status_code=204)  # an EventSource that has read it all stops asking
    if start < log.first:
        raise Refused("gone", f"events before {log.first} of task {job_id!r} are no longer kept")
    return _answer(log, start, service.settings, {"X-Job-Id": job_id})


@router.get("/v2/sessions/{session_id}")
async def look_at_history(request: Request, session_id: str) -> Response:
    """Return how many turns of a session are remembered."""
    turns = service_of(request).conversations.histories.turns(client_of(request).name, session_id)
    return _json({"session_id": session_id, "turns": len(turns)})


@router.delete("/v2/sessions/{session_id}")
async def clear_history(request: Request, session_id: str) -> Response:
    """Forget a session's conversation, and which replica served it."""
    service = service_of(request)
    turns = service.conversations.histories.clear(client_of(request).name, session_id)
    service.orchestrator.forget_session(session_id, owner=client_of(request).name)
    return _json({"session_id": session_id, "turns": turns})


def _parse(fields: dict[str, Any], trace: dict[str, str]) -> tuple[TaskRequest, bool, bool]:
    """Return the task, whether it is kept, and whether it has a history."""
    keep = _choice(fields, "on_disconnect", ("cancel", "keep")) == "keep"
    history = _flag(fields, "history")
    if "traceparent" not in fields:
        fields = {**trace, **fields}
    return TaskRequest.parse(fields), keep, history


def _require_room(kept: KeptTasks) -> None:
    if kept.full:
        raise Refused(
            "overloaded",
            "too many tasks are kept for clients that left (server.limits.keep_tasks); try again later",
            retry_after_s=5,
        )


def _answer(log: EventLog, start: int, settings: ServerSettings, headers: dict[str, str]) -> TaskEvents:
    answer = TaskEvents(_events(log.read(start)), _leave, settings, headers)
    answer._next_id = start
    return answer


async def _events(numbered: AsyncIterator[Numbered]) -> Batches:
    try:
        async for _, events in numbered:
            yield events
    except LookupError as exc:  # a reader that fell behind what is kept
        yield [Error(code="gone", message=f"{exc}; ask for the task's status", retryable=False)]


async def _leave() -> None:
    """The task goes on without its reader."""


async def _status(request: Request, job_id: str) -> TaskStatus:
    service = service_of(request)
    status = service.orchestrator.task(job_id) or await service.kept.status(job_id)
    if status is None or not client_of(request).may_see(status.owner):
        raise Refused("not_found", f"no task {job_id!r} is known here")
    return status


def _after(last_event_id: str | None) -> int:
    if last_event_id is None or last_event_id == "":
        return 0
    number = whole_number(last_event_id)
    if number is None:
        raise InvalidRequest("Last-Event-ID is not the id of an event: a number")
    return number + 1


def _choice(fields: dict[str, Any], name: str, choices: tuple[str, ...]) -> str:
    value = fields.pop(name, choices[0])
    if value not in choices:
        raise InvalidRequest(f"invalid task: {name}: must be one of {', '.join(choices)}")
    return str(value)


def _flag(fields: dict[str, Any], name: str) -> bool:
    value = fields.pop(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"invalid task: {name}: must be true or false")
    return value


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")

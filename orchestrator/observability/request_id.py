"""The id of the request that is being answered: in each record of the log, and with each task that it submitted."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

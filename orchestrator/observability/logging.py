"""Logs as JSON lines, one per event, with secrets blotted out. Used by a host that serves; a library logs nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, MutableMapping
from typing import Any, TextIO

import structlog

from orchestrator.config import LogSettings
from orchestrator.observability.request_id import request_id

BLOT = "***"
LONGEST_TEXT = 2000
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_FOREIGN = ("uvicorn", "uvicorn.error", "httpx", "httpcore", "asyncio")


class Redaction:
    """A structlog processor that blots out every known secret, wherever it stands in a record."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if self._secrets:
            for key, value in event.items():
                event[key] = self._clean(value)
        return event

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, BLOT)
            return value
        if isinstance(value, dict):
            return {key: self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return value


def _shorten(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut long texts: a name that a client made up may have megabytes."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            event[key] = f"{value[:LONGEST_TEXT]}… ({len(value)} characters)"
    return event


def _on_one_line(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Spell out control characters, lest a name that a client made up look like a record or colour the terminal."""
    return {key: value.translate(_CONTROLS) if isinstance(value, str) else value for key, value in event.items()}


class _Forgiving(logging.StreamHandler[TextIO]):
    """A log that cannot be written, on a full disk for one, must not stop the service nor fill standard error."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def configure_logging(settings: LogSettings, secrets: Collection[str] = (), stream: TextIO | None = None) -> None:
    """Send all log records of this process to `stream` (standard error), as the settings say. Calling it again replaces
    what the last call set up."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        _name_request,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_json = settings.format == "json"
    text = [_on_one_line, structlog.dev.ConsoleRenderer(colors=False)]
    render: list[Any] = [structlog.processors.JSONRenderer()] if as_json else text
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _without_locals,
            Redaction(secrets),
            _shorten,
            *render,
        ],
    )
    handler = _Forgiving(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    before = [each for each in root.handlers if isinstance(each, _Forgiving)]
    root.addHandler(handler)  # first, so that no record of another thread is lost
    for old in before:
        root.removeHandler(old)
    root.setLevel(settings.level.upper())
    for name in _FOREIGN:  # they tell every request, and we tell every task
        logging.getLogger(name).setLevel(logging.WARNING)


def _name_request(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say during which request it was written, unless the record knows better: a task may end during another one."""
    if event.get("request_id", "") is None:
        del event["request_id"]
    elif "request_id" not in event and (named := request_id.get()) is not None:
        event["request_id"] = named
    return event


def _without_locals(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tell an exception by its type and place: its text may quote what a client sent."""
    exc_info = event.pop("exc_info", None)
    if isinstance(exc_info, tuple) and exc_info[0] is not None:
        event["exception"] = exc_info[0].__name__
        frames = []
        traceback = exc_info[2]
        while traceback is not None:
            code = traceback.tb_frame.f_code
            frames.append(f"{traceback.tb_frame.f_globals.get('__name__', '?')}:{traceback.tb_lineno} {code.co_name}")
            traceback = traceback.tb_next
        event["traceback"] = frames
    return event

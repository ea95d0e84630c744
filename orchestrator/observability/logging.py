"""Logs as JSON lines, one per event, with secrets blotted out. Used by a host that serves; a library logs nothing."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import msgspec

from orchestrator.config import LogSettings
from orchestrator.observability.request_id import request_id

BLOT = "***"
LONGEST_TEXT = 2000
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
_FOREIGN = ("uvicorn", "uvicorn.error", "httpx", "httpcore", "asyncio")
_OF_EVERY_RECORD = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_BARE = frozenset({type(None), bool, int, float})
"""Kinds of values that hold no text."""


class _Lines(logging.Formatter):
    """Makes one line of a record. Each task has one, so nothing here is done twice.

    Args:
        render: Makes a line of what a record says, by name.
        secrets: What is blotted out, wherever it stands in a record.
    """

    def __init__(self, render: Callable[[dict[str, Any]], str], secrets: Collection[str]) -> None:
        super().__init__()
        self._render = render
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._second, self._second_said = 0, ""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {"event": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        for name, value in record.__dict__.items():
            if name not in _OF_EVERY_RECORD:
                said[name] = value
        _name_request(said)
        said["timestamp"] = self._time_of(record.created)
        if record.exc_info is not None and record.exc_info[0] is not None:
            _tell_exception(said, record.exc_info[0], record.exc_info[2])
        for name, value in said.items():
            kind = type(value)
            if kind is str and not self._secrets:
                if len(value) > LONGEST_TEXT:
                    said[name] = _shortened(value)
            elif kind not in _BARE:
                said[name] = self._clean(value)
        return self._render(said)

    def _time_of(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._second, self._second_said = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._second_said}.{int((created - second) * 1e6):06d}Z"

    def _clean(self, value: Any, *, shorten: bool = True) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, BLOT)
            return _shortened(value) if shorten and len(value) > LONGEST_TEXT else value
        if isinstance(value, dict):
            return {
                self._clean(key if isinstance(key, str | int | float) else _described(key)): self._clean(
                    each, shorten=False
                )
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._clean(each, shorten=False) for each in value]
        if value is None or isinstance(value, int | float):
            return value
        return self._clean(_described(value), shorten=shorten)


class _Forgiving(logging.StreamHandler[TextIO]):
    """A log that cannot be written, on a full disk for one, must not stop the service nor fill standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        # As its base does, which takes its lock a second time for the flush.
        try:
            self.stream.write(self.format(record) + self.terminator)
            self.stream.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def configure_logging(settings: LogSettings, secrets: Collection[str] = (), stream: TextIO | None = None) -> None:
    """Send all log records of this process to `stream` (standard error), as the settings say. Calling it again replaces
    what the last call set up."""
    handler = _Forgiving(stream or sys.stderr)
    handler.setFormatter(_Lines(_as_json if settings.format == "json" else _as_text(), secrets))
    root = logging.getLogger()
    before = [each for each in root.handlers if isinstance(each, _Forgiving)]
    root.addHandler(handler)  # first, so that no record of another thread is lost
    for old in before:
        root.removeHandler(old)
    root.setLevel(settings.level.upper())
    # What no line shows need not be found out for each: https://docs.python.org/3/howto/logging.html#optimization
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in _FOREIGN:  # they tell every request, and we tell every task
        logging.getLogger(name).setLevel(logging.WARNING)


def _as_json(said: dict[str, Any]) -> str:
    try:
        line = msgspec.json.encode(said, enc_hook=repr).decode()
        if line.isascii():
            return line
    except (TypeError, ValueError, RecursionError):  # a name that is no text, or half a character
        pass
    return json.dumps(said, default=repr, skipkeys=True)  # in ASCII, which every terminal and file can take


def _as_text() -> Callable[[dict[str, Any]], str]:
    import structlog  # late: a host that logs JSON needs none of it

    render = structlog.dev.ConsoleRenderer(colors=False)

    def line(said: dict[str, Any]) -> str:
        """Spell out control characters, lest a name that a client made up look like a record or colour the
        terminal."""
        shown = {name: value.translate(_CONTROLS) if isinstance(value, str) else value for name, value in said.items()}
        return str(render(None, said["level"], shown))

    return line


def _name_request(said: dict[str, Any]) -> None:
    """Say during which request it was written, unless the record knows better: a task may end during another one."""
    if said.get("request_id", "") is None:
        del said["request_id"]
    elif "request_id" not in said and (named := request_id.get()) is not None:
        said["request_id"] = named


def _tell_exception(said: dict[str, Any], kind: type[BaseException], traceback: TracebackType | None) -> None:
    """Tell an exception by its type and place: its text may quote what a client sent."""
    said["exception"] = kind.__name__
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{traceback.tb_frame.f_globals.get('__name__', '?')}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    said["traceback"] = frames


def _described(value: Any) -> str:
    """Return what stands in a line for a value that has no form there. It must not cost the line, nor hide a secret."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _shortened(text: str) -> str:
    """Cut a long text: a name that a client made up may have megabytes."""
    return f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"

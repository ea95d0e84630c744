"""How the program ends, for scripts."""

from __future__ import annotations

from enum import IntEnum

from adapter_api import ConfigurationError, ConnectFailed, DeadlineExceeded, Error, InvalidRequest
from adapter_api.errors import PluginBroken, UnknownAdapter


class ExitCode(IntEnum):
    DONE = 0
    FAILED = 1
    """The task ended in an error; of `health`: the engine takes no work."""
    USAGE = 2
    """What was asked for is wrong, and nothing was sent."""
    UNREACHABLE = 3
    """Nothing that the adapter can speak to answers there."""
    CANCELLED = 130
    """Ctrl-C, SIGTERM, or the reader of the output went away."""


_USAGE = frozenset(error.code for error in (InvalidRequest, ConfigurationError, UnknownAdapter, PluginBroken))


def code_for_task(error: Error) -> ExitCode:
    """Return the exit code for a task that ended in `error`."""
    return ExitCode.UNREACHABLE if _is_unreachable(error) else ExitCode.FAILED


def code_for_command(error: Error) -> ExitCode:
    """Return the exit code for a command that ended in `error` before it had a task."""
    return ExitCode.USAGE if error.code in _USAGE else code_for_task(error)


def _is_unreachable(error: Error) -> bool:
    # An engine that does not even describe itself in time is as good as gone; one that is slow with a token is not.
    silent = error.code == DeadlineExceeded.code and error.stage in ("connect", "control", "health")
    return error.code == ConnectFailed.code or silent

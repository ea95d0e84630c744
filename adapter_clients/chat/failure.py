"""The error event of a task as the exception that it was."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_api import AdapterError, DeadlineExceeded, Error


def exception_of(error: Error) -> AdapterError:
    """Return the exception that `error` tells; of a code of its own, an `AdapterError` that names it."""
    if error.code == DeadlineExceeded.code:
        return DeadlineExceeded(
            error.message,
            stage=error.stage or "total",
            retryable=error.retryable,
            retry_after_s=error.retry_after_s,
        )
    kind = next((each for each in _kinds(AdapterError) if vars(each).get("code") == error.code), None)
    message = error.message if kind is not None else f"{error.code}: {error.message}"
    return (kind or AdapterError)(message, retryable=error.retryable, retry_after_s=error.retry_after_s)


def _kinds(base: type[AdapterError]) -> Iterator[type[AdapterError]]:
    for kind in base.__subclasses__():
        if kind.__module__ == AdapterError.__module__:
            yield kind
            yield from _kinds(kind)

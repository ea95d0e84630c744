"""What an author's methods give back and raise, held against what they owe.

The final methods of `WorkerAdapter` promise their callers types and errors of the contract. An author's method is a
stranger's code: what it owes is looked at here, once per call, and what is wrong becomes one error that names the
method and the fault: `protocol_violation` for what it returned, `adapter_failed` for what it raised.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from types import CoroutineType
from typing import Any, TypeVar

from adapter_api.errors import AdapterError, AdapterFailed, ProtocolViolation
from adapter_api.fields import flaw_of
from adapter_api.source import is_the_readers

T = TypeVar("T")


class WrongAnswer(ProtocolViolation):
    """An author's method returned what it may not."""


class Broke(AdapterFailed):
    """An author's method raised what it may not."""


async def answer_of(method: Callable[..., Any], kind: type[T], /, *args: Any, **kwargs: Any) -> T:
    """Call an author's coroutine method and return its answer, a `kind`.

    Raises:
        AdapterError: The method raised it, or broke; what is the affair of who calls, a cancellation, passes as it is.
    """
    task = asyncio.current_task() if asyncio._get_running_loop() is not None else None
    before = 0 if task is None else task.cancelling()
    name = method.__qualname__
    try:
        awaitable = method(*args, **kwargs)
        if type(awaitable) is not CoroutineType and not inspect.isawaitable(awaitable):
            await _dispose(awaitable)
            raise WrongAnswer(f"{name} returned {_a(awaitable)} and has to be a coroutine: `async def`, no yield")
        answer = await awaitable
    except BaseException as exc:
        cancelled = task is None or before > 0 or task.cancelling() > before
        if is_the_readers(exc, task, cancelled=cancelled):
            raise
        raise contract_error(exc, name) from exc.__cause__ if isinstance(exc, AdapterError) else exc
    if not isinstance(answer, kind):
        raise WrongAnswer(f"{name} returned {_a(answer)} and has to return {_a_type(kind)}")
    if (flaw := flaw_of(answer)) is not None:
        raise WrongAnswer(f"{name} returned {_a_type(kind)} whose {flaw}")
    return answer


def items_of(method: Callable[..., Any], /, *args: Any) -> AsyncIterator[Any]:
    """Call an author's generator method and return what is to be read.

    Raises:
        AdapterError: It raised at once, or returned something else than an asynchronous generator.
    """
    name = method.__qualname__
    try:
        source = method(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        raise contract_error(exc, name) from exc
    if callable(getattr(source, "__anext__", None)):
        return source  # type: ignore[no-any-return]
    if inspect.iscoroutine(source) or inspect.isgenerator(source):
        source.close()  # else the interpreter says that nobody awaited it
    raise WrongAnswer(f"{name} returned {_a(source)} and has to be an asynchronous generator: `async def` with yield")


def contract_error(exc: BaseException, name: str) -> AdapterError:
    """Return `exc` if it is a sound error of the contract, or else the `AdapterFailed` that says that `name` broke."""
    if not isinstance(exc, AdapterError):
        return Broke(f"{name} broke with {type(exc).__name__}: a bug in the adapter, not the caller's")
    if not is_sound(exc):
        return Broke(f"{name} raised a malformed {type(exc).__name__}: a bug in the adapter, not the caller's")
    return exc


def is_sound(exc: AdapterError) -> bool:
    """Return whether an error says what every error says: an author's class may have left it out."""
    said: list[tuple[str, Any]] = [("message", str), ("retryable", bool), ("code", str)]
    after: object = getattr(exc, "retry_after_s", None)
    return all(isinstance(getattr(exc, name, None), kind) for name, kind in said) and (
        after is None or isinstance(after, int | float)
    )


async def _dispose(value: object) -> None:
    if inspect.isgenerator(value):
        value.close()
    elif inspect.isasyncgen(value):
        await value.aclose()


def _a(value: object) -> str:
    if value is None:
        return "None"
    if inspect.iscoroutine(value):
        return "a coroutine"
    if inspect.isgenerator(value):
        return "a synchronous generator"
    return _a_type(type(value))


def _a_type(kind: type[Any]) -> str:
    name = kind.__name__
    return f"{'an' if name[0] in 'AEIOUaeio' else 'a'} {name}"

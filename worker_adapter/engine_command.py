"""What commands that ask an engine one question have in common: the options that say which, the asking, the answer."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from worker_adapter.engine_options import (
    AdapterOption,
    ControlTimeoutOption,
    SettingsOption,
    UrlOption,
    claimants,
    make_adapter,
    speaks_http,
    with_adapter,
)
from worker_adapter.reporting import write_json

if TYPE_CHECKING:
    from adapter_api import WorkerAdapter

T = TypeVar("T")


class ChosenEngine:
    """The engine that the user's options mean. Nothing is looked at before it is asked."""

    def __init__(
        self, url: str | None, adapter: str | None, option: Sequence[str] | None, timeout: float | None
    ) -> None:
        self.url = url
        self._name = adapter
        self._settings = option
        self._timeout_s = timeout

    @cached_property
    def adapter(self) -> WorkerAdapter:
        """Its adapter, not yet open; raises `ConfigurationError` for options that mean none."""
        return make_adapter(self.url, self._name, self._settings, control_timeout_s=self._timeout_s)

    @property
    def claimants(self) -> tuple[str, ...]:
        """The adapters that the URL may mean, by name, where it means several and none was chosen."""
        return claimants(self.url, self._name)

    @property
    def speaks_http(self) -> bool:
        """Whether `http://` means HTTP to its adapter, and not gRPC without TLS."""
        return speaks_http(self.url, self._name)

    def spoken_to_by(self, name: str) -> ChosenEngine:
        """Return the same engine, spoken to by the adapter of that name."""
        return ChosenEngine(self.url, name, self._settings, self._timeout_s)

    def ask(self, question: Callable[[WorkerAdapter], Awaitable[T]]) -> T:
        """Open the adapter and return what it answers."""
        return with_adapter(self.adapter, question)


def engine_command(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the options that say which engine is meant, in place of its parameter `engine: ChosenEngine`."""

    def run(**given: Any) -> T:
        chosen = ChosenEngine(**{name: given.pop(name) for name in _OPTIONS})
        return command(engine=chosen, **given)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name == "engine":
            parameters += _OPTIONS.values()
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    # typer reads both.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def tell(found: T, show: Callable[[T], None], *, as_json: bool) -> None:
    """Print what an engine answered: as JSON for programs, or as `show` does for people."""
    if as_json:
        write_json(msgspec.json.encode(found, order="deterministic"))
    else:
        show(found)


def _options(
    *,
    url: UrlOption = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    timeout: ControlTimeoutOption = None,
) -> None:
    """Only its signature counts."""


_OPTIONS = dict(inspect.signature(_options, eval_str=True).parameters)

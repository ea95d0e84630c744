"""What a plugin tells about an adapter it provides: names and import strings, so that knowing of it loads nothing."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import msgspec

from adapter_api.errors import ConfigurationError, PluginBroken
from adapter_api.props import Capability

if TYPE_CHECKING:
    # What makes an adapter imports these itself; whoever only knows of it need not wait for pydantic and asyncio.
    from adapter_api.adapter import WorkerAdapter

API_VERSION = "1.2"
"""Version of this contract, apart from the package's. A minor version only adds."""

FAULTS = (Exception, SystemExit)
"""What the code of a plugin may raise without ending the program it is in: `sys.exit` is no way out."""

_NAME = re.compile(r"^[a-z][a-z0-9-]*$")
_IMPORT_STRING = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


class AdapterSettings(Protocol):
    """What a settings class has to offer: pydantic models do."""

    @classmethod
    def model_validate(cls, obj: Any) -> Self: ...


class PluginCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command that a plugin adds to the command line; it is imported when the command is run.

    name: what people type: lower case, digits, hyphens. A plugin cannot replace a command of the program itself, but
        the subcommands of a typer app named `models` join the program's own group of that name.
    target: import string of a typer app, or of a function that typer can make a command of. An `AdapterError` that it
        raises is told by the program, and an integer that it returns is the exit code.
    help: one line for the program's `--help`.
    """

    name: str
    target: str
    help: str

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError(f"command name {self.name!r}: use lower-case letters, digits and hyphens")
        if not _IMPORT_STRING.match(self.target):
            raise ValueError(f"command {self.name!r}: target is {self.target!r}, not 'package.module:attribute'")

    def load(self) -> Any:
        """Return what `target` names; raises `PluginBroken` when it cannot be imported."""
        return _resolve(self.target, f"command {self.name!r}")


class AdapterPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter, by name. Import strings are `package.module:attribute` and are resolved when first used.

    name: what people type: lower case, digits, hyphens.
    adapter: the `WorkerAdapter` class; it is called with one argument, the settings (none without `settings`).
    settings: a pydantic model of the adapter's options; a `from_env(environ)` classmethod lets it read the environment.
    api_version: the `adapter_api.API_VERSION` it was written for.
    capabilities: the most it can do; `EngineProps` says what it can with one engine.
    url_schemes: the URL schemes it serves, so that a URL alone can choose it; its settings then take `url`.
    harness: a conformance harness.
    embedded: a callable that starts an engine of its own on this machine. Where it has an attribute `obstacle`, that is
        called first and returns why the engine cannot run here, in a sentence that says what to do, or `None`. Where
        what it makes has `options`, an adapter in front of it is told these, beside the URL. Where it has `is_running`
        and `log_tail()`, text, a host tells when it ends by itself, with the last lines of its log.
    fake: a callable like `embedded` whose engine is a fake on the real wire; a demo uses it where there is an obstacle.
    commands: what it adds to the command line.
    """

    name: str
    adapter: str
    api_version: str
    settings: str | None = None
    summary: str = ""
    capabilities: frozenset[Capability] = frozenset()
    url_schemes: tuple[str, ...] = ()
    harness: str | None = None
    embedded: str | None = None
    fake: str | None = None
    commands: tuple[PluginCommand, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ValueError(f"adapter name {self.name!r}: use lower-case letters, digits and hyphens")
        for field in ("adapter", "settings", "harness", "embedded", "fake"):
            value = getattr(self, field)
            if value is not None and not _IMPORT_STRING.match(value):
                raise ValueError(f"adapter {self.name!r}: {field} is {value!r}, not 'package.module:attribute'")
        if not all(isinstance(command, PluginCommand) for command in self.commands):
            raise TypeError(f"adapter {self.name!r}: commands must be a tuple of PluginCommand")

    def load(self, field: str) -> Any:
        """Return what the import string in `field` names.

        Raises:
            PluginBroken: It cannot be imported; the message has the reason and, where it knows, what to install.
            ConfigurationError: The plugin has none.
        """
        target = getattr(self, field)
        if target is None:
            raise ConfigurationError(f"adapter {self.name!r} has no {field}")
        return _resolve(target, f"adapter {self.name!r}")

    def create(
        self, options: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
    ) -> WorkerAdapter:
        """Return an adapter, not yet open.

        Args:
            options: The settings by name; they win over the environment.
            environ: Read settings from these variables too, where the settings class can.

        Raises:
            ConfigurationError: An option is unknown or wrong; the message names it.
            PluginBroken: The adapter cannot be imported, or is no complete `WorkerAdapter` class.
        """
        from pydantic import ValidationError

        from adapter_api.task import describe_validation_error

        adapter_class = self._load_class()
        if self.settings is None:
            if options:
                raise ConfigurationError(f"adapter {self.name!r} takes no options, got {sorted(options)}")
            return cast("WorkerAdapter", adapter_class())
        settings_class = self.load("settings")
        from_env = getattr(settings_class, "from_env", None)
        try:
            if environ is not None and from_env is not None:
                settings = from_env(environ, **dict(options or {}))
            else:
                settings = settings_class.model_validate(dict(options or {}))
        except ValidationError as exc:
            raise ConfigurationError(describe_validation_error(exc, f"options for adapter {self.name!r}")) from exc
        return cast("WorkerAdapter", adapter_class(settings))

    def _load_class(self) -> Any:
        from adapter_api.adapter import WorkerAdapter

        found = self.load("adapter")
        if not (isinstance(found, type) and issubclass(found, WorkerAdapter)):
            raise PluginBroken(f"adapter {self.name!r}: {self.adapter} is no WorkerAdapter class")
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        if missing:
            raise PluginBroken(f"adapter {self.name!r}: {self.adapter} does not implement {', '.join(missing)}")
        return found


def _resolve(target: str, owner: str) -> Any:
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except FAULTS as exc:
        raise PluginBroken(f"{owner}: cannot load {target}: {type(exc).__name__}: {exc}") from exc

"""An engine of one's own, as a plugin offers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import anyio.to_thread

from adapter_api import AdapterPlugin, ConfigurationError, PluginHost

# Of the Prometheus text format: enough for labels without escapes, as names of models and reasons are.
_SAMPLE = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_FETCH_S = 3.0
# An engine's metrics are a few hundred lines.
_FETCH_LIMIT = 4 * 1024 * 1024


class EmbeddedEngine(Protocol):
    """What `AdapterPlugin.embedded` makes: it runs while the `async with` block lasts and leaves nothing behind."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    @property
    def grpc_url(self) -> str: ...

    @property
    def metrics_url(self) -> str: ...

    @property
    def pid(self) -> int: ...

    @property
    def version(self) -> str: ...

    @property
    def models(self) -> list[str]: ...

    @property
    def language_models(self) -> Collection[str]:
        """Those of its models that write something to read. An engine may be without it, or say none."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What an adapter in front of it is told beside the URL. An engine may be without it."""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself. An engine may be without this and `log_tail`."""

    def log_tail(self) -> str:
        """Return the last lines of what it wrote."""


class EngineFactory(Protocol):
    def __call__(self, *, on_progress: Callable[[str], None]) -> EmbeddedEngine: ...


def choose_plugin(host: PluginHost, name: str | None) -> AdapterPlugin:
    """Return the adapter of that name, or the only one that brings an engine.

    Raises:
        ConfigurationError: It brings none, or several do and no name was given.
    """
    if name is not None:
        return host.adapter(name)
    able = [adapter for adapter in host.adapters if adapter.embedded is not None]
    if len(able) == 1:
        return able[0]
    if able:
        raise ConfigurationError(f"which engine? {', '.join(a.name for a in able)} bring one: choose with --adapter")
    raise ConfigurationError("no installed adapter brings an engine of its own; `worker-adapter plugins` shows them")


def choose_engine(plugin: AdapterPlugin) -> tuple[EngineFactory, str | None]:
    """Return what starts the plugin's engine, and `None`; or its fake, and why the engine cannot run here."""
    factory: EngineFactory = plugin.load("embedded")
    find_obstacle: Callable[[], str | None] | None = getattr(factory, "obstacle", None)
    obstacle = find_obstacle() if find_obstacle is not None and plugin.fake is not None else None
    return (factory, None) if obstacle is None else (plugin.load("fake"), obstacle)


async def scrape(url: str, models: set[str]) -> list[tuple[str, str, float]]:
    """Return name, model and value of the request counts that an engine exports for `models`; nothing if it cannot."""
    try:
        text = await anyio.to_thread.run_sync(_fetch, url, abandon_on_cancel=True)
    except OSError:
        return []
    found = ((m["name"], dict(_LABEL.findall(m["labels"])), float(m["value"])) for m in _SAMPLE.finditer(text))
    return [
        (f"{name} ({labels['reason']})" if "reason" in labels else name, labels["model"], value)
        for name, labels, value in found
        if labels.get("model") in models and "request" in name and not name.endswith("_us") and value > 0
    ]


def _fetch(url: str) -> str:
    from urllib.request import urlopen

    with urlopen(url, timeout=_FETCH_S) as response:
        body: bytes = response.read(_FETCH_LIMIT)
    return body.decode(errors="replace")

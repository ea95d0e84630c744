"""Finding plugins by entry point, one by one: a broken one hides no other, nor itself."""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec
import pluggy

from adapter_api import hookspecs
from adapter_api.errors import PluginBroken, UnknownAdapter
from adapter_api.hookspecs import PROJECT
from adapter_api.records import API_VERSION, FAULTS, AdapterPlugin

BLOCK_VARIABLE = "WORKER_ADAPTER_BLOCK"
"""Environment variable: names of plugins not to load, separated by commas."""

_log = logging.getLogger("adapter_api.plugins")


class PluginStatus(StrEnum):
    LOADED = "loaded"
    BROKEN = "broken"
    """It could not be imported, or its register hook failed."""
    INCOMPATIBLE = "incompatible"
    """It was written for a version of the contract that this one does not serve."""
    CONFLICT = "conflict"
    """Another plugin provides an adapter of the same name; neither is used until one is blocked."""
    BLOCKED = "blocked"
    """The user asked not to load it."""


class PluginReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one plugin, and why."""

    name: str
    status: PluginStatus
    reason: str = ""
    target: str = ""
    distribution: str | None = None
    version: str | None = None
    adapters: tuple[AdapterPlugin, ...] = ()


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else ""


class PluginHost:
    """The plugins there are, loaded or not. Make one with `load_plugins`."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._reports: dict[str, PluginReport] = {}

    @property
    def reports(self) -> tuple[PluginReport, ...]:
        """One report per plugin, sorted by name."""
        return tuple(self._reports[name] for name in sorted(self._reports))

    @property
    def adapters(self) -> tuple[AdapterPlugin, ...]:
        """The adapters that can be used, sorted by name."""
        loaded = (report for report in self._reports.values() if report.status is PluginStatus.LOADED)
        return tuple(sorted((a for report in loaded for a in report.adapters), key=lambda adapter: adapter.name))

    def adapter(self, name: str) -> AdapterPlugin:
        """Return the adapter of that name.

        Raises:
            UnknownAdapter: No plugin provides it; the message lists those there are.
            PluginBroken: A plugin would, but is broken, incompatible, in conflict or blocked; the message says why.
        """
        for adapter in self.adapters:
            if adapter.name == name:
                return adapter
        for report in self.reports:
            if name == report.name or any(adapter.name == name for adapter in report.adapters):
                if report.status is not PluginStatus.LOADED:
                    raise PluginBroken(
                        f"adapter {name!r} cannot be used: its plugin is {report.status}: {report.reason}"
                    )
        known = ", ".join(adapter.name for adapter in self.adapters) or "none"
        raise UnknownAdapter(f"no adapter named {name!r} (there are: {known}); is its package installed here?")

    def adapters_for_url(self, url: str) -> tuple[AdapterPlugin, ...]:
        """Return the adapters that serve the URL's scheme, sorted by name; none when no record lists it."""
        scheme = _scheme(url)
        return tuple(adapter for adapter in self.adapters if scheme in adapter.url_schemes)

    def adapter_for_url(self, url: str) -> AdapterPlugin:
        """Return the one adapter that serves the URL's scheme.

        Raises:
            UnknownAdapter: None does, and the message names the schemes there are; or several do, and it names them.
        """
        scheme, found = _scheme(url), self.adapters_for_url(url)
        if len(found) == 1:
            return found[0]
        if found:
            names = [adapter.name for adapter in found]
            raise UnknownAdapter(
                f"{len(names)} adapters serve URLs that begin '{scheme}://': {', '.join(names)}; say which one "
                f"speaks to this engine, as in --adapter {names[0]}; `worker-adapter doctor` with the URL tries them"
            )
        known = ", ".join(f"{s}://" for adapter in self.adapters for s in adapter.url_schemes) or "none"
        if not scheme:
            raise UnknownAdapter(f"the URL says no scheme, by which its adapter is found: begin it with one of {known}")
        raise UnknownAdapter(f"no adapter serves a URL that begins {scheme + '://'!r} (there are: {known})")

    def call(self, hook: str, **arguments: Any) -> list[Any]:
        """Call one hook on every loaded plugin and return the results that are not `None`.

        An exception in one plugin is logged with the plugin's name and does not reach the caller.
        """
        results = []
        for implementation in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            try:
                result = implementation.function(**{name: arguments[name] for name in implementation.argnames})
            except FAULTS:
                _log.exception("plugin %r failed in %s", implementation.plugin_name, hook)
            else:
                if result is not None:
                    results.append(result)
        return results

    def add(self, name: str, plugin: object, *, distribution: str | None = None, version: str | None = None) -> None:
        """Register a plugin object that is already imported, as an entry point would."""
        target = getattr(plugin, "__name__", type(plugin).__name__)
        report = PluginReport(
            name=name, status=PluginStatus.LOADED, target=target, distribution=distribution, version=version
        )
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
            adapters = _registered_by(self._manager, plugin)
            _refuse_unmarked(plugin)
        except FAULTS as exc:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            self._reports[name] = msgspec.structs.replace(report, status=PluginStatus.BROKEN, reason=_reason(exc))
            return
        report = msgspec.structs.replace(report, adapters=adapters)
        if outdated := [a for a in adapters if not _is_compatible(a.api_version)]:
            reason = (
                f"written for version {outdated[0].api_version} of the adapter contract; this is {API_VERSION}: "
                "install matching versions of both"
            )
            report = msgspec.structs.replace(report, status=PluginStatus.INCOMPATIBLE, reason=reason)
            self._manager.unregister(name=name)
        self._reports[name] = report
        self._find_conflicts()

    def _find_conflicts(self) -> None:
        providers: dict[str, list[str]] = {}
        for report in self.reports:
            if report.status in (PluginStatus.LOADED, PluginStatus.CONFLICT):
                for adapter in report.adapters:
                    providers.setdefault(adapter.name, []).append(report.name)
        for adapter_name, plugins in providers.items():
            if len(plugins) > 1:
                reason = (
                    f"adapter {adapter_name!r} is provided by {', '.join(plugins)}; "
                    f"block all but one with {BLOCK_VARIABLE}={plugins[-1]}"
                )
                for plugin in plugins:
                    self._reports[plugin] = msgspec.structs.replace(
                        self._reports[plugin], status=PluginStatus.CONFLICT, reason=reason
                    )

    def _add_entry_point(self, name: str, entry: importlib.metadata.EntryPoint) -> None:
        distribution = entry.dist.name if entry.dist else None
        version = entry.dist.version if entry.dist else None
        try:
            plugin = entry.load()
        except FAULTS as exc:
            self._reports[name] = PluginReport(
                name=name, status=PluginStatus.BROKEN, reason=_reason(exc), target=entry.value,
                distribution=distribution, version=version,
            )  # fmt: skip
        else:
            self.add(name, plugin, distribution=distribution, version=version)

    def _add_blocked(self, name: str, target: str) -> None:
        reason = f"blocked by {BLOCK_VARIABLE} or the caller"
        self._reports[name] = PluginReport(name=name, status=PluginStatus.BLOCKED, reason=reason, target=target)


def load_plugins(
    *,
    group: str = PROJECT,
    block: Collection[str] | None = None,
    entry_points: Iterable[importlib.metadata.EntryPoint] | None = None,
) -> PluginHost:
    """Load every plugin of the entry-point group and return the host. Never raises because of a plugin.

    Args:
        group: The entry-point group.
        block: Names of plugins not to load; `None` reads them from the environment (`WORKER_ADAPTER_BLOCK`).
        entry_points: Use these instead of the installed ones.
    """
    if block is None:
        block = {name.strip() for name in os.environ.get(BLOCK_VARIABLE, "").split(",")} - {""}
    found = importlib.metadata.entry_points(group=group) if entry_points is None else entry_points
    host = PluginHost()
    for name, entry in _uniquely_named(found):
        if name in block or (entry.name in block and name == entry.name):
            host._add_blocked(name, entry.value)
        else:
            host._add_entry_point(name, entry)
    return host


def _uniquely_named(
    entries: Iterable[importlib.metadata.EntryPoint],
) -> Iterator[tuple[str, importlib.metadata.EntryPoint]]:
    """Two distributions may use one entry-point name: the second is called `name@distribution`, so none is lost."""
    seen: dict[str, str] = {}
    for entry in sorted(entries, key=lambda entry: (entry.name, entry.value)):
        if seen.get(entry.name) == entry.value:
            continue  # the same distribution found twice on the path
        name = (
            entry.name if entry.name not in seen else f"{entry.name}@{entry.dist.name if entry.dist else entry.value}"
        )
        seen.setdefault(entry.name, entry.value)
        yield name, entry


def _registered_by(manager: pluggy.PluginManager, plugin: object) -> tuple[AdapterPlugin, ...]:
    for implementation in manager.hook.worker_adapter_register.get_hookimpls():
        if implementation.plugin is plugin:
            result = implementation.function()
            adapters = () if result is None else tuple(result) if isinstance(result, list | tuple) else (result,)
            for adapter in adapters:
                if not isinstance(adapter, AdapterPlugin):
                    raise TypeError(f"worker_adapter_register returned {type(adapter).__name__}, not AdapterPlugin")
            return adapters
    return ()


def _refuse_unmarked(plugin: object) -> None:
    """Raise for a hook without its mark: it would never be called, and the plugin seem to provide nothing."""
    for name in vars(hookspecs):
        function = getattr(plugin, name, None) if name.startswith(f"{PROJECT}_") else None
        if callable(function) and not hasattr(function, f"{PROJECT}_impl"):
            raise TypeError(f"{name} is not marked: write @hookimpl above it (from adapter_api import hookimpl)")


def _is_compatible(api_version: str) -> bool:
    try:
        major, minor = (int(part) for part in api_version.split("."))
    except ValueError:
        return False
    our_major, our_minor = (int(part) for part in API_VERSION.split("."))
    return major == our_major and minor <= our_minor


def _reason(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__

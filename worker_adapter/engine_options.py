"""The options that say which engine is meant, the same for every command, and the adapter they come to."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from adapter_api import AdapterPlugin, ConfigurationError, UnknownAdapter
from adapter_api.options import parse_options
from worker_adapter.installed import installed_plugins

if TYPE_CHECKING:
    from adapter_api import WorkerAdapter

T = TypeVar("T")

_PANEL = "Engine"

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", "-u", metavar="URL", envvar="WORKER_ADAPTER_URL", rich_help_panel=_PANEL, show_default=False,
        help="Where the engine is, as in grpc://host:8001; the scheme chooses the adapter.",
    ),
]  # fmt: skip
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--adapter", "-a", metavar="NAME", rich_help_panel=_PANEL, show_default=False,
        help="Which adapter speaks to it, when the URL does not tell; `worker-adapter plugins` lists them.",
    ),
]  # fmt: skip
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="KEY=VALUE", rich_help_panel=_PANEL, show_default=False,
        help="A setting of the adapter, as in tls.ca_file=ca.pem; may be repeated. Lists and objects are JSON.",
    ),
]  # fmt: skip
ControlTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0.001, rich_help_panel=_PANEL, show_default=False,
        help="How long to wait for an answer; the adapter's own choice when absent.",
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def make_adapter(
    url: str | None, name: str | None, settings: Sequence[str] | None, *, control_timeout_s: float | None = None
) -> WorkerAdapter:
    """Return the adapter that the options mean, not yet open. Settings not given are read from the environment.

    Raises:
        ConfigurationError: There is no such adapter, or a setting is wrong; nothing was sent.
    """
    adapter = _choose(url, name).create(_parse_settings(url, settings or ()), environ=os.environ)
    if control_timeout_s is not None:
        adapter.control_timeout_s = control_timeout_s
    return adapter


def adapter_name(url: str | None, name: str | None) -> str:
    """Return the name of the adapter that the options mean."""
    return _choose(url, name).name


def claimants(url: str | None, name: str | None) -> tuple[str, ...]:
    """Return the adapters that serve the URL's scheme, where several do and none was named; else none."""
    if url is None or name is not None:
        return ()
    found = installed_plugins().adapters_for_url(url)
    return tuple(adapter.name for adapter in found) if len(found) > 1 else ()


def speaks_http(url: str | None, name: str | None) -> bool:
    """Return whether `http://` is HTTP to the adapter that the options mean, since it says that it serves such URLs;
    to others it is gRPC without TLS."""
    return "http" in _choose(url, name).url_schemes


def with_adapter(adapter: WorkerAdapter, work: Callable[[WorkerAdapter], Awaitable[T]]) -> T:
    """Open `adapter` in an event loop of its own, and return what `work` returns for it."""
    import anyio

    async def run() -> T:
        async with adapter:
            return await work(adapter)

    return anyio.run(run)


def _choose(url: str | None, name: str | None) -> AdapterPlugin:
    host = installed_plugins()
    if name is not None:
        return host.adapter(name)
    if url is not None:
        return host.adapter_for_url(url)
    known = ", ".join(adapter.name for adapter in host.adapters) or "none"
    raise UnknownAdapter(f"which engine? Give --url, as in grpc://host:8001, or --adapter NAME (there are: {known})")


def _parse_settings(url: str | None, settings: Sequence[str]) -> dict[str, Any]:
    found = parse_options(settings)
    if url is None:
        return found
    if "url" in found:
        raise ConfigurationError("the URL was given twice: by --url and by --option url=…")
    return {"url": url, **found}

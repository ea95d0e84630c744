"""The adapter that a client speaks through: one that is given, or one found by name or by the URL's scheme."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_api import Capability, UnknownAdapter, WorkerAdapter, load_plugins

_DEFAULT = "triton"
"""Whose a URL without a scheme is, as `localhost:8001`, and an environment without a URL."""


def find_adapter(
    url: str | None = None, *, name: str | None = None, needs: Capability, options: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> WorkerAdapter:  # fmt: skip
    """Return an adapter, not yet open, from the installed plugins.

    Args:
        url: Where the engine is; its scheme chooses the adapter where no `name` does.
        name: The adapter's name.
        needs: What the client needs of it: of several adapters that serve the scheme, those without it are none.
        options: Settings of the adapter.
        environ: Variables that the adapter's settings read too.

    Raises:
        UnknownAdapter, PluginBroken: No plugin provides it, several do, or the one that does is broken.
        ConfigurationError: An option is unknown or wrong.
    """
    plugins = load_plugins()
    if name is None and url is not None and "://" in url:
        able = [each for each in plugins.adapters_for_url(url) if needs in each.capabilities]
        if len(able) > 1:
            names = ", ".join(each.name for each in able)
            raise UnknownAdapter(f"several adapters serve {url.partition('://')[0]}://: {names}; name one of them")
        found = able[0] if able else plugins.adapter_for_url(url)
    else:
        found = plugins.adapter(name or _DEFAULT)
    return found.create({**({"url": url} if url else {}), **(options or {})}, environ=environ)

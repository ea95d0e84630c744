"""Registers the parrot adapter. It is imported wherever adapters are listed, so it imports nothing heavy."""

from __future__ import annotations

from adapter_api import AdapterPlugin, Capability, hookimpl


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return AdapterPlugin(
        name="parrot",
        adapter="parrot_adapter.adapter:ParrotAdapter",
        settings="parrot_adapter.adapter:ParrotSettings",
        api_version="1.0",
        summary="parrots, which say a prompt's words backwards",
        capabilities=frozenset(
            {Capability.TEXT, Capability.STREAMING, Capability.CANCEL_HARD, Capability.USAGE, Capability.FINISH_REASON}
        ),
        url_schemes=("parrot",),
    )

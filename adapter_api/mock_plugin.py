"""Registers the mock adapter through the front door, like any other."""

from __future__ import annotations

from adapter_api.hookspecs import hookimpl
from adapter_api.props import Capability
from adapter_api.records import AdapterPlugin


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return AdapterPlugin(
        name="mock",
        adapter="adapter_api.testing:MockAdapter",
        settings="adapter_api.testing:MockSettings",
        api_version="1.0",
        summary="an adapter without an engine, for tests and first steps",
        capabilities=frozenset({Capability.TEXT, Capability.STREAMING, Capability.TENSORS}),
        url_schemes=("mock",),
    )

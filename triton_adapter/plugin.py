"""Registers the Triton adapter. Imports nothing heavy: everything is named by import string."""

from __future__ import annotations

from adapter_api import AdapterPlugin, Capability, PluginCommand, hookimpl


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return AdapterPlugin(
        name="triton",
        adapter="triton_adapter.adapter:TritonAdapter",
        settings="triton_adapter.settings:TritonSettings",
        api_version="1.2",
        summary="any model in an NVIDIA Triton Inference Server",
        # Tools and reasoning are of models that a chat template in the settings teaches.
        capabilities=frozenset(Capability),
        url_schemes=("grpc", "grpcs", "http+v2", "https+v2"),
        harness="triton_adapter.conformance:TritonHarness",
        embedded="triton_adapter.embedded:EmbeddedTriton",
        fake="triton_adapter.demo:FakeDemoTriton",
        commands=(
            PluginCommand(
                name="triton",
                target="triton_adapter.commands.triton:triton",
                help="Run a real Triton server on this machine, in the foreground.",
            ),
            PluginCommand(
                name="models",
                target="triton_adapter.commands.models:models",
                help="List, load and unload models, and show their configuration and statistics.",
            ),
        ),
    )

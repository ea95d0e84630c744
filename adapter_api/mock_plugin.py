"""Registers the mock adapter through the front door, like any other."""

from __future__ import annotations

from adapter_api.hookspecs import hookimpl
from adapter_api.props import Capability
from adapter_api.records import AdapterPlugin

_CAPABILITIES = frozenset(
    {
        Capability.TEXT, Capability.MESSAGES, Capability.STREAMING, Capability.CANCEL_HARD, Capability.STOP,
        Capability.SEED, Capability.USAGE, Capability.FINISH_REASON, Capability.TENSORS, Capability.TENSOR_STREAM,
        Capability.TOOLS, Capability.REASONING, Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS,
        Capability.LOGPROBS, Capability.PROMPT_LOGPROBS,
    }
)  # fmt: skip


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return AdapterPlugin(
        name="mock",
        adapter="adapter_api.testing:MockAdapter",
        settings="adapter_api.testing:MockSettings",
        api_version="1.2",
        summary="an adapter without an engine, for tests and first steps",
        capabilities=_CAPABILITIES,
        url_schemes=("mock",),
        harness="conformance_tests.mock_harness:MockHarness",
    )

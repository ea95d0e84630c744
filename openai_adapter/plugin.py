"""Registers the adapter for OpenAI-compatible engines. Imports nothing heavy: everything is named by import string."""

from __future__ import annotations

from adapter_api import AdapterPlugin, Capability, hookimpl


@hookimpl
def worker_adapter_register() -> AdapterPlugin:
    return AdapterPlugin(
        name="openai",
        adapter="openai_adapter.adapter:OpenAIAdapter",
        settings="openai_adapter.settings:OpenAISettings",
        api_version="1.2",
        summary="any engine with OpenAI's HTTP API: vLLM, llama.cpp, TensorRT-LLM, Dynamo, transformers",
        # What the API has no words for is missing.
        capabilities=frozenset(Capability)
        - {
            Capability.CANCEL_HARD,
            Capability.TENSOR_STREAM,
            Capability.SEQUENCES,
            Capability.SHARED_MEMORY,
            Capability.MODEL_CONTROL,
        },
        url_schemes=("http", "https"),
        harness="openai_adapter.conformance:OpenAIHarness",
    )

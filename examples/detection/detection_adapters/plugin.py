"""Registers both adapters. It is imported wherever adapters are listed, so it imports nothing heavy."""

from __future__ import annotations

from adapter_api import AdapterPlugin, Capability, hookimpl

CAPABILITIES = frozenset({Capability.TEXT, Capability.MESSAGES, Capability.IMAGES, Capability.FINISH_REASON})


@hookimpl
def worker_adapter_register() -> list[AdapterPlugin]:
    return [
        AdapterPlugin(
            name="old-detector",
            adapter="detection_adapters.old:OldDetectorAdapter",
            settings="detection_adapters.old:OldDetectorSettings",
            api_version="1.1",
            summary="the detection service of before, over plain HTTP",
            capabilities=CAPABILITIES,
        ),
        AdapterPlugin(
            name="detector",
            adapter="detection_adapters.new:DetectorAdapter",
            settings="detection_adapters.new:DetectorSettings",
            api_version="1.1",
            summary="a detector in Triton, behind any adapter that has tensors",
            capabilities=CAPABILITIES,
        ),
    ]

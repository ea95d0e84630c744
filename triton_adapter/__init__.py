"""The contract of `adapter_api` on any NVIDIA Triton Inference Server.

    async with TritonAdapter(TritonSettings(url="grpc://host:8001")) as adapter:
        async for event in adapter.submit(TaskRequest(model="llama", prompt="Hello")):
            ...

`adapter.py` joins the rest: `tasks/` runs one text task and `tensors/` one inference on tensors, over what `engine/`
knows of the server; `dialects/` turn tasks into tensors, `transports/` carry them, `wire/` are the protocol's words and
what each of its errors means, `server/` is what the server says of itself: health, properties, its models' control.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_kit.tls import TlsSettings
    from triton_adapter.adapter import TritonAdapter
    from triton_adapter.settings import ModelOverride, RestrictedToken, TritonSettings

__all__ = ["ModelOverride", "RestrictedToken", "TlsSettings", "TritonAdapter", "TritonSettings"]


if not TYPE_CHECKING:  # with it, a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        # Late, so that the plugin module can be imported without grpc and protobuf.
        if name == "TritonAdapter":
            from triton_adapter.adapter import TritonAdapter

            return TritonAdapter
        if name in __all__:
            from triton_adapter import settings

            return getattr(settings, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Clients for applications, on the contract: they work with any adapter, over any transport, also through a host.

    from adapter_clients import ChatClient, DetectionClient

    async with DetectionClient.from_env() as client:
        result = await client.detect("photo.jpg")

Importing this package loads neither Pillow nor an adapter: each client is fetched when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_clients.chat import (
        ChatAnswer,
        ChatClient,
        ChatHealth,
        ChatQuestion,
        ChatSettings,
        ChatStream,
        SyncChatClient,
    )
    from adapter_clients.detection import (
        Box,
        Detection,
        DetectionClient,
        DetectionResult,
        DetectionSettings,
        SyncDetectionClient,
    )
    from adapter_clients.statistics import ClientStatistics

__all__ = [
    # chat
    "ChatAnswer", "ChatClient", "ChatHealth", "ChatQuestion", "ChatSettings", "ChatStream", "SyncChatClient",
    # detection
    "Box", "ClientStatistics", "Detection", "DetectionClient", "DetectionResult", "DetectionSettings",
    "SyncDetectionClient",
]  # fmt: skip

_HOMES = {
    "chat": (
        "ChatAnswer", "ChatClient", "ChatHealth", "ChatQuestion", "ChatSettings", "ChatStream", "SyncChatClient",
    ),
    "detection": (
        "Box", "Detection", "DetectionClient", "DetectionResult", "DetectionSettings", "SyncDetectionClient",
    ),
    "statistics": ("ClientStatistics",),
}  # fmt: skip
"""Where each name is at home."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # with it, a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"adapter_clients.{_HOME_OF[name]}"), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

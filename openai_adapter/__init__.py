"""The contract of `adapter_api` on any engine that speaks OpenAI's HTTP API.

    async with OpenAIAdapter(OpenAISettings(url="http://host:8000")) as adapter:
        async for event in adapter.submit(TaskRequest(model="llama", prompt="Hello")):
            ...

`adapter.py` joins the rest: `tasks/` runs one text task, `embeddings.py` one inference, over what `engine/` knows of
the server; `wire/` turns tasks into bodies and chunks into events without any I/O, and `server/` is what the engine
says of itself: health, models, properties. What differs between engines is told by what they say, not by their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapter_kit.tls import TlsSettings
    from openai_adapter.adapter import OpenAIAdapter
    from openai_adapter.settings import OpenAISettings

__all__ = ["OpenAIAdapter", "OpenAISettings", "TlsSettings"]


if not TYPE_CHECKING:  # with it, a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        # Late, so that the plugin module can be imported without what the adapter needs.
        if name == "OpenAIAdapter":
            from openai_adapter.adapter import OpenAIAdapter

            return OpenAIAdapter
        if name in __all__:
            from openai_adapter import settings

            return getattr(settings, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

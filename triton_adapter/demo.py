"""The demo's language models on a `FakeTriton`, for machines on which no real Triton runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import anyio.to_thread

from triton_adapter.embedded import demo_repository
from triton_adapter.embedded.model_code.tiny.generation import Generation
from triton_adapter.embedded.model_code.tiny.language import LanguageModel
from triton_adapter.embedded.model_code.tiny.sampling import SamplingParams
from triton_adapter.testing.families import Generation as Written
from triton_adapter.testing.records import RecordedRequest
from triton_adapter.testing.server import FakeTriton

_TOKEN_S = 0.005
_ROOM = 2048
_TENSORS = ("max_tokens", "temperature", "top_p", "top_k", "seed")


class FakeDemoTriton:
    """Poses as `EmbeddedTriton` with the demo's language models: the real wire, the real texts, and no Triton.

    Gone at the end of the `async with` block, like the real one; everything runs in this process.
    """

    def __init__(self, *, on_progress: Callable[[str], None] | None = None) -> None:
        self._progress = on_progress or (lambda line: None)
        self._fake = FakeTriton()
        self.models = ["tinylm", "tinytrt"]
        self.pid = os.getpid()
        self.version = "2.51.0 (a fake)"

    @property
    def grpc_url(self) -> str:
        return self._fake.grpc_url

    @property
    def metrics_url(self) -> str:
        """Where a real server has its metrics; the fake has none, and answers 404."""
        return f"{self._fake.http_url}/metrics"

    async def __aenter__(self) -> Self:
        self._progress("making the language model of the demo")
        await anyio.to_thread.run_sync(_language_model)
        await self._fake.__aenter__()
        for name in self.models:
            model = self._fake.model(name).config((demo_repository() / name / "config.pbtxt").read_text())
            model.respond_with(_written, delay_s=_TOKEN_S)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._fake.__aexit__(exc_type, exc, traceback)


@lru_cache(maxsize=1)
def _language_model() -> LanguageModel:
    return LanguageModel()


def _written(request: RecordedRequest) -> Written:
    """Write the whole text before its first token is sent: a fake may, and a thousand tokens take 0.3 s."""
    model = _language_model()
    sampling: dict[str, Any] = {name: request.value(name) for name in _TENSORS}
    sampling |= json.loads(request.value("sampling_parameters", "{}"))
    prompt = model.encode(request.text())
    writer = Generation(model, prompt, SamplingParams.from_mapping(sampling), room=_ROOM - len(prompt))
    tokens = []
    while writer.finish_reason is None:
        tokens.append(writer.step().text)
    return Written(tokens, writer.finish_reason)

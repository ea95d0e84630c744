"""The questions that some engines answer and some do not, asked once: what a server lacks is not asked again for a
while."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

import msgspec

from adapter_api import AdapterError
from adapter_kit.http import HttpClient
from openai_adapter.engine.credentials import Credentials
from openai_adapter.settings import OpenAISettings
from openai_adapter.wire.errors import error_for, read_body

_LACKING = frozenset({404, 405, 501})
_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer about the engine: an API's description has some hundred thousand."""


class Answer(msgspec.Struct, frozen=True):
    """What the engine answered to a question."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray

    @property
    def ok(self) -> bool:
        """Whether the engine has the question, and answered it."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the JSON value in the body; `None` when it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            try:
                return json.loads(self.body)
            except (ValueError, RecursionError):
                return None

    def record(self) -> dict[str, Any]:
        """Return the JSON object in the body; an empty one when there is none."""
        value = self.json() if self.ok else None
        return value if isinstance(value, dict) else {}


class Questions:
    """Asks an engine by GET."""

    def __init__(self, client: HttpClient, settings: OpenAISettings, credentials: Credentials) -> None:
        self._client = client
        self._settings = settings
        self._credentials = credentials
        self._lacking: dict[str, float] = {}

    async def ask(self, path: str, *, timeout_s: float | None = None) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            AdapterError: There was none.
        """
        answer = await self._client.request(
            "GET", path, headers=[*self._credentials.headers(), ("Accept", "application/json, text/plain, */*")],
            timeout_s=timeout_s or self._settings.control_timeout_s, limit=_LIMIT, stage="control",
        )  # fmt: skip
        return Answer(answer.status, answer.headers, answer.body)

    async def ask_unless_lacking(self, path: str) -> Answer | None:
        """Return the answer, whatever its status; `None` when the engine does not have the question.

        Raises:
            AdapterError: There was no answer.
        """
        if self._lacking.get(path, 0.0) > monotonic():
            return None
        answer = await self.ask(path)
        if answer.status in _LACKING:
            self._lacking[path] = monotonic() + self._settings.metadata_ttl_s
            return None
        return answer

    async def ask_optional(self, path: str, *, timeout_s: float | None = None) -> Answer | None:
        """Return the answer of an engine that has the question; `None` otherwise, or when it does not answer."""
        if self._lacking.get(path, 0.0) > monotonic():
            return None
        try:
            answer = await self.ask(path, timeout_s=timeout_s)
        except AdapterError:
            return None
        if answer.ok:
            return answer
        if answer.status in _LACKING or answer.status in (401, 403):
            self._lacking[path] = monotonic() + self._settings.metadata_ttl_s
        return None

    def error(self, answer: Answer, what: str) -> AdapterError:
        """Return what an answer that is a refusal means."""
        return error_for(
            answer.status, read_body(bytes(answer.body)), what=what, headers=answer.headers,
            hide=self._credentials.secrets(),
        )  # fmt: skip

    def forget(self) -> None:
        """Ask everything again: another server may answer next."""
        self._lacking.clear()

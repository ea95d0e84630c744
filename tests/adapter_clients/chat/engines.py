"""Engines to chat with: the mock, with eyes or without, and ways to hold it in the middle of an answer."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_api import Capability, EngineProps, Message, TaskRequest
from adapter_api.testing import MockAdapter, MockSettings, MockToolCall
from adapter_clients import ChatClient


class Seeing(MockAdapter):
    """A mock whose models take images in the forms it is told."""

    def __init__(self, *forms: Capability, models: dict[str, frozenset[Capability]] | None = None) -> None:
        super().__init__(MockSettings(models=tuple(models or ("mock",)), reply="a cat"))
        self._forms = models or {"mock": frozenset(forms)}

    def _check(self, task: TaskRequest) -> None:
        self._check_model(task.model)

    async def _props(self) -> EngineProps:
        props = await super()._props()
        models = tuple(
            msgspec.structs.replace(model, capabilities=model.capabilities | self._forms[model.name])
            for model in props.models
        )
        return msgspec.structs.replace(props, models=models)


def mock(**settings: Any) -> MockAdapter:
    return MockAdapter(MockSettings(**{"reply": "one two three", **settings}))


def calling(*calls: tuple[str, str, str], **settings: Any) -> MockAdapter:
    """A mock that calls tools: ids, names, arguments."""
    made = tuple(MockToolCall(id=id, name=name, arguments=arguments) for id, name, arguments in calls)
    return mock(tool_calls=made, **settings)


def said(client: ChatClient, session: str | None = None) -> list[tuple[str, str]]:
    """Return the history as roles and texts."""
    return plain(client.history(session))


def plain(messages: tuple[Message, ...] | None) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in messages or ()]

"""Which models the engine says that it has."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_api import AdapterError

_NAMED_AT_MOST = 1000
_CONTEXT = ("max_model_len", "context_length", "max_context_length", "context_window", "max_sequence_length")


class Card(msgspec.Struct, frozen=True):
    """What it says of one model; `None` where it does not."""

    name: str
    owner: str = ""
    context: int | None = None
    """Tokens of prompt and answer together."""


class Listing(msgspec.Struct, frozen=True):
    """The answer to `/v1/models`; `problem` is why there is none."""

    cards: tuple[Card, ...] = ()
    problem: AdapterError | None = None

    @property
    def known(self) -> bool:
        """Whether the engine told which models it has."""
        return self.problem is None

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(card.name for card in self.cards)

    def card(self, name: str) -> Card | None:
        """Return what it says of a model."""
        return next((card for card in self.cards if card.name == name), None)


def read_listing(value: Any) -> tuple[Card, ...] | None:
    """Return the models in a JSON answer; `None` when it is no list of models."""
    entries = value.get("data", value.get("models")) if isinstance(value, dict) else value
    if not isinstance(entries, list):
        return None
    cards: dict[str, Card] = {}
    for entry in entries[:_NAMED_AT_MOST]:
        if isinstance(entry, dict) and isinstance(name := entry.get("id", entry.get("name")), str) and name:
            meta = found if isinstance(found := entry.get("meta"), dict) else {}
            told = [entry.get(key) for key in _CONTEXT] + [meta.get("n_ctx"), meta.get("n_ctx_train")]
            context = next((each for each in told if type(each) is int and 0 < each < 2**31), None)
            owner = entry.get("owned_by")
            cards.setdefault(name, Card(name, owner if isinstance(owner, str) else "", context))
    return tuple(cards.values())

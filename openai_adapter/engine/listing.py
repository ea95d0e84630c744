"""Which models the engine says that it has."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_api import AdapterError, Capability

_NAMED_AT_MOST = 1000
_WORDS_AT_MOST = 100
_TAKES = frozenset({Capability.TEXT, Capability.MESSAGES, Capability.TENSORS})
_CONTEXT = ("max_model_len", "context_length", "max_context_length", "context_window", "max_sequence_length")


class Card(msgspec.Struct, frozen=True):
    """What it says of one model; `None` where it does not."""

    name: str
    owner: str = ""
    context: int | None = None
    """Tokens of prompt and answer together."""
    capabilities: frozenset[Capability] | None = None
    """What it can do, in the contract's words, as this project's host says it."""
    uncertain: frozenset[Capability] = frozenset()
    ready: bool = True
    """Whether it takes work: what is listed does, unless it says otherwise, as this project's host does."""


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
            able, uncertain = _words(entry.get("capabilities")), _words(entry.get("uncertain"))
            # Others have words of their own here, some of them the same: only who says what it takes says it of all.
            told_by_us = None if able is None or _TAKES.isdisjoint(able) else able
            cards.setdefault(
                name,
                Card(
                    name, owner if isinstance(owner, str) else "", context, told_by_us, uncertain or frozenset(),
                    ready=entry.get("ready") is not False,
                ),
            )  # fmt: skip
    return tuple(cards.values())


def _words(value: Any) -> frozenset[Capability] | None:
    """Return the capabilities in a list of words, others left out; `None` when it is no such list."""
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value[:_WORDS_AT_MOST]):
        return None
    return frozenset(capability for capability in Capability if capability in value[:_WORDS_AT_MOST])

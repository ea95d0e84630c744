"""One engine: the connection to it, what is known of it, what it works on for us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from adapter_api import (
    AdapterClosed,
    AdapterError,
    Capability,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    ModelNotFound,
    NotReady,
    StreamIncomplete,
)
from adapter_kit.http import HttpClient, HttpSettings
from openai_adapter.engine.credentials import Credentials
from openai_adapter.engine.facts import Facts, ask_facts
from openai_adapter.engine.listing import Listing, read_listing
from openai_adapter.engine.questions import Answer, Questions
from openai_adapter.settings import OpenAISettings
from openai_adapter.wire.request import Kind

_NAMED_AT_MOST = 10
_FRESH_S = 1.0
"""How old a list of models may be to say that a model is not there."""
_LEARNT_AT_MOST = 1024


class Engine:
    """Owns the connection and what has been learnt. Opened in an event loop, closed once."""

    def __init__(self, settings: OpenAISettings, *, wanted: Callable[[], frozenset[str]]) -> None:
        address = settings.address
        self.settings = settings
        self.address = address
        self.where = str(address)
        """The engine's address, for messages."""
        self.credentials = Credentials(settings)
        self.client = HttpClient(
            address.origin,
            settings=HttpSettings(
                tls=settings.tls, connect_timeout_s=settings.connect_timeout_s, proxy=settings.proxy,
                proxy_from_environment=settings.proxy_from_environment,
            ),
        )  # fmt: skip
        self.questions = Questions(self.client, settings, self.credentials)
        self.in_flight = 0
        """Tasks and inferences under way."""
        self.refused: frozenset[str] = frozenset()
        """Fields that the engine refused and that an answer can do without."""
        self._wanted = wanted
        self._facts: tuple[float, Facts] | None = None
        self._listing: tuple[float, Listing] | None = None
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._fingerprint: str | None = None
        self._learnt: dict[tuple[str, Capability], bool] = {}

    @property
    def wanted_models(self) -> frozenset[str]:
        """Models that somebody names, whatever the engine lists."""
        named = self._wanted()
        return named if self.settings.model is None else named | {self.settings.model}

    def what(self, model: str) -> str:
        """Return a model, as messages name it."""
        return f"model {model!r} on {self.where}"

    # -- what it tells of itself --------------------------------------------------------------------------------------

    async def facts(self) -> Facts:
        """Return what the engine tells of itself, asked again when that is some time ago."""
        known = self._facts
        if known is None or monotonic() - known[0] > self.settings.metadata_ttl_s:
            await self._together("facts", self._ask_facts)
            known = self._facts
        return Facts() if known is None else known[1]

    async def listing(self, *, within_s: float | None = None) -> Listing:
        """Return the models that the engine lists, as it did at most `within_s` ago.

        Raises:
            AdapterError: It does not answer at all.
        """
        within_s = self.settings.metadata_ttl_s if within_s is None else within_s
        known = self._listing
        if known is None or monotonic() - known[0] > within_s:
            await self._together("listing", self._ask_listing)
            known = self._listing
        assert known is not None
        return known[1]

    def remembered(self, model: str) -> tuple[Facts, str | None] | None:
        """Return facts and version for a task of a model that is listed; `None` when the engine would have to be asked
        for any of it now."""
        facts, listing = self._facts, self._listing
        if facts is None or listing is None or monotonic() - min(facts[0], listing[0]) > self.settings.metadata_ttl_s:
            return None
        return None if listing[1].card(model) is None else (facts[1], self._version_by(facts[1], listing[1]))

    async def require_model(self, model: str) -> None:
        """Raise `ModelNotFound`, or `NotReady`, when this model is not among those that the engine lists.

        Where it lists none, those that the settings and hosts name are all there are: transformers' server would load
        any other, or fail at it without saying why.
        """
        if model in self.wanted_models or self.settings.unlisted_models == "send":
            return
        listing = await self.listing()
        if listing.known and model not in listing.names:
            listing = await self.listing(within_s=_FRESH_S)
        if model in listing.names or not (listing.known or self.wanted_models):
            return
        if not listing.known:
            raise ModelNotFound(
                f"{self.what(model)}: the engine does not tell which models it has, and the settings name another; set "
                "`model` to this one, or unlisted_models=send"
            )
        if not listing.cards:
            raise NotReady(f"{self.where} lists no model: it waits for a worker, or is still loading")
        there = ", ".join(listing.names[:_NAMED_AT_MOST]) + (" …" if len(listing.cards) > _NAMED_AT_MOST else "")
        raise ModelNotFound(
            f"{self.what(model)}: the engine does not list it, and would answer with another or not at all; there are "
            f"{there}. If it is there all the same, name it in the setting `model`, or set unlisted_models=send"
        )

    async def lists(self, model: str) -> bool | None:
        """Return whether the engine lists a model just now; `None` when it does not tell."""
        try:
            listing = await self.listing(within_s=_FRESH_S)
        except AdapterError:
            return None
        return model in listing.names if listing.known else None

    async def version(self) -> str | None:
        """Return name and version of the engine, as far as it tells."""
        facts = await self.facts()
        listing = Listing()
        if facts.version is not None and not facts.name:
            try:
                listing = await self.listing()
            except AdapterError:
                pass
        return self._version_by(facts, listing)

    def _version_by(self, facts: Facts, listing: Listing) -> str | None:
        if facts.version is None:
            return facts.name or self._fingerprint
        name = facts.name
        if not name:
            # Who owns all its models: no version, but beside one it says whose that is.
            owners = {card.owner for card in listing.cards}
            name = owners.pop() if len(owners) == 1 else ""
        return facts.version if facts.version.startswith(name) else f"{name} {facts.version}"

    async def _ask_facts(self) -> None:
        facts = await ask_facts(self.questions, self.address.root, self.address.api)
        if self._facts is not None and self._facts[1] != facts:
            if facts == Facts():
                facts = self._facts[1]  # it told nothing, as one that is too busy: that is no other engine
            else:
                self._unlearn()
        self._facts = (monotonic(), facts)

    async def _ask_listing(self) -> None:
        answer = await self.questions.ask(f"{self.address.api}/models")
        self._listing = (monotonic(), self._read_listing(answer))

    def _read_listing(self, answer: Answer) -> Listing:
        cards = read_listing(answer.json()) if answer.ok else None
        if cards is not None:
            return Listing(cards)
        return Listing(problem=self.questions.error(answer, f"the list of models at {self.where}"))

    async def _together(self, what: str, ask: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ask once for all who want to know: whoever gives up leaves the others their answer."""
        asking = self._asking.get(what)
        if asking is None:
            asking = self._asking[what] = asyncio.get_running_loop().create_task(ask())
            asking.add_done_callback(lambda task: self._asked(what, task))
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if asking.cancelled() and (waiter is None or not waiter.cancelling()):
                raise AdapterClosed("the adapter was closed during the call", retryable=True) from None
            raise

    def _asked(self, what: str, task: asyncio.Task[None]) -> None:
        self._asking.pop(what, None)
        if not task.cancelled():
            task.exception()  # seen, should nobody wait for it any more

    # -- what its answers teach ---------------------------------------------------------------------------------------

    def learn(self, model: str, capability: Capability, *, has: bool) -> None:
        """Take note that a model can do something, or cannot, where only a try could tell."""
        if len(self._learnt) < _LEARNT_AT_MOST or (model, capability) in self._learnt:
            self._learnt[model, capability] = has

    def learnt(self, model: str, capability: Capability) -> bool | None:
        """Return what a try told; `None` without one."""
        return self._learnt.get((model, capability))

    def note_fingerprint(self, fingerprint: str | None) -> None:
        """Take note of what an answer calls the engine's configuration: the only version that some tell."""
        if fingerprint and len(fingerprint) <= 100 and fingerprint.isprintable():
            self._fingerprint = fingerprint

    def note_failure(self, error: AdapterError) -> None:
        """Learn from a failed call: another server may answer next."""
        if isinstance(error, ConnectFailed | ConnectionLost | StreamIncomplete) or (
            isinstance(error, DeadlineExceeded) and error.stage == "connect"
        ):
            self._facts = self._listing = None
            self._unlearn()
            self.questions.forget()
        elif isinstance(error, ModelNotFound | NotReady):
            self._listing = None

    def _unlearn(self) -> None:
        """Forget what answers taught: it was another server's, or the same one's before it was started anew."""
        self._learnt.clear()
        self.refused = frozenset()
        self._fingerprint = None

    async def aclose(self) -> None:
        """Release everything."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self.client.aclose()


FACE_OF: dict[Kind, Capability] = {"chat": Capability.MESSAGES, "completion": Capability.TEXT}
"""Which capability each face of the API makes."""

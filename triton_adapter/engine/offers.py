"""Which of the protocol's questions a server answers, learnt once: every one but inference is optional somewhere.

MLServer has no ModelConfig, KServe no RepositoryIndex, Dynamo no ServerMetadata, and PyTriton refuses its index to
strangers. What a server does not answer is not known, which is something else than "there is none".
"""

from __future__ import annotations

from time import monotonic
from typing import NamedTuple

from adapter_api import AccessError, AdapterError, Unsupported
from triton_adapter.transports.base import Transport
from triton_adapter.wire.rpcs import RequestT, ResponseT, Rpc


class _Refusal(NamedTuple):
    error: AdapterError
    until: float


class Offers:
    """Asks a server's optional questions, and does not repeat those that it does not answer.

    A refusal is believed for `ttl_s` or until `forget`: a token may come, another server may.
    """

    def __init__(self, transport: Transport, *, ttl_s: float, timeout_s: float) -> None:
        self._transport = transport
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._refused: dict[str, _Refusal] = {}

    async def ask(self, rpc: Rpc[RequestT, ResponseT], request: RequestT, *, what: str = "") -> ResponseT | None:
        """Return the answer; `None` when the server does not have the question, or refuses it to us: see `why_not`.

        Args:
            rpc: The question.
            request: Its message.
            what: What it is about, when that is not the server as a whole; a refusal is then the caller's affair.

        Raises:
            AdapterError: Anything else; it says nothing about what the server has.
        """
        if self.why_not(rpc) is not None:
            return None
        try:
            return await self._transport.control(rpc, request, timeout_s=self._timeout_s, what=what)
        except (Unsupported, AccessError) as exc:
            if what and isinstance(exc, AccessError):
                raise
            self._refused[rpc.name] = _Refusal(exc, monotonic() + self._ttl_s)
            return None

    def why_not(self, rpc: Rpc[RequestT, ResponseT]) -> AdapterError | None:
        """Return why the server did not answer the question: `Unsupported`, or an `AccessError`.

        `None` when it does answer, or was not asked lately.
        """
        refusal = self._refused.get(rpc.name)
        if refusal is not None and refusal.until <= monotonic():
            del self._refused[rpc.name]
            return None
        return None if refusal is None else refusal.error

    def forget(self) -> None:
        """Ask everything again: another server may answer next."""
        self._refused.clear()

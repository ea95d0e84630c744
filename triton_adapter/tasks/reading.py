"""The reading: from the engine's first word to the task's last event. Nothing is tried again any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from time import perf_counter

from adapter_api import AdapterError, Metrics, TokenEvent, Unsupported
from triton_adapter.schema import Run
from triton_adapter.tasks.attempt import Attempt
from triton_adapter.transports.base import has_settled, settle
from triton_adapter.wire.status import error_for


class Reading:
    """Reads what an attempt is answered. `events` is its generator, to be used once."""

    __slots__ = ("_attempt", "_first_token_ms", "_refusal", "_unflagged", "over")

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._refusal: str | None = None
        """What the engine said instead of its last word."""
        self._unflagged = False
        """The messages do not say whether they are the last."""
        self._first_token_ms: float | None = None
        self.over = False
        """The engine has said its last word, or the decoder has heard enough."""

    async def events(
        self, hold: Callable[[], None], release: Callable[[], None]
    ) -> AsyncGenerator[TokenEvent | list[TokenEvent], None]:
        """Have the task sent and yield its events; raises the contract's errors.

        Args:
            hold: Called before the engine may have the task.
            release: Called after that, however it ends.
        """
        attempt, engine = self._attempt, self._attempt.engine
        started = await attempt.prepare()
        hold()
        try:
            await attempt.send()
            yield started
            replies = await attempt.first_replies()
            # In this generator rather than one of its own: what follows runs once per token, so it calls little.
            watch, decoder, now = attempt.watch, attempt.plan.decoder, attempt.now
            call, prompt = attempt.call, attempt.prompt
            last: list[TokenEvent] = []
            """What came with the engine's last word, where the end goes out with it."""
            while True:
                found: list[TokenEvent] = []
                for reply in replies:
                    if isinstance(reply, Run):
                        decoder.feed_run(reply, found)
                        if decoder.done:
                            self.over = True
                            break
                        continue
                    if reply.error is not None:
                        self._refusal = reply.error
                        # Without the flag it is the refusal of the request itself: nothing follows either.
                        self.over = reply.final is not False
                        break
                    if reply.outputs:
                        decoder.feed(reply, found)
                    if reply.final or decoder.done:
                        self.over = True
                        break
                    if reply.final is None:
                        self._unflagged = True
                if found:
                    if self._first_token_ms is None:
                        self._first_token_ms = (perf_counter() - attempt.submitted) * 1e3
                        if not self.over:
                            attempt.answering()
                    if self.over and self._refusal is None and self._ends_at_once():
                        last = found
                        break
                    yield found if len(found) > 1 else found[0]
                if self.over or self._refusal is not None or call is None:
                    break
                watch.waiting_since = now()
                try:
                    if prompt is None:
                        replies = await call.read()
                    else:
                        while (ready := prompt.take_runs()) is None:
                            await prompt.arrival()
                        replies = ready
                except (AdapterError, asyncio.CancelledError) as exc:
                    raise attempt.read_error(exc)
                watch.waiting_since = None
                if not replies:
                    if not self._unflagged or await engine.ends_by_flag():
                        raise attempt.incomplete()
                    self.over = True
                    break
            if not last:
                await self._settle()
            try:
                last += self._closing()
            except AdapterError:
                if last:
                    yield last
                raise
            yield last
        except AdapterError as exc:
            engine.note_failure(attempt.model, exc)
            raise
        finally:
            release()

    def _closing(self) -> list[TokenEvent]:
        """Return what the decoder held back, the figures, and the end; raises what the engine said instead."""
        attempt = self._attempt
        if self._refusal is not None:
            raise self._in_band(self._refusal)
        held, end = attempt.plan.decoder.finish()
        attempt.engine.note_success(attempt.model)
        if attempt.plan.texts.images:
            attempt.engine.note_images(attempt.model, seen=True)
        closing: list[TokenEvent] = [*held]
        if self._first_token_ms is not None:
            usage = end.usage
            closing.append(
                Metrics(
                    time_to_first_token_ms=self._first_token_ms, tokens_in=usage.tokens_in, tokens_out=usage.tokens_out
                )
            )
        closing.append(end)
        return closing

    def _in_band(self, text: str) -> AdapterError:
        attempt = self._attempt
        texts = attempt.plan.texts
        hidden = (*texts(), *attempt.engine.transport.secrets)
        # An engine that does not take a parameter of its own seldom says which: name those the task had.
        own = ", ".join(f"triton.{name}" for name in texts.own)
        error = error_for(
            None, text, what=f"{attempt.what} with {own}" if own else attempt.what, hide=hidden,
            theirs=texts.quotable, begun=self._first_token_ms is not None,
            request_id=attempt.job_id,
        )  # fmt: skip
        if texts.images and isinstance(error, Unsupported):
            attempt.engine.note_images(attempt.model, seen=False)
        return error

    def _ends_at_once(self) -> bool:
        """Return whether the end need not be waited for; if so, `_settle` has nothing left to do."""
        attempt = self._attempt
        if not attempt.plan.decoder.done:
            if attempt.call is not None and not has_settled(attempt.call):
                return False
            attempt.call = None
        attempt.watch.stop()
        return True

    async def _settle(self) -> None:
        # All is said: a deadline that runs out now, or did while nobody read, must not take the end away again.
        attempt = self._attempt
        if self._refusal is not None and not self.over:
            return
        attempt.watch.stop()
        if attempt.call is None or attempt.plan.decoder.done or attempt.watch.stage is not None:
            return
        # Half of what is left, so that the guard's own deadline does not fall into it.
        if await settle(attempt.call, attempt.remaining_s / 2):
            attempt.call = None

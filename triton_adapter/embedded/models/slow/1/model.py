"""Counts slowly: the words of the prompt over and over, one per token.

Request parameters: `max_tokens` and `delay_ms` (the model's configuration has the defaults); `ignore_cancel` goes on
after a cancel; `hang_after` sends so many tokens and then nothing more until the cancel.
`probe` starts no generation and answers one message with JSON: how many generations are `running`, and how many have
`started`, `finished` and seen a cancel (`cancelled`) since the model was loaded, and when it saw the last of these
(`cancelled_at`, seconds by the machine's monotonic clock, or null); with `probe_id` set to a request's id, also `state`
of that request: running, finished, cancelled, or unknown.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "model_code"))

from tiny import serving

_POLL_S = 0.01
_STATES_KEPT = 10_000


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._defaults = {
            "max_tokens": int(serving.setting(args, "TOKENS", "50")),
            "delay_ms": float(serving.setting(args, "DELAY_MS", "50")),
        }
        self._counts = {"running": 0, "started": 0, "finished": 0, "cancelled": 0}
        self._states = {}
        self._cancelled_at = None
        self._requests = serving.RequestLoop(self._serve)

    async def _serve(self, request, sender):
        options = self._defaults | serving.parameters(request)
        if "probe" in options:
            state = self._states.get(str(options.get("probe_id")), "unknown")
            report = {**self._counts, "cancelled_at": self._cancelled_at}
            report |= {"state": state} if "probe_id" in options else {}
            serving.send(sender, {"text_output": serving.strings(json.dumps(report))}, final=True)
            return
        self._count(request, "running", started=1, running=1)
        try:
            await self._generate(request, sender, options)
        except serving.Cancelled:
            self._cancelled_at = time.monotonic()
            self._count(request, "cancelled", cancelled=1, running=-1)
            raise
        except BaseException:
            self._count(request, "failed", running=-1)
            raise
        self._count(request, "finished", finished=1, running=-1)

    async def _generate(self, request, sender, options):
        words = serving.value(request, "text_input").split() or ["tick"]
        total = int(options["max_tokens"])
        for index in range(total):
            if index == options.get("hang_after"):
                await self._pause(sender, float("inf"), options)
            await self._pause(sender, float(options["delay_ms"]) / 1000, options)
            text = serving.strings(f"{words[index % len(words)]} ")
            serving.send(sender, {"text_output": text}, final=index == total - 1)
        if total <= 0:
            serving.send_final(sender)

    async def _pause(self, sender, seconds, options):
        """Wait, looking for a cancel every few milliseconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            if not options.get("ignore_cancel"):
                serving.raise_if_cancelled(sender)
            left = end - loop.time()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _POLL_S))

    def _count(self, request, state, **changes):
        for name, change in changes.items():
            self._counts[name] += change
        if request.request_id():
            self._states[request.request_id()] = state
            if len(self._states) > _STATES_KEPT:
                del self._states[next(iter(self._states))]

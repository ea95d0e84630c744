"""How much is asked of the engine: bounded before anything is sent, and said in one sentence."""

from __future__ import annotations

from typing import Any

import msgspec

from adapter_api import InvalidRequest
from worker_adapter.bench.samples import Kind

LEAST_ROUNDS = 5
MOST_TO_SETTLE = 3
"""Tasks by which is found out what the model takes."""
_MOST_PIECES = 5_000_000
"""Of one client in one round: the time of each is kept until the round is over."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The load. Each client has `tasks` tasks in each round, `streams` of them at once; nothing outlasts `seconds`."""

    kind: Kind
    rounds: int = LEAST_ROUNDS
    streams: int = 8
    tasks: int = 16
    tokens: int = 64
    """At most, of one task."""
    seconds: float = 60.0
    pause_ms: float = 0.0
    """How long a reader waits after each piece: a slow consumer."""

    def check(self) -> None:
        """Raise `InvalidRequest` for a load that is none, or that would not fit into memory."""
        if self.kind == "text" and self.tasks * self.tokens > _MOST_PIECES:
            raise InvalidRequest(
                f"--tasks {self.tasks} of --tokens {self.tokens} are {self.tasks * self.tokens:,} tokens a round; at "
                f"most {_MOST_PIECES:,}: the time of each is kept. Take more --rounds instead"
            )

    @property
    def warm_up(self) -> int:
        """Tasks of each client before the first round."""
        return min(self.tasks, self.streams)

    def sentence(self, clients: int) -> str:
        """Say the whole load, for so many clients."""
        tasks = clients * (self.warm_up + self.rounds * self.tasks) + MOST_TO_SETTLE
        what = f"{tasks} tasks of up to {self.tokens} tokens" if self.kind == "text" else f"{tasks} inferences"
        who = f"{clients} client{'s that take turns' if clients > 1 else ''}, {self.rounds} rounds and one to warm up"
        return f"at most {what} ({who}), {self.streams} at once, and at most {self.seconds:g} s"

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it, without what does not count for its kind."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        if self.kind == "tensors":
            del fields["tokens"], fields["pause_ms"]
        return fields

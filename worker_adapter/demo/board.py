"""What is known of each task of the show while it runs. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from adapter_api import CancelReceipt, End, Error, Started, Token, TokenEvent
from worker_adapter.demo.playbill import Act


@dataclass
class Lane:
    """One task, as its events tell."""

    act: Act
    submitted: float = field(default_factory=perf_counter)
    started: Started | None = None
    text: str = ""
    tokens: int = 0
    first_token: float | None = None
    last_token: float | None = None
    terminal: End | Error | None = None
    receipt: CancelReceipt | None = None

    def take(self, events: Sequence[TokenEvent]) -> str:
        """Take the next events in; returns the text that is new."""
        text = ""
        for event in events:
            if isinstance(event, Started):
                self.started = event
            elif isinstance(event, End | Error):
                self.terminal = event
            elif isinstance(event, Token):
                text += event.text
                self.tokens += 1
                self.last_token = perf_counter()
                self.first_token = self.first_token or self.last_token
        self.text += text
        return text

    @property
    def first_token_ms(self) -> float | None:
        """Milliseconds from submission to the first token."""
        return None if self.first_token is None else (self.first_token - self.submitted) * 1e3

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second since the first one."""
        if self.first_token is None or self.last_token is None or self.tokens < 2:
            return None
        return (self.tokens - 1) / max(self.last_token - self.first_token, 1e-9)

    @property
    def outcome(self) -> str:
        """How it stands, in a word."""
        if isinstance(self.terminal, End):
            return self.terminal.finish_reason
        if isinstance(self.terminal, Error):
            return self.terminal.code
        return "streaming" if self.tokens else "running" if self.started else "waiting"

    @property
    def went_as_planned(self) -> bool:
        """Whether it ended, and in a cancel exactly if that was the plan."""
        cancelled = self.outcome == "cancelled"
        return isinstance(self.terminal, End) and cancelled == (self.act.cancel_after is not None)


@dataclass
class Board:
    """All tasks of the show, in the order of their submission."""

    lanes: list[Lane]
    began: float = field(default_factory=perf_counter)

    @property
    def tokens(self) -> int:
        return sum(lane.tokens for lane in self.lanes)

    @property
    def running(self) -> int:
        return sum(lane.terminal is None for lane in self.lanes)

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of all together, from the first to the last."""
        first = [lane.first_token for lane in self.lanes if lane.first_token is not None]
        last = [lane.last_token for lane in self.lanes if lane.last_token is not None]
        return self.tokens / max(max(last) - min(first), 1e-9) if first and last else 0.0

    @property
    def twins_agree(self) -> bool | None:
        """Whether the tasks that share prompt, model and seed share their text too; `None` when none do."""
        texts: dict[tuple[str | None, str, int | None, int | None], set[str]] = {}
        twins = False
        for lane in self.lanes:
            task = lane.act.task
            seen = texts.setdefault((task.prompt, task.model, task.seed, task.max_tokens), set())
            twins = twins or bool(seen)
            seen.add(lane.text)
        return all(len(seen) == 1 for seen in texts.values()) if twins else None

"""Stop strings: cut a stream of text at the first one, showing nothing that may yet turn out to be part of one."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable


class StopCutter:
    """Cut text at a stop string, wherever the pieces of the stream end.

    The stop string that is complete first wins, as if the text came character by character; of two that are complete
    together, the longer. Held back is only what could still become a stop string.

    A character costs the same however many stop strings there are and whatever they are, for they come from whoever
    sends the task: all are looked for at once (Aho and Corasick, https://doi.org/10.1145/360825.360855).
    """

    __slots__ = ("_beginning", "_held", "_state", "_states", "stopped")

    def __init__(self, stops: Iterable[str]) -> None:
        stops = [stop for stop in stops if stop]
        self._states = _automaton(stops)
        self._state = self._states[0]
        # Most characters begin no stop string: those between are passed over at once.
        letters = "".join(sorted({re.escape(stop[0]) for stop in stops}))
        self._beginning = re.compile(f"[{letters}]" if stops else r"(?!)")
        self._held = ""
        self.stopped = False
        """True once a stop string was met; everything after it is dropped."""

    def feed(self, text: str) -> str:
        """Take the next piece and return what may be shown now."""
        if self.stopped:
            return ""
        root, state, at = self._states[0], self._state, 0
        while at < len(text):
            if state is root:
                found = self._beginning.search(text, at)
                if found is None:
                    break
                at = found.start()
            letter = text[at]
            while letter not in state.next and state is not root:
                state = state.shorter
            state = state.next.get(letter, root)
            at += 1
            if state.complete:
                self.stopped = True
                cut, held, self._held = len(self._held) + at - state.complete, self._held, ""
                return (held + text[:at])[:cut]
        self._state, kept = state, state.depth
        text = self._held + text
        self._held = text[len(text) - kept :] if kept else ""
        return text[: len(text) - kept] if kept else text

    def finish(self) -> str:
        """Return what was held back: no more text comes, so it is no stop string."""
        held, self._held = self._held, ""
        return held


class _State:
    """A beginning of a stop string that the text ends with, the longest one."""

    __slots__ = ("complete", "depth", "next", "shorter")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        """How many characters it has."""
        self.next: dict[str, _State] = {}
        self.shorter = self
        """The next shorter beginning of a stop string that it ends with."""
        self.complete = 0
        """Length of the longest stop string that it ends with; 0: of none."""


def _automaton(stops: Iterable[str]) -> list[_State]:
    """Return the states that stop strings make, those of few characters first; the first one is nothing at all."""
    root = _State(0)
    for stop in stops:
        state = root
        for letter in stop:
            state = state.next.get(letter) or state.next.setdefault(letter, _State(state.depth + 1))
        state.complete = len(stop)
    states, line = [root], deque([root])
    while line:
        parent = line.popleft()
        for letter, state in parent.next.items():
            shorter = parent.shorter
            while letter not in shorter.next and shorter is not root:
                shorter = shorter.shorter
            if parent is not root:
                state.shorter = shorter.next.get(letter, root)
            else:
                state.shorter = root
            state.complete = state.complete or state.shorter.complete
            states.append(state)
            line.append(state)
    return states

"""Whether answers to one request are the same to the byte, and whether a seed does what it should. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

import msgspec

Mode = Literal["sequential", "concurrent", "seed", "beside_unseeded", "beside_different"]
"""How a run was made. The last three have a seed that matters: alone, while a task without a seed runs, and while a
different, greedy one does."""

_CONTEXT_BYTES = 24


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `text` is `None` when the task failed: `error` says how then."""

    replica: str
    number: int
    """Counts the runs of one replica and mode from 1."""
    mode: Mode
    text: str | None = None
    finish_reason: str | None = None
    seed: int | None = None
    error: str | None = None

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the text's UTF-8 form."""
        return None if self.text is None else sha256(self.text.encode()).hexdigest()


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run first says something else than the reference, the first run of all.

    `position` counts the bytes that are the same in the texts' UTF-8 form. `expected` and `found` are the texts around
    it, cut from `excerpt_start` on.
    """

    replica: str
    number: int
    mode: Mode
    position: int
    excerpt_start: int
    expected: str
    found: str


class SeedVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the seeds: `ignored` says how one can tell; `None` when they work, or nothing can be told.

    `distinct` counts the different texts that the `seeds` gave. `beside_unseeded` and `beside_different` say whether a
    seed gave the same text as alone while another task ran; `None` when that was not tried, or not answered.
    """

    ignored: str | None = None
    seeds: tuple[int, ...] = ()
    distinct: int = 0
    beside_unseeded: bool | None = None
    beside_different: bool | None = None

    @property
    def holds(self) -> bool:
        """Whether a seed does what it should, as far as it was tried."""
        return self.ignored is None and self.beside_unseeded is not False and self.beside_different is not False


def first_divergence(runs: Sequence[Run]) -> Divergence | None:
    """Return where the answers first differ from the first one; `None` when all are the same. Failed runs are left out.

    Runs are compared in the order given, and the first that differs counts, wherever in the text that is.
    """
    answered = [run for run in runs if run.text is not None]
    for run in answered[1:]:
        reference, text = answered[0].text or "", run.text or ""
        if text != reference:
            return _divergence(run, reference.encode(), text.encode())
    return None


def distinct_texts(runs: Sequence[Run]) -> int:
    """Return how many different answers there are."""
    return len({run.text for run in runs if run.text is not None})


def judge_seeds(runs: Sequence[Run], *, sampled: bool = True) -> SeedVerdict:
    """Return what runs with several seeds on one replica tell of them.

    Two signs give away a seed that is ignored: the same seed twice gives two texts, or all seeds give one. The second
    is one only where a temperature above 0 was asked for, as `sampled` says.
    """
    texts: dict[int, list[str]] = {}
    for run in runs:
        if run.mode == "seed" and run.seed is not None and run.text is not None:
            texts.setdefault(run.seed, []).append(run.text)
    seeds = tuple(sorted(texts))
    distinct = len({text for group in texts.values() for text in group})
    unstable = [seed for seed in seeds if len(set(texts[seed])) > 1]
    if unstable:
        ignored = f"seed {unstable[0]} gave different texts when it was used again"
    elif sampled and len(seeds) > 1 and distinct == 1:
        ignored = f"{len(seeds)} different seeds gave one and the same text"
    else:
        ignored = None
    return SeedVerdict(
        ignored=ignored,
        seeds=seeds,
        distinct=distinct,
        beside_unseeded=_same_beside(runs, texts, "beside_unseeded"),
        beside_different=_same_beside(runs, texts, "beside_different"),
    )


def _same_beside(runs: Sequence[Run], alone: dict[int, list[str]], mode: Mode) -> bool | None:
    beside = [run for run in runs if run.mode == mode and run.text is not None and run.seed in alone]
    return all(run.text in alone[run.seed or 0] for run in beside) if beside else None


def _divergence(run: Run, reference: bytes, text: bytes) -> Divergence:
    shorter = min(len(reference), len(text))
    position = next((at for at in range(shorter) if reference[at] != text[at]), shorter)
    start = max(position - _CONTEXT_BYTES, 0)
    # Whole characters: the two texts are the same up to `position`, so that one look tells for both.
    while start and reference[start : start + 1] and reference[start] & 0xC0 == 0x80:
        start -= 1
    return Divergence(
        replica=run.replica,
        number=run.number,
        mode=run.mode,
        position=position,
        excerpt_start=start,
        expected=_excerpt(reference, start, position),
        found=_excerpt(text, start, position),
    )


def _excerpt(text: bytes, start: int, position: int) -> str:
    end = position + _CONTEXT_BYTES
    while end < len(text) and text[end] & 0xC0 == 0x80:
        end += 1
    return text[start:end].decode(errors="replace") + ("…" if end < len(text) else "")

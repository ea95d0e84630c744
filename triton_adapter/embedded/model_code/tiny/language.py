"""A small language model: word n-grams with back-off over the help texts that every Python carries.

Nothing is counted beforehand. The text is one array of token ids plus, for each token, the places where it stands;
a context of up to `ORDER - 1` tokens is looked up by narrowing those places down. Training is a sort: 0.2 s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pydoc_data.topics import topics

import numpy as np
from numpy.typing import NDArray

ORDER = 5
EOS = 0
UNKNOWN = -1
# How far a longer context is trusted over the shorter one.
TRUST = 0.8
_TOKEN = re.compile(r" ?[^\W\d_]+| ?\d+| ?[^\w\s]+| ?_+|\n+|\s")
_HEADING = re.compile(r"^.+\n[*=~^\"'-]{3,}$", re.MULTILINE)

Distribution = NDArray[np.float64]


def tokenize(text: str) -> list[str]:
    """Return the tokens of `text`; joined, they are `text` again."""
    return _TOKEN.findall(text)


class LanguageModel:
    """Next-token probabilities after a context. Immutable once made, so safe for any number of generations."""

    def __init__(self) -> None:
        tokens = [token for section in _sections() for token in (*tokenize(section), "")]
        self.vocabulary = ["", *sorted({token for token in tokens if token})]
        self._ids = {token: token_id for token_id, token in enumerate(self.vocabulary)}
        self._text = np.array([self._ids[token] for token in tokens], dtype=np.int32)
        counts = np.bincount(self._text, minlength=len(self.vocabulary))
        # Places where each token stands and is followed by another.
        self._places = np.argsort(self._text[:-1], kind="stable")
        self._bounds = np.searchsorted(self._text[:-1][self._places], np.arange(len(self.vocabulary) + 1))
        self._unigram = counts / counts.sum()
        self._after = lru_cache(maxsize=256)(self._distribution)

    def encode(self, text: str) -> list[int]:
        """Return one id per token; `UNKNOWN` for a token that the training text lacks."""
        return [self._ids.get(token, UNKNOWN) for token in tokenize(text)]

    def decode(self, token_id: int) -> str:
        return self.vocabulary[token_id]

    def after(self, context: Sequence[int]) -> Distribution:
        """Return the probability of every token after `context`; the array is shared, do not write to it."""
        return self._after(tuple(context[-(ORDER - 1) :]))

    def _distribution(self, context: tuple[int, ...]) -> Distribution:
        # A prompt that ends in an unknown word says nothing: begin as a section would.
        if not context or context[-1] == UNKNOWN:
            context = (EOS,)
        probabilities: Distribution = self._unigram
        places = self._places[self._bounds[context[-1]] : self._bounds[context[-1] + 1]]
        for depth in range(1, len(context) + 1):
            if depth > 1:
                places = places[places >= depth - 1]
                places = places[self._text[places - (depth - 1)] == context[-depth]]
            if places.size == 0:
                break
            followers = np.bincount(self._text[places + 1], minlength=len(self.vocabulary)) / places.size
            probabilities = (1 - TRUST) * probabilities + TRUST * followers
        probabilities.setflags(write=False)
        return probabilities


def _sections() -> list[str]:
    """Return the prose of the help topics, cut at their headings, with the line wrapping undone."""
    sections = []
    for topic in sorted(topics):
        for section in _HEADING.split(topics[topic]):
            paragraphs = (re.sub(r"\s+", " ", paragraph).strip() for paragraph in section.split("\n\n"))
            prose = "\n\n".join(paragraph for paragraph in paragraphs if paragraph.count(" ") >= 6)
            if prose:
                # The blank makes the first word the same token as the same word further on.
                sections.append(" " + prose)
    return sections

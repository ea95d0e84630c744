"""Which tools a question wants, in order: by the words that it shares with their names, descriptions and parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .prompts import Tool

EXPRESSION = re.compile(r"[\d(][\d\s.()]*(?:(?:\*\*|[-+*/x×÷^])\s*[\d(][\d\s.()]*)+")
LAST = re.compile(r"\b(?:it|that|this|them|(?:the )?(?:result|answer|outcome|total|price|sum))\b", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{2,}")
_CLAUSES = re.compile(
    r"(?:[;?!\n]|[.,](?!\s*\d))\s*(?:and\s+)?(?:then\s+)?|\s+(?:and\s+then|then)\s+"
    r"|\s+and\s+(?=[a-z]{3,}\s|(?:in\s|for\s|of\s)?[A-Z])"
)
_NESTED = re.compile(r"(?<=[^\W\d])\s+(multiplied\s+by|divided\s+by|times|plus|minus)\s+(?=\d)")
_STOP_WORDS = frozenset(
    "the and for with you are use this that what which how tool function tools please given return returns get from "
    "into can will your has have does not all one two its his her was were any some then there them they answer call "
    "is of to in on at by an as it be or if do me my us we so input output value values parameter result number "
    "numbers name string text".split()
)
_SAME = {
    "times": "multipl", "product": "multipl", "plus": "add", "sum": "add", "total": "add", "minus": "subtract",
    "difference": "subtract", "divided": "divid", "cost": "pric", "costs": "pric", "temperature": "weath",
    "forecast": "weath", "calculate": "comput", "calculator": "comput", "calc": "comput", "evaluate": "comput",
    "arithmetic": "comput", "math": "comput", "sunny": "weath", "rain": "weath", "expensive": "pric",
}  # fmt: skip
_OPERATORS = {"*": "multipl", "x": "multipl", "×": "multipl", "+": "add", "-": "subtract", "/": "divid", "÷": "divid"}
_AT_LEAST = 2
_HINT_WORDS = 5


@dataclass(frozen=True)
class Step:
    """A tool to call, and the part of the question that it comes from."""

    tool: Tool
    clause: str

    @property
    def needs_last(self) -> bool:
        """Whether it speaks of what came before."""
        return LAST.search(self.clause) is not None


def steps_of(question: str, tools: Sequence[Tool]) -> list[Step]:
    """Return what the question wants done by tools; nothing where none fits."""
    steps: list[Step] = []
    hint: Tool | None = None
    usable = [tool for tool in tools if not is_final(tool)]
    # "the price of a lamp times 3": one after the other.
    question = _NESTED.sub(r", then \1 it and ", question)
    for clause in filter(None, map(str.strip, _CLAUSES.split(question))):
        best = max(((score(clause, tool), -at, tool) for at, tool in enumerate(usable)), default=(0, 0, None))
        tool = best[2] if best[0] >= _AT_LEAST else None
        if tool is not None and not _says_anything(clause):
            # "use the calculator" says with what, and not what.
            if steps and score(steps[-1].clause, tool):
                steps[-1] = Step(tool, steps[-1].clause)
            elif len(_WORD.findall(clause)) <= _HINT_WORDS:
                hint = tool
            else:
                steps.append(Step(tool, clause))
        elif tool is not None:
            steps.append(Step(hint if hint is not None and score(clause, hint) else tool, clause))
            hint = None
        elif hint is not None and _says_anything(clause):
            steps.append(Step(hint, clause))
            hint = None
        elif steps and re.match(r"(?:in |for |of )?[A-Z]", clause) and not clause.endswith(":"):
            steps.append(Step(steps[-1].tool, clause))  # "the weather in Paris and Rome"
    return steps or ([Step(hint, question)] if hint is not None else [])


def is_final(tool: Tool) -> bool:
    """Some frameworks take the answer itself as a call."""
    return tool.name.startswith("final_")


def score(text: str, tool: Tool) -> int:
    """Return how well a text fits a tool."""
    words, named = stems(text), stems(re.sub(r"([a-z])([A-Z])", r"\1 \2", tool.name).replace("_", " "))
    told = stems(tool.description) | stems(" ".join(tool.parameters.get("properties") or ()))
    found = 3 * len(words & named) + len(words & (told - named))
    if expression := EXPRESSION.search(text):
        operators = {_OPERATORS[sign] for sign in expression[0] if sign in _OPERATORS}
        found += 4 * len(operators & named) + 3 * ("comput" in named or "expression" in told)
    return found


def stems(text: str) -> set[str]:
    words = {word.lower() for word in _WORD.findall(text)} - _STOP_WORDS
    return {_SAME.get(word) or _stem(word) for word in words}


def _stem(word: str) -> str:
    return re.sub(r"(?:ations?|ators?|ing|ied|ed|er|es|e|s|y)$", "", word) if len(word) > 4 else word


def _says_anything(clause: str) -> bool:
    return (
        re.search(r"\d|['\"“]|\s(?:of|for|in|at|about|to|from)\s", clause) is not None
        or LAST.search(clause) is not None
    )

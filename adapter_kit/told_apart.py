"""How calls and thoughts will be told from the text of a model, and why so: for whoever runs it."""

from __future__ import annotations

import msgspec

from adapter_kit.chat_template import Template
from adapter_kit.thoughts import THOUGHTS_BY_NAME, Thoughts, thoughts_in
from adapter_kit.tool_calls import FAMILIES, found_in


class ToldApart(msgspec.Struct, frozen=True):
    """A way by its name, and what it was told from."""

    name: str | None
    """The way; `None` where all is text."""
    why: str
    advice: str | None = None
    """What to do where this is a guess, or nothing is known."""

    def __str__(self) -> str:
        said = f"{self.name or 'none'}: {self.why}"
        return said if self.advice is None else f"{said}; {self.advice}"


def calls_told(calls: str, template: Template | None) -> ToldApart:
    """Return how calls are told from text.

    Args:
        calls: What the settings say: a grammar, `auto` or `none`.
        template: The chat template that makes prompts of messages.
    """
    if calls != "auto":
        return ToldApart(None if calls == "none" else calls, "the settings say so")
    if template is None:
        return ToldApart(None, "there is no chat template")
    found = found_in(template)
    return ToldApart(found.grammar, found.why, _advice() if found.doubtful else None)


def thoughts_told(thoughts: str, template: Template | None) -> ToldApart:
    """Return how thoughts are told from text; see `calls_told`."""
    shown = None if template is None else thoughts_in(template.text)
    if thoughts == "auto":
        return ToldApart(shown, "the chat template has its marks" if shown else "the chat template has no marks of any")
    if thoughts == "none" and shown is not None:
        return ToldApart(None, f"the settings say so, but the chat template has marks of {shown!r}",
                         f"set reasoning_parser to {shown!r} to have thoughts apart from the answer")  # fmt: skip
    return ToldApart(None if thoughts == "none" else thoughts, "the settings say so")


def thoughts_by(thoughts: str, template: Template | None) -> Thoughts | None:
    """Return the marks of thoughts; `None` where there are none to look for."""
    name = thoughts_told(thoughts, template).name
    return None if name is None else THOUGHTS_BY_NAME[name]


def _advice() -> str:
    names = ", ".join(grammar.name for grammar in FAMILIES)
    return f"set tool_parser to what the model writes ({names}), or to 'none'"

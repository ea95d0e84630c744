"""What a task says in words: which of them no message may quote, and which an engine may take for its own."""

from __future__ import annotations

import msgspec

from adapter_api import TaskRequest


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """What is left of a task: what its errors have to know."""

    private: tuple[str, ...]
    quotable: tuple[str, ...]
    own: tuple[str, ...]
    images: bool


class Texts:
    """The texts of one task. Called, it returns those that no message may quote, as `WireRequest.private` wants it.

    Read from the task when they are asked for, which is when something went wrong.
    """

    __slots__ = ("_of",)

    def __init__(self, task: TaskRequest) -> None:
        self._of: TaskRequest | _Kept = task

    def __call__(self) -> tuple[str, ...]:
        """Return the task's prompt and messages, which no message may quote."""
        of = self._of
        if isinstance(of, _Kept):
            return of.private
        if of.prompt is not None:
            return (of.prompt,)
        messages = of.messages or ()
        calls = [call.arguments for message in messages for call in message.tool_calls]
        return (*[message.text for message in messages], *calls)

    @property
    def quotable(self) -> tuple[str, ...]:
        """Other texts of the task: an engine that quotes one must not be taken at the client's word."""
        of = self._of
        if isinstance(of, _Kept):
            return of.quotable
        values = [value for value in of.parameters.values() if isinstance(value, str)]
        wanted = of.response_format
        grammars = () if wanted is None else (wanted.regex, wanted.grammar)
        return (*of.stop, *of.parameters_for("triton"), *values, *[text for text in grammars if text is not None])

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the parameters that it has for this engine alone."""
        of = self._of
        return of.own if isinstance(of, _Kept) else tuple(sorted(of.parameters_for("triton")))

    @property
    def images(self) -> bool:
        """Whether images go with it."""
        of = self._of
        return of.images if isinstance(of, _Kept) else bool(of.images)

    def let_go(self) -> None:
        """Keep the texts alone, not the task."""
        self._of = _Kept(self(), self.quotable, self.own, self.images)

"""What a test expects of the requests to a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .records import RecordedRequest


class _Anything:
    def __repr__(self) -> str:
        return "anything"


ANYTHING: Final = _Anything()
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing that must be so in every request; `where` is input, parameter or metadata."""

    where: str
    name: str
    equals: Any = ANYTHING
    contains: str | None = None
    absent: bool = False

    def problem(self, request: RecordedRequest) -> str | None:
        """Return in what the request is not as expected; `None` when it is."""
        found = self._found(request)
        what = f"model {request.model!r}, request {request.id!r}: {self.where} {self.name!r}"
        if self.absent:
            return None if found is _MISSING else f"{what} should be absent, but is {found!r}"
        if found is _MISSING:
            return f"{what} is missing"
        if self.equals is not ANYTHING and found != self.equals:
            return f"{what} should be {self.equals!r}, but is {found!r}"
        if self.contains is not None and self.contains not in str(found):
            return f"{what} should contain {self.contains!r}, but is {found!r}"
        return None

    def _found(self, request: RecordedRequest) -> Any:
        if self.where == "input":
            return request.value(self.name, _MISSING)
        values = request.parameters if self.where == "parameter" else request.origin.metadata
        return values.get(self.name, _MISSING)

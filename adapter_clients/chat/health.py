"""Whether a question would be taken now."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_api import HealthReport


@dataclass(frozen=True, slots=True)
class ChatHealth:
    """How the engine is; true where it takes questions. `detail` says why it does not."""

    ready: bool
    detail: str
    report: HealthReport

    def __bool__(self) -> bool:
        return self.ready


def health_of(report: HealthReport, model: str | None) -> ChatHealth:
    """Return what a report of health means for one model; of a model that it does not list, the engine's own state."""
    if not report.ready:
        return ChatHealth(False, report.detail or f"the engine is {report.state.value}", report)
    for each in report.models:
        if each.name == model and not each.ready:
            return ChatHealth(False, f"model {model!r} is not ready", report)
    return ChatHealth(True, report.detail, report)

"""Which requirements prove a declared capability, and which capabilities no check of this version can prove."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from adapter_api import Capability
from conformance_tests.outcome import Status

PROOFS: Mapping[Capability, str] = {
    Capability.TEXT: "ORCH-3059-045",
    Capability.MESSAGES: "ORCH-3059-024",
    Capability.IMAGES: "ORCH-3059-025",
    Capability.STREAMING: "ORCH-3059-014",
    Capability.CANCEL_HARD: "ORCH-3060-014",
    Capability.STOP: "ORCH-3059-022",
    Capability.SEED: "ORCH-3059-023",
    Capability.LOGPROBS: "ORCH-3059-026",
    Capability.RESPONSE_FORMAT: "ORCH-3059-027",
    Capability.TOOLS: "ORCH-3059-061",
    Capability.REASONING: "ORCH-3059-062",
    Capability.PROMPT_TOKEN_IDS: "ORCH-3076-001",
    Capability.TOKEN_IDS: "ORCH-3076-002",
    Capability.CONTINUE_FINAL_MESSAGE: "ORCH-3076-004",
    Capability.PROMPT_LOGPROBS: "ORCH-3076-014",
    Capability.USAGE: "ORCH-3059-015",
    Capability.FINISH_REASON: "ORCH-3059-018",
    Capability.TENSORS: "ORCH-3061-001",
    Capability.TENSOR_STREAM: "ORCH-3061-014",
    Capability.SEQUENCES: "ORCH-3061-016",
}
"""A capability that is declared is proved when the check of this requirement passes."""

NOT_PROVABLE: Mapping[Capability, str] = {
    Capability.SHARED_MEMORY: "the contract has no call for it that the suite could make",
    Capability.MODEL_CONTROL: "the contract has no call for it that the suite could make",
    Capability.IMAGE_URLS: "the engine fetches the image, and the suite knows no URL that every engine reaches",
    Capability.CHAT_TEMPLATE_KWARGS: "what a template makes of its values only its author knows",
}
"""What this version of the suite has no check for, and why."""


class Proofs(NamedTuple):
    """The declared capabilities by what became of their proofs, each in order."""

    proved: tuple[str, ...]
    unproved: tuple[str, ...]
    not_provable: tuple[str, ...]


def proofs_of(declared: Iterable[str], statuses: Mapping[str, Status]) -> Proofs:
    """Sort the declared capabilities by whether they were proved; `statuses` are those of the requirements by ID.

    A proof that failed as the deviations file says counts as looked at: the verdict tells of it anyway.
    """
    proved, unproved, not_provable = [], [], []
    looked_at = (Status.PASSED, Status.DEVIATION, Status.FAILED, Status.UNEXPECTED_PASS)
    for name in sorted(set(declared)):
        requirement = {str(capability): id for capability, id in PROOFS.items()}.get(name)
        if requirement is None:
            not_provable.append(name)
        elif statuses.get(requirement) is Status.PASSED:
            proved.append(name)
        elif statuses.get(requirement) not in looked_at:
            unproved.append(name)
    return Proofs(tuple(proved), tuple(unproved), tuple(not_provable))

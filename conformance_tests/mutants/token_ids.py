"""ORCH-3076: token ids, how likely a prompt is, and messages that are continued."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from adapter_api import PromptLogprobs, PromptToken, TaskRequest, Token, TokenEvent, TokenIds
from conformance_tests.mutants.breaking import breaks
from conformance_tests.reference import ReferenceAdapter
from conformance_tests.reference.engine import Job, Piece


@breaks("ORCH-3076-001")
class LosesTheLastId(ReferenceAdapter):
    """Sends all ids of a prompt but the last."""

    def _given_ids(self, task: TaskRequest) -> tuple[int, ...] | None:
        ids = super()._given_ids(task)
        return None if ids is None else ids[:-1]


@breaks("ORCH-3076-001")
class SortsIds(ReferenceAdapter):
    """Sends ids by their size, each once."""

    def _given_ids(self, task: TaskRequest) -> tuple[int, ...] | None:
        ids = super()._given_ids(task)
        return None if ids is None else tuple(sorted(set(ids)))


@breaks("ORCH-3076-002")
class TellsNoPromptIds(ReferenceAdapter):
    """Tells the ids of the answer only."""

    def _prompt_ids(self, task: TaskRequest, job: Job) -> list[TokenIds]:
        return []


@breaks("ORCH-3076-002")
class TellsPromptIdsTwice(ReferenceAdapter):
    """Tells the ids of the prompt a second time."""

    def _prompt_ids(self, task: TaskRequest, job: Job) -> list[TokenIds]:
        return super()._prompt_ids(task, job) * 2


@breaks("ORCH-3076-002")
class TellsPromptIdsLate(ReferenceAdapter):
    """Tells the ids of the prompt behind the first token."""

    async def _submit(self, task: TaskRequest) -> AsyncGenerator[TokenEvent]:
        late: TokenIds | None = None
        async with aclosing(super()._submit(task)) as events:
            async for event in events:
                if isinstance(event, TokenIds) and event.prompt:
                    late = event
                    continue
                yield event
                if late is not None and isinstance(event, Token):
                    yield late
                    late = None


@breaks("ORCH-3076-002")
class TellsOneIdPerAnswer(ReferenceAdapter):
    """Tells the ids of pieces that it has seen before no more."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._seen: set[int] = set()

    def _output_ids(self, task: TaskRequest, piece: Piece) -> TokenIds | None:
        if piece.token_id in self._seen:
            return None
        self._seen.add(piece.token_id)
        return super()._output_ids(task, piece)


@breaks("ORCH-3076-003")
class TellsIdsToAll(ReferenceAdapter):
    """Tells the ids of the answer to tasks that did not ask."""

    def _output_ids(self, task: TaskRequest, piece: Piece) -> TokenIds | None:
        return TokenIds(output=(piece.token_id,))


@breaks("ORCH-3076-003")
class KeepsTellingIds(ReferenceAdapter):
    """Goes on telling ids once a task has asked for them."""

    asked = False

    def _output_ids(self, task: TaskRequest, piece: Piece) -> TokenIds | None:
        self.asked = self.asked or task.return_token_ids
        return TokenIds(output=(piece.token_id,)) if self.asked else None


@breaks("ORCH-3076-004")
class ClosesTheLastMessage(ReferenceAdapter):
    """Begins a new answer behind a message that is to be continued."""

    def _prompt(self, task: TaskRequest) -> str:
        said = super()._prompt(task)
        return said if task.messages is None else f"{said}\nassistant: "

    def _is_continued(self, task: TaskRequest) -> bool:
        return False


@breaks("ORCH-3076-004")
class ContinuesEveryMessage(ReferenceAdapter):
    """Goes on from the last message of every conversation."""

    def _is_continued(self, task: TaskRequest) -> bool:
        return task.messages is not None


@breaks("ORCH-3076-014")
class TellsNoPromptScores(ReferenceAdapter):
    """Tells of the answer only."""

    def _prompt_logprobs(self, task: TaskRequest, job: Job) -> list[PromptLogprobs]:
        return []


@breaks("ORCH-3076-014")
class LeavesOutTheFirstToken(ReferenceAdapter):
    """Begins with the second token of the prompt, the first that has a probability."""

    def _prompt_logprobs(self, task: TaskRequest, job: Job) -> list[PromptLogprobs]:
        return [msgspec.structs.replace(each, tokens=each.tokens[1:]) for each in super()._prompt_logprobs(task, job)]


@breaks("ORCH-3076-014")
class TellsProbabilitiesForLogarithms(ReferenceAdapter):
    """Tells how likely each token is as a number from 0 to 1."""

    def _scored(self, task: TaskRequest, ids: list[int]) -> list[PromptToken]:
        return [msgspec.structs.replace(each, logprob=0.5) for each in super()._scored(task, ids)]


@breaks("ORCH-3076-014")
class GivesOneOfTheLikeliest(ReferenceAdapter):
    """Tells one other token in each place, however many are asked for."""

    def _scored(self, task: TaskRequest, ids: list[int]) -> list[PromptToken]:
        return super()._scored(task.model_copy(update={"prompt_logprobs": 1}), ids)


@breaks("ORCH-3076-015")
class TellsPromptScoresToAll(ReferenceAdapter):
    """Tells how likely a prompt is to tasks that did not ask."""

    def _prompt_logprobs(self, task: TaskRequest, job: Job) -> list[PromptLogprobs]:
        asking = task if task.prompt_logprobs is not None else task.model_copy(update={"prompt_logprobs": 0})
        return super()._prompt_logprobs(asking, job)

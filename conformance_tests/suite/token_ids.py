"""ORCH-3076: token ids, how likely a prompt is, and messages that are continued."""

from __future__ import annotations

from adapter_api import Capability, Message, Output, PromptLogprobs, TokenIds
from conformance_tests.checks import requirement
from conformance_tests.outcome import Blocked, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject
from conformance_tests.suite.sent import read_echo

_IDS = (5, 3, 0, 9, 53, 5)
_LAST = "golf-5309 and so"
_ROUNDED = 1e-3
"""What a logarithm of 1 may be above 0: engines add up in single precision."""


@requirement("ORCH-3076-001")
async def test_token_ids_reach_the_engine(subject: Subject) -> None:
    """Send the echoing model prompts in token ids, one of them with an id more."""
    first = subject.harness.echo_task(prompt=None, prompt_token_ids=_IDS)
    subject.only_with(Capability.PROMPT_TOKEN_IDS, first.model)
    async with subject.open() as adapter:
        for ids in (_IDS, (*_IDS, 8)):
            task = subject.harness.echo_task(prompt=None, prompt_token_ids=ids)
            recording = await subject.succeed(adapter, task, f"a task of {len(ids)} token ids")
            sent = read_echo(subject, recording).fields.get("prompt_token_ids")
            if sent is None:
                raise Blocked("Harness.echoed does not tell of `prompt_token_ids`")
            expect(list(sent) == list(ids), f"of {len(ids)} token ids the engine was sent {len(sent)}, or others")


@requirement("ORCH-3076-002")
async def test_token_ids_are_told_where_they_are_asked_for(subject: Subject) -> None:
    """Run a task that asks for token ids, and count what it is told."""
    task = subject.harness.task(return_token_ids=True)
    subject.only_with(Capability.TOKEN_IDS, task.model)
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, task, "a task that asks for token ids")
    told = _told(recording)
    prompts = [place for place, event in told if event.prompt]
    expect(len(prompts) == 1, f"the ids of the prompt were told {len(prompts)} times")
    before = all(not isinstance(event, Output) for event in recording.said[: prompts[0]])
    expect(before, "the ids of the prompt were told after output")
    output = [each for _, event in told for each in event.output]
    expect(bool(output), "no ids of the answer were told")
    ended = recording.end
    # Whether `usage` is right is for other checks: it is only believed where nothing else tells.
    if ended.finish_reason == "length":
        counted = task.max_tokens
    else:
        counted = ended.usage.tokens_out if subject.declares(Capability.USAGE, task.model) else None
    if counted is not None:
        expect(len(output) == counted, f"{len(output)} ids of an answer of {counted} tokens were told")


@requirement("ORCH-3076-003")
async def test_token_ids_are_not_told_unasked(subject: Subject) -> None:
    """Run a task that does not ask for token ids, also after one that does."""
    async with subject.open() as adapter:
        if subject.declares(Capability.TOKEN_IDS, subject.harness.task().model):
            await subject.run(adapter, subject.harness.task(return_token_ids=True))
        recording = await subject.complete(adapter)
    expect(not _told(recording), "a task that did not ask for token ids was told some")


@requirement("ORCH-3076-004")
async def test_the_last_message_is_left_open(subject: Subject) -> None:
    """Send the echoing model a conversation whose last message is to be continued, and the same one as it is."""
    turns = (Message(role="user", content="foxtrot-5309"), Message(role="assistant", content=_LAST))
    task = subject.harness.echo_task(prompt=None, messages=turns, continue_final_message=True)
    subject.only_with(Capability.MESSAGES, task.model)
    subject.only_with(Capability.CONTINUE_FINAL_MESSAGE, task.model)
    async with subject.open() as adapter:
        plain = read_echo(subject, await subject.run(adapter, subject.harness.echo_task(prompt=None, messages=turns)))
        recording = await subject.run(adapter, task)
        expect(recording.error is None, f"a conversation to be continued failed: {recording.summary()}")
        sent = read_echo(subject, recording)
    told = sent.fields.get("continue_final_message") is True
    expect(told or sent.text.endswith(_LAST), "the engine was not told to go on from the last message")
    same = plain.fields.get("continue_final_message") is True or (not told and plain.text == sent.text)
    expect(not same, "the engine is told to go on from a message that is not to be continued")


@requirement("ORCH-3076-014")
async def test_the_prompts_probabilities_are_told_where_they_are_asked_for(subject: Subject) -> None:
    """Run a task that asks how likely each token of its prompt is, and look at what it is told."""
    first = subject.harness.task(prompt_logprobs=0)
    subject.only_with(Capability.PROMPT_LOGPROBS, first.model)
    async with subject.open() as adapter:
        for most in (0, 2):
            task = subject.harness.task(prompt_logprobs=most)
            recording = await subject.succeed(adapter, task, f"a task that asks for {most} tokens in each place")
            told = _scores(recording)
            expect(len(told) == 1, f"prompt_logprobs were told {len(told)} times")
            place, scores = told[0]
            before = all(not isinstance(event, Output) for event in recording.said[:place])
            expect(before, "prompt_logprobs were told after output")
            tokens = scores.tokens
            expect(bool(tokens), "no token of the prompt was told")
            expect(tokens[0].logprob is None, "the first token of the prompt has a probability, with nothing before it")
            unscored = sum(token.logprob is None for token in tokens[1:])
            expect(not unscored, f"{unscored} of {len(tokens)} tokens of the prompt have no probability")
            likely = [token.logprob for token in tokens if token.logprob is not None]
            likely += [other.logprob for token in tokens for other in token.alternatives]
            expect(max(likely, default=0.0) < _ROUNDED, "a token of the prompt is more than certain")
            given = max(len(token.alternatives) for token in tokens)
            expect(given <= most, f"{given} of the likeliest tokens were told where {most} were asked for")
            fewest = min((len(token.alternatives) for token in tokens[1:]), default=most)
            expect(fewest == most, f"{fewest} of the likeliest tokens were told where {most} were asked for")
            for token in tokens:
                order = [each.logprob for each in token.alternatives]
                expect(order == sorted(order, reverse=True), "the likeliest tokens of a place are not in their order")


@requirement("ORCH-3076-015")
async def test_the_prompts_probabilities_are_not_told_unasked(subject: Subject) -> None:
    """Run a task that does not ask how likely its prompt is, also after one that does."""
    async with subject.open() as adapter:
        if subject.declares(Capability.PROMPT_LOGPROBS, subject.harness.task().model):
            await subject.run(adapter, subject.harness.task(prompt_logprobs=1))
        recording = await subject.complete(adapter)
    expect(not _scores(recording), "a task that did not ask for prompt_logprobs was told some")


def _scores(recording: Recording) -> list[tuple[int, PromptLogprobs]]:
    return [(place, event) for place, event in enumerate(recording.said) if isinstance(event, PromptLogprobs)]


def _told(recording: Recording) -> list[tuple[int, TokenIds]]:
    return [(place, event) for place, event in enumerate(recording.said) if isinstance(event, TokenIds)]

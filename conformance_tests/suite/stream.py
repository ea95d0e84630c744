"""ORCH-3059: the stream of a task's events.

What the adapter itself says (`recording.said`) is looked at here, not what the guard of `adapter_api` makes of it.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import anyio

from adapter_api import (
    Capability,
    End,
    Error,
    Started,
    Token,
    TokenEvent,
    Usage,
    WorkerAdapter,
    decode_event,
    encode_event,
)
from conformance_tests.checks import requirement
from conformance_tests.harness import KnownText
from conformance_tests.outcome import Blocked, HarnessBroke, NotApplicable, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject, renamed


async def _several(subject: Subject) -> list[tuple[str, Recording]]:
    """Return plain tasks that ended, each with the words for which it was: a state that tasks share spoils one of them.

    The first one works, or the check is blocked.
    """
    async with subject.open() as adapter:
        recordings = [("the first task", await subject.complete(adapter))]
        recordings.append(("the second task", await subject.run(adapter, subject.harness.task())))
        together = [subject.submit(adapter, subject.harness.task()) for _ in range(2)]
        await subject.read_all(together)
    return recordings + [("one of two tasks at once", recording) for recording in together]


@requirement("ORCH-3059-001")
async def test_a_stream_begins_with_started(subject: Subject) -> None:
    """Run tasks one by one and two at once, and look at the first thing that the adapter says of each."""
    for which, recording in await _several(subject):
        first = recording.said[0] if recording.said else None
        begun = isinstance(first, Started) or recording.error is not None
        expect(begun, f"the first event of {which} is {_name(first)}, not started")


@requirement("ORCH-3059-002")
async def test_started_is_said_once(subject: Subject) -> None:
    """Run tasks one by one and two at once, and count the started events of each."""
    for which, recording in await _several(subject):
        positions = [at for at, event in enumerate(recording.said) if isinstance(event, Started)]
        expect(len(positions) < 2, f"{which} says started {len(positions)} times, at positions {positions}")


@requirement("ORCH-3059-003")
async def test_token_indices_count_from_zero_without_a_gap(subject: Subject) -> None:
    """Run tasks one by one and two at once, and compare the index of each token with its place in its task."""
    for which, recording in await _several(subject):
        for place, token in enumerate(recording.tokens):
            expect(token.index == place, f"token number {place} of {which} has the index {token.index}")


@requirement("ORCH-3059-004")
async def test_a_stream_ends_with_a_terminal_event(subject: Subject) -> None:
    """Run tasks to the end of the adapter's generators and look for `End`, `Error` or an `AdapterError`."""
    for which, recording in await _several(subject):
        ended = any(isinstance(event, End | Error) for event in recording.said)
        expect(
            ended or recording.raised is not None,
            f"the adapter's generator for {which} was exhausted after {len(recording.said)} events without an end",
        )


@requirement("ORCH-3059-005")
async def test_nothing_follows_the_terminal_event(subject: Subject) -> None:
    """Run tasks, one that fails among them, and let the adapter's generators run on past their terminal events."""
    recordings = await _several(subject)
    async with subject.open() as adapter:
        recordings.append(("a task for an unknown model", await subject.unknown_model(adapter)))

    for which, recording in recordings:
        for at, event in enumerate(recording.said):
            if isinstance(event, End | Error):
                said = [_name(later) for later in recording.said[at + 1 :]]
                said += [] if recording.raised is None else [type(recording.raised).__name__]
                expect(not said, f"the {_name(event)} of {which} is followed by {', '.join(said[:5])}")


@requirement("ORCH-3059-006")
async def test_a_stream_that_breaks_off_does_not_end_in_end(subject: Subject) -> None:
    """Let the engine stop talking before it is done, and look how the task ends."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        try:
            await subject.harness.fail_next("stream_incomplete")
            recording = await subject.run(adapter, subject.harness.task())
        except Skipped:
            async with subject.streaming(adapter) as recording:
                await subject.must_be_at_work()
                await subject.harness.drop_streams()
                await recording.rest()

    claimed = [event for event in recording.said if isinstance(event, End)]
    expect(not claimed, f"the engine broke off and the task ended in {_name(claimed[0]) if claimed else ''}, not error")


@requirement("ORCH-3059-007")
async def test_tokens_from_before_an_error_are_delivered(subject: Subject) -> None:
    """Let a task fail after the engine has handed out something, and look for that."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recording = None
        for code in ("engine_failed", "connection_lost", "stream_incomplete"):
            before = await subject.harness.emitted()
            try:
                await subject.harness.fail_next(code)
            except Skipped:
                continue
            recording = await subject.run(adapter, subject.harness.task())
            if await subject.harness.emitted() > before:
                break
        else:
            raise Skipped("the harness cannot make a task fail after its first token")

    expect(recording.tokens, f"the engine handed out tokens before the failure, and none came: {recording.summary()}")


@requirement("ORCH-3059-008")
async def test_started_carries_the_job_id(subject: Subject) -> None:
    """Run a task with a `job_id` of its own."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)

    told, asked = recording.started.job_id, recording.task.job_id
    expect(told == asked, f"started says job_id {told!r} for the task {asked!r}")


@requirement("ORCH-3059-009")
async def test_started_carries_the_model(subject: Subject) -> None:
    """Run a task and compare the model in started with the one asked for."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)

    told, asked = recording.started.model, recording.task.model
    expect(told == asked, f"started says model {told!r} for a task on {asked!r}")


@requirement("ORCH-3059-010")
async def test_the_tokens_join_to_the_text_of_the_engine(subject: Subject) -> None:
    """Run a task whose answer is known and join its tokens."""
    known = subject.harness.known_text()
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, known.task, "the task with a known answer")

    expect(
        recording.answer == known.text,
        f"the tokens join to {len(recording.answer)} characters and the answer has {len(known.text)}; "
        f"they differ from character {_first_difference(recording.answer, known.text)} on",
    )


@requirement("ORCH-3059-011")
async def test_no_token_holds_a_part_of_a_character(subject: Subject) -> None:
    """Run a task whose answer the engine cuts inside characters, and look for characters that it does not have."""
    known = subject.harness.split_text()
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, known.task, "the task with cut characters")

    problem = _broken_characters(recording, known)
    expect(problem is None, problem or "")


def _broken_characters(recording: Recording, known: KnownText) -> str | None:
    """Say what became of characters before the last.

    They are compared as sets: whether blanks are lost, or pieces repeated, is another requirement's matter.
    """
    strange = sorted(set(recording.answer) - set(known.text))
    if strange:
        return f"the tokens hold characters that the answer does not have: {strange!r}"
    missing = sorted(set(known.text[:-1]) - set(recording.answer) - {" "})
    return f"characters of the answer are lost: {missing!r}" if missing else None


@requirement("ORCH-3059-051")
async def test_a_cut_character_at_the_very_end_is_delivered(subject: Subject) -> None:
    """Run a task whose answer the engine cuts inside its last character, and look at the end of the text."""
    known = subject.harness.split_text()
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, known.task, "the task with cut characters")
    if (problem := _broken_characters(recording, known)) is not None:
        raise Blocked(problem)

    last = known.text[-1]
    expect(recording.answer.endswith(last), f"the answer ends in {last!r}, and the tokens in {recording.answer[-1:]!r}")


@requirement("ORCH-3059-052")
async def test_an_answer_that_stops_inside_a_character_ends_in_order(subject: Subject) -> None:
    """Run a task whose answer stops inside a character, and compare what comes before that."""
    known = subject.harness.cut_text()
    async with subject.open() as adapter:
        await _expect_whole_text(subject, adapter)
        with contextlib.suppress(Skipped):
            split = subject.harness.split_text()
            if (problem := _broken_characters(await subject.complete(adapter, split.task), split)) is not None:
                raise Blocked(problem)
        recording = await subject.succeed(adapter, known.task, "a task whose answer stops inside a character")

    if any("\ud800" <= character <= "\udfff" for character in recording.answer):
        raise Blocked("characters come in halves")
    expect(
        recording.answer.rstrip("\ufffd") == known.text,
        f"of an answer of {len(known.text)} whole characters and a part of one {len(recording.answer)} came: "
        "what is whole has to come, and of the rest nothing, or U+FFFD",
    )


@requirement("ORCH-3059-053")
async def test_a_task_that_is_tried_again_looks_like_one_that_was_not(subject: Subject) -> None:
    """Let the engine refuse a task, and break its connection before it answers; look at those that end in order."""
    (_, plain), *others = await _several(subject)
    if any(_differs(other, plain) for _, other in others):
        raise Blocked("tasks that are not tried again differ from one another as well")
    async with subject.open() as adapter:
        recordings = []
        for code in ("connect_failed", "not_ready", "overloaded", "connection_lost"):
            with contextlib.suppress(Skipped):
                await subject.harness.fail_next(code)
                recordings.append(await subject.run(adapter, subject.harness.task()))
        with contextlib.suppress(Skipped):
            recordings.append(await _cut_before_it_is_answered(subject, adapter))
    if not recordings:
        raise Skipped("the harness cannot make a task fail in a way that is worth trying again")
    again = [recording for recording in recordings if isinstance(recording.terminal, End)]
    if not again:
        raise NotApplicable("the adapter tries no task again")

    for recording in again:
        odd = _differs(recording, plain)
        expect(odd is None, f"a task that was tried again {odd}")


def _differs(recording: Recording, plain: Recording) -> str | None:
    """Say what a task shows that one which was not tried again does not: whether that is right is another's matter."""
    starts = sum(isinstance(event, Started) for event in recording.said)
    if starts != sum(isinstance(event, Started) for event in plain.said):
        return f"says started {starts} times"
    indices, usual = ([token.index for token in one.tokens] for one in (recording, plain))
    shorter = min(len(indices), len(usual))
    return None if indices[:shorter] == usual[:shorter] else f"counts its tokens {indices[:5]}"


async def _cut_before_it_is_answered(subject: Subject, adapter: WorkerAdapter) -> Recording:
    first_s = await subject.first_token_s(adapter)
    recording = subject.submit(adapter, subject.harness.task())
    async with anyio.create_task_group() as readers:
        async with subject.engine_paused():
            readers.start_soon(recording.rest)
            await anyio.sleep(max(0.2, min(4 * first_s, subject.harness.settle_s)))  # for it to reach the engine
            with contextlib.suppress(HarnessBroke):  # one that asks the engine to do it cannot while it is paused
                await subject.harness.drop_streams()
    return recording


@requirement("ORCH-3059-012")
async def test_the_tokens_do_not_repeat_the_prompt(subject: Subject) -> None:
    """Run a task and compare the beginning of its text with the prompt."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)

    prompt = recording.task.prompt or subject.harness.prompt
    expect(not recording.text.startswith(prompt), "the text begins with the prompt")


@requirement("ORCH-3059-013")
async def test_an_empty_answer_ends_in_order(subject: Subject) -> None:
    """Run a task that the engine answers with no text at all."""
    task = subject.harness.empty_task()
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, task, "a task with an empty answer")

    expect(recording.text == "", f"{len(recording.text)} characters came for an empty answer")


@requirement("ORCH-3059-014")
async def test_the_first_token_comes_while_the_engine_generates(subject: Subject) -> None:
    """Take the first token of a long task and ask the engine, or the clock, whether it is still at work."""
    subject.only_with(Capability.STREAMING, subject.harness.long_task().model)
    async with subject.open() as adapter:
        began = anyio.current_time()
        async with subject.streaming(adapter) as recording:
            first_s = anyio.current_time() - began
            try:
                at_work = await subject.harness.in_flight() > 0
            except Skipped:
                await recording.rest()
                at_work = first_s < (anyio.current_time() - began) / 2

    expect(at_work, "the first token of the long task came when the engine had generated all of them")


@requirement("ORCH-3059-015")
async def test_usage_counts_the_tokens_of_the_answer(subject: Subject) -> None:
    """Compare `tokens_out` with what is known of the answer, and with `max_tokens` where that ended it."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)
        subject.only_with(Capability.USAGE, recording.task.model)
        _expect_counted(recording)
        try:
            known = subject.harness.known_text()
        except Skipped:
            return
        if known.tokens_out is not None:
            counted = (await subject.succeed(adapter, known.task, "the task with a known answer")).end.usage.tokens_out
            expect(counted == known.tokens_out, f"tokens_out is {counted} for an answer of {known.tokens_out} tokens")


def _expect_counted(recording: Recording) -> None:
    counted, events, limit = recording.end.usage.tokens_out, len(recording.tokens), recording.task.max_tokens
    expect(counted is not None, "the adapter declares usage, and tokens_out is None")
    assert counted is not None
    expect(counted >= events, f"tokens_out is {counted} and there were {events} token events")
    if recording.end.finish_reason == "length" and limit is not None and events <= limit:
        expect(counted == limit, f"tokens_out is {counted} for a task that ended because of its max_tokens={limit}")


@requirement("ORCH-3059-016")
async def test_usage_counts_the_tokens_of_the_prompt(subject: Subject) -> None:
    """Compare `tokens_in` with what is known of the prompt; at least it must be more than zero."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)
        subject.only_with(Capability.USAGE, recording.task.model)
        counted = recording.end.usage.tokens_in
        expect(counted is not None and counted > 0, f"tokens_in is {counted} for a prompt that is not empty")
        try:
            known = subject.harness.known_text()
        except Skipped:
            return
        if known.tokens_in is not None:
            counted = (await subject.succeed(adapter, known.task, "the task with a known answer")).end.usage.tokens_in
            expect(counted == known.tokens_in, f"tokens_in is {counted} for a prompt of {known.tokens_in} tokens")


@requirement("ORCH-3059-017")
async def test_usage_is_none_where_it_is_not_declared(subject: Subject) -> None:
    """Run a task on a model that does not declare usage."""
    subject.only_without(Capability.USAGE, subject.harness.task().model)
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)

    expect(recording.end.usage == Usage(), f"usage is not declared and end says {recording.end.usage}")


@requirement("ORCH-3059-018")
async def test_reaching_max_tokens_is_length(subject: Subject) -> None:
    """Run a task with `max_tokens` 2, whose answer is longer."""
    task = subject.harness.task(max_tokens=2)
    subject.only_with(Capability.FINISH_REASON, task.model)
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, task, "a task with max_tokens 2")
    if len(recording.tokens) > 2:
        raise Blocked(f"max_tokens=2 did not cut the answer: {len(recording.tokens)} tokens came")

    reason = recording.end.finish_reason
    expect(reason == "length", f"the task was cut at max_tokens and its finish reason is {reason}")


@requirement("ORCH-3059-019")
async def test_an_answer_that_ends_by_itself_is_stop(subject: Subject) -> None:
    """Run a task whose known answer is shorter than its `max_tokens`."""
    known = subject.harness.known_text()
    subject.only_with(Capability.FINISH_REASON, known.task.model)
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, known.task, "the task with a known answer")

    reason = recording.end.finish_reason
    expect(reason == "stop", f"the model ended its answer by itself and the finish reason is {reason}")


@requirement("ORCH-3059-020")
async def test_a_finish_reason_that_is_not_declared_is_not_claimed(subject: Subject) -> None:
    """Run a task on a model that does not declare that it tells why it ended."""
    subject.only_without(Capability.FINISH_REASON, subject.harness.task().model)
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)

    reason = recording.end.finish_reason
    expect(reason not in ("stop", "length"), f"finish_reason is not declared and end claims {reason}; say unknown")


@requirement("ORCH-3059-021")
async def test_max_tokens_is_kept(subject: Subject) -> None:
    """Run a task with `max_tokens` 2 and count."""
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, subject.harness.task(max_tokens=2), "a task with max_tokens 2")

    expect(len(recording.tokens) <= 2, f"{len(recording.tokens)} tokens came for max_tokens=2")


@requirement("ORCH-3059-022")
async def test_the_text_ends_before_a_stop_string(subject: Subject) -> None:
    """Run a repeatable task again with stop strings out of its own answer: a word, and the seam between two words."""
    async with subject.open() as adapter:
        whole = await _stoppable(subject, adapter)
        for stop in filter(None, (_word_within(whole.answer), _seam_within(whole.answer))):
            # Behind another one, as those who look at the first only would not see it.
            recording = await _run_with_stops(subject, adapter, whole, "unlikely-5309", stop)
            _expect_cut(recording.answer, whole.answer[: whole.answer.find(stop)], stop)


async def _stoppable(subject: Subject, adapter: WorkerAdapter, capability: Capability = Capability.STOP) -> Recording:
    """Return a repeatable task, run without a stop string, on a model that takes some."""
    known = await subject.repeatable(adapter, capability)
    subject.only_with(Capability.STOP, known.task.model)
    whole = await subject.complete(adapter, renamed(known.task))
    if whole.text != known.text:
        raise Blocked("the answer does not come through whole without a stop string either")
    return whole


async def _run_with_stops(subject: Subject, adapter: WorkerAdapter, whole: Recording, *stops: str) -> Recording:
    """Run the same task with stop strings."""
    task = renamed(whole.task).model_copy(update={"stop": stops})
    return await subject.succeed(adapter, task, "a task with stop strings")


def _expect_cut(answer: str, before: str, stop: str) -> None:
    expect(stop not in answer, f"the text contains the stop string, {len(stop)} characters long")
    expect(answer.strip() or not before.strip(), "there is text before the stop string, and none came")
    expect(
        before.startswith(answer.rstrip()),
        f"the text has {len(answer)} characters; up to the stop string there are {len(before)}. What may be the "
        "beginning of a stop string has to be held back until it is known not to be",
    )


def _word_within(text: str) -> str:
    """Return a word from the middle of a text, which is not at its beginning as well."""
    words = text.split()
    for word in words[len(words) // 2 :]:
        if text.find(word) > 0:
            return word
    raise Skipped("the known answer has no word in its middle that could be a stop string")


def _seam_within(text: str) -> str | None:
    """Return a blank from the middle of a text with the characters on both its sides: it lies in no single token."""
    for at in range(len(text) // 2, len(text) - 1):
        if text[at] == " " and not text[at - 1].isspace() and not text[at + 1].isspace():
            return text[at - 1 : at + 2]
    return None


@requirement("ORCH-3059-023")
async def test_the_same_seed_gives_the_same_text(subject: Subject) -> None:
    """Run one task three times with one seed, and with the seed 0."""
    subject.only_with(Capability.SEED, subject.harness.task().model)
    async with subject.open() as adapter:
        for seed in (subject.seed + 7, 0):
            task = subject.harness.task(seed=seed)
            texts = {(await subject.succeed(adapter, renamed(task), "a task with a seed")).text for _ in range(3)}
            expect(len(texts) == 1, f"three tasks with the seed {seed} got {len(texts)} different texts")


@requirement("ORCH-3059-024")
async def test_messages_are_answered(subject: Subject) -> None:
    """Run a task with messages."""
    task = subject.harness.messages_task()
    subject.only_with(Capability.MESSAGES, task.model)
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, task, "a task with messages")

    expect(recording.text, "a task with messages was answered with no text")


@requirement("ORCH-3059-025")
async def test_an_image_is_answered(subject: Subject) -> None:
    """Run a task with an image."""
    task = subject.harness.images_task()
    subject.only_with(Capability.IMAGES, task.model)
    subject.only_with(Capability.MESSAGES, task.model)
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, task, "a task with an image")

    expect(recording.text, "a task with an image was answered with no text")


@requirement("ORCH-3059-026")
async def test_log_probabilities_are_told(subject: Subject) -> None:
    """Run a task with `logprobs` 0: no alternatives, the chosen token only."""
    task = subject.harness.task(logprobs=0)
    subject.only_with(Capability.LOGPROBS, task.model)
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, task, "a task with logprobs")

    for token in recording.tokens:
        expect(token.logprob is not None, f"token {token.index} has no logprob")
        expect((token.logprob or 0) <= 0, f"token {token.index} has the logprob {token.logprob}, more than certain")


@requirement("ORCH-3059-048")
async def test_alternatives_are_told_or_refused(subject: Subject) -> None:
    """Run a task with `logprobs` 2."""
    task = subject.harness.task(logprobs=2)
    subject.only_with(Capability.LOGPROBS, task.model)
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recording = await subject.run(adapter, task)

    if recording.error is not None:
        expect(recording.error.code == "unsupported", f"a task with `logprobs` 2 ended so: {recording.summary()}")
        return
    expect(any(token.alternatives for token in recording.tokens), "a task with `logprobs` 2 got no alternatives")
    for token in recording.tokens:
        logprobs = [alternative.logprob for alternative in token.alternatives]
        expect(len(logprobs) <= 2, f"token {token.index} has {len(logprobs)} alternatives; two were asked for")
        expect(
            logprobs == sorted(logprobs, reverse=True), f"token {token.index} has its likeliest alternative not first"
        )


@requirement("ORCH-3059-027")
async def test_a_json_schema_is_kept(subject: Subject) -> None:
    """Run a task with a JSON Schema, parse its text and hold it against the schema's types and required fields."""
    task = subject.harness.json_task()
    subject.only_with(Capability.RESPONSE_FORMAT, task.model)
    async with subject.open() as adapter:
        await _expect_whole_text(subject, adapter)
        recording = await subject.succeed(adapter, task, "a task with a response format")
    schema = (task.response_format.json_schema if task.response_format else None) or {}
    try:
        value = json.loads(recording.answer)
    except ValueError as exc:
        value = None
        if _was_cut(recording) and recording.answer.lstrip().startswith(_JSON_BEGINS.get(schema.get("type", ""), "")):
            raise Blocked(f"the JSON was cut at max_tokens={task.max_tokens}; allow more in Harness.json_task") from exc
        expect(False, f"the text is not JSON: {exc}")
    problem = _schema_problem(value, schema)
    expect(problem is None, f"the JSON does not conform to the schema: {problem}")


_JSON_BEGINS = {"object": "{", "array": "[", "string": '"'}


def _was_cut(recording: Recording) -> bool:
    """Whether an answer may have been ended by its `max_tokens`, as told, or as counted where nothing is told."""
    reason, limit, counted = recording.end.finish_reason, recording.task.max_tokens, recording.end.usage.tokens_out
    if reason == "unknown":
        return limit is not None and max(len(recording.tokens), counted or 0) >= limit
    return reason == "length"


async def _expect_whole_text(subject: Subject, adapter: WorkerAdapter) -> None:
    """Block the check when a known answer does not come through whole."""
    try:
        known = subject.harness.known_text()
    except Skipped:
        return
    if (await subject.complete(adapter, known.task)).answer != known.text:
        raise Blocked("a known answer does not come through whole")


_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "integer": int,
    "null": type(None),
}  # fmt: skip


def _schema_problem(value: Any, schema: dict[str, Any], place: str = "$") -> str | None:
    """Say what is wrong, as far as types, `required` and `enum` go: enough for the schemas of harnesses."""
    wanted = schema.get("type")
    if wanted is not None and not isinstance(value, _JSON_TYPES[wanted]):
        return f"{place} is {type(value).__name__}, not {wanted}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{place} is not among the {len(schema['enum'])} allowed values"
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                return f"{place} lacks {name!r}"
        for name, inner in schema.get("properties", {}).items():
            if name in value and (problem := _schema_problem(value[name], inner, f"{place}.{name}")):
                return problem
    return None


@requirement("ORCH-3059-028")
async def test_a_slow_reader_receives_every_event(subject: Subject) -> None:
    """Read a repeatable task with a pause before each event and compare its text."""
    async with subject.open() as adapter:
        known = await subject.repeatable(adapter)
        fast = await subject.complete(adapter, renamed(known.task))
        recording = subject.submit(adapter, renamed(known.task))
        while await recording.next() is not None:  # noqa: ASYNC110 - the pause is the point
            await anyio.sleep(0.05)

    seen = "".join(event.text for event in recording.read if isinstance(event, Token))
    expect(
        seen == fast.text,
        f"a slow reader got {len(seen)} characters where a fast one got {len(fast.text)}: {recording.summary()}",
    )


@requirement("ORCH-3059-029")
async def test_a_reader_that_does_not_read_holds_up_nobody(subject: Subject) -> None:
    """Leave a long task unread after its first token and run others beside it."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        async with subject.streaming(adapter):
            await anyio.sleep(0.5)
            for _ in range(3):
                with anyio.move_on_after(10 * subject.harness.settle_s) as waited:
                    await subject.run(adapter, subject.harness.task())
                expect(
                    not waited.cancelled_caught,
                    f"a task was not done after {10 * subject.harness.settle_s:g} s beside a stream nobody reads",
                )


@requirement("ORCH-3059-039")
async def test_only_events_of_the_contract_are_said(subject: Subject) -> None:
    """Run tasks one by one and two at once, and look at the types of what the adapter says."""
    for which, recording in await _several(subject):
        strange = [_name(event) for event in recording.said if not isinstance(event, TokenEvent)]
        expect(not strange, f"{which} says things that are no events: {', '.join(strange[:5])}")


@requirement("ORCH-3059-040")
async def test_every_event_survives_its_json_form(subject: Subject) -> None:
    """Encode and decode every event of a task."""
    async with subject.open() as adapter:
        recording = await subject.run(adapter, subject.harness.task())
    if not recording.said:
        raise Blocked(f"a plain task says nothing: {recording.summary()}")

    for event in recording.said:
        if not isinstance(event, TokenEvent):
            continue
        try:
            same = decode_event(encode_event(event)) == event
        except Exception as exc:
            same = False
            expect(False, f"{_name(event)} has no JSON form: {exc}")
        expect(same, f"{_name(event)} is not the same after encoding and decoding: a field holds another type")


@requirement("ORCH-3059-041")
async def test_one_stream_may_be_read_by_several_tasks(subject: Subject) -> None:
    """Read each event of a task in another asyncio or trio task: a cancel scope held across a `yield` breaks then."""
    async with subject.open() as adapter:
        await subject.complete(adapter)
        recording = subject.submit(adapter, subject.harness.task())
        more = True

        async def read_one() -> None:
            nonlocal more
            more = await recording.next() is not None

        while more:
            async with anyio.create_task_group() as readers:
                readers.start_soon(read_one)

    expect(isinstance(recording.terminal, End), f"read by several tasks, the task failed: {recording.summary()}")


@requirement("ORCH-3059-042")
async def test_a_reader_that_stops_reading_does_not_fill_memory(subject: Subject) -> None:
    """Stop reading a very long task after its first token and count what the engine hands out meanwhile."""
    limit = subject.harness.most_ahead
    if limit is None:
        raise Skipped("nobody knows how many tokens may be on their way: Harness.most_ahead is None")
    task = subject.harness.long_task(max_tokens=10 * limit)
    async with subject.open() as adapter:
        await subject.complete(adapter)
        before = await subject.harness.emitted()
        async with subject.streaming(adapter, task):
            ahead, last = await subject.harness.emitted() - before, -1
            if not ahead:
                raise Blocked("Harness.emitted does not count the token that was read")
            # Until it stops running ahead, or has run too far.
            while last != ahead <= limit:
                await anyio.sleep(0.2)
                ahead, last = await subject.harness.emitted() - before, ahead

    expect(ahead <= limit, f"{ahead} tokens were taken from the engine for a reader that read one")


@requirement("ORCH-3059-043")
async def test_a_generator_closes_without_an_exception(subject: Subject) -> None:
    """Run a task, leave one before its end, let one fail, and see what their generators raise while being closed."""
    async with subject.open() as adapter:
        complete = await subject.complete(adapter)
        left = subject.submit(adapter, subject.harness.task())
        await left.next()
        await left.stream.aclose()
        failed = await subject.unknown_model(adapter)

    for recording, what in ((complete, "a plain task"), (left, "a task left early"), (failed, "a task that failed")):
        raised = recording.raised_closing
        expect(raised is None, f"the generator of {what} raised {type(raised).__name__} while it was closed: {raised}")


@requirement("ORCH-3059-044")
async def test_a_tool_is_called(subject: Subject) -> None:
    """Run a task that the model answers with a tool call."""
    task = subject.harness.tools_task()
    subject.only_with(Capability.TOOLS, task.model)
    subject.only_with(Capability.FINISH_REASON, task.model)
    async with subject.open() as adapter:
        recording = await subject.succeed(adapter, task, "a task with tools")

    reason = recording.end.finish_reason
    expect(reason == "tool_calls", f"the model called a tool and the finish reason is {reason}")


@requirement("ORCH-3059-045")
async def test_a_task_is_answered(subject: Subject) -> None:
    """Run the harness's plain task."""
    async with subject.open() as adapter:
        recording = await subject.run(adapter, subject.harness.task())

    answered = recording.raised is None and isinstance(recording.terminal, End)
    expect(answered and recording.text, f"a plain task was not answered: {recording.summary()}")


@requirement("ORCH-3059-046")
async def test_an_answer_cut_at_a_stop_string_is_stop(subject: Subject) -> None:
    """Run a repeatable task again, with a word of its own answer as stop string."""
    async with subject.open() as adapter:
        whole = await _stoppable(subject, adapter)
        subject.only_with(Capability.FINISH_REASON, whole.task.model)
        recording = await _run_with_stops(subject, adapter, whole, _word_within(whole.answer))
    ended_by_itself = whole.task.max_tokens is None or len(whole.tokens) < whole.task.max_tokens
    if ended_by_itself and whole.end.finish_reason != "stop":
        raise Blocked(f"an answer that ends by itself is called {whole.end.finish_reason} as well")
    if len(recording.answer) >= len(whole.answer):
        raise Blocked("the stop string did not cut the answer")

    reason = recording.end.finish_reason
    expect(reason == "stop", f"the answer was cut at a stop string and the finish reason is {reason}")


@requirement("ORCH-3059-054")
async def test_usage_is_counted_beside_a_stop_string_too(subject: Subject) -> None:
    """Run a repeatable task again, with a word of its own answer as stop string, and compare the counts."""
    async with subject.open() as adapter:
        whole = await _stoppable(subject, adapter, Capability.USAGE)
        subject.only_with(Capability.USAGE, whole.task.model)
        counted = whole.end.usage
        if not counted.tokens_in or not counted.tokens_out:
            raise Blocked(f"usage is {counted} without a stop string")
        recording = await _run_with_stops(subject, adapter, whole, _word_within(whole.answer))
    if len(recording.answer) >= len(whole.answer):
        raise Blocked("the stop string did not cut the answer")

    usage = recording.end.usage
    expect(usage.tokens_in, f"tokens_in is {usage.tokens_in} with a stop string, and {counted.tokens_in} without")
    expect(
        usage.tokens_out is not None and len(recording.tokens) <= usage.tokens_out <= counted.tokens_out,
        f"tokens_out is {usage.tokens_out} for an answer that a stop string cut after {len(recording.tokens)} token "
        f"events; whole it has {counted.tokens_out}",
    )


@requirement("ORCH-3059-047")
async def test_what_only_begins_like_a_stop_string_is_delivered(subject: Subject) -> None:
    """Run a repeatable task again with stop strings that begin like its middle and its end, and go on otherwise."""
    async with subject.open() as adapter:
        whole = await _stoppable(subject, adapter)
        almost = (f"{word}-5309" for word in (_word_within(whole.answer), whole.answer.split()[-1]))
        recording = await _run_with_stops(subject, adapter, whole, *almost)

    expect(
        recording.answer == whole.answer,
        f"no stop string occurs in the answer of {len(whole.answer)} characters, and {len(recording.answer)} came: "
        "what was held back as the beginning of one has to be delivered when it is none",
    )


def _name(event: object) -> str:
    return type(event).__name__.lower() if isinstance(event, TokenEvent) else type(event).__name__


def _first_difference(left: str, right: str) -> int:
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))

"""ORCH-3059: what a model thinks, and the tools that it calls.

What the adapter itself says is looked at here, not what the guard of `adapter_api` makes of it.
"""

from __future__ import annotations

from adapter_api import Capability, TaskRequest, ToolCallDelta
from conformance_tests.checks import requirement
from conformance_tests.harness import KnownReasoning, KnownToolCalls
from conformance_tests.outcome import Blocked, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject, renamed


async def _several(subject: Subject, task: TaskRequest, what: str) -> list[tuple[str, Recording]]:
    """Return the task's recordings, each with the words for which it was: alone, and two at once."""
    async with subject.open() as adapter:
        recordings = [(what, await subject.succeed(adapter, task, what))]
        together = [subject.submit(adapter, renamed(task)) for _ in range(2)]
        await subject.read_all(together)
    return recordings + [(f"one of two at once, {what},", recording) for recording in together]


async def _calling(subject: Subject) -> list[tuple[str, Recording]]:
    task = subject.harness.tools_task()
    subject.only_with(Capability.TOOLS, task.model)
    recordings = await _several(subject, task, "a task that ends in a tool call")
    if not any(recording.tool_calls for _, recording in recordings):
        raise Blocked("no tool call is told of a task that ends in one")
    return recordings


async def _thinking(subject: Subject) -> tuple[KnownReasoning, list[tuple[str, Recording]]]:
    known = subject.harness.known_reasoning()
    subject.only_with(Capability.REASONING, known.task.model)
    return known, await _several(subject, known.task, "a task that makes the model think")


def _joined(pieces: list[ToolCallDelta]) -> list[tuple[str, str]]:
    """Return the name and the arguments of each call, however the pieces are ordered and named."""
    calls: dict[int, list[ToolCallDelta]] = {}
    for piece in pieces:
        calls.setdefault(piece.call, []).append(piece)
    return [
        (next((piece.name for piece in each if piece.name), ""), "".join(piece.arguments for piece in each))
        for each in calls.values()
    ]


@requirement("ORCH-3059-055")
async def test_thoughts_count_from_zero_without_a_gap(subject: Subject) -> None:
    """Run a task that makes the model think, alone and two at once, and compare each index with its place."""
    _, recordings = await _thinking(subject)
    if not any(recording.thoughts for _, recording in recordings):
        raise Blocked("a task that makes the model think tells no reasoning")
    for which, recording in recordings:
        for place, thought in enumerate(recording.thoughts):
            expect(thought.index == place, f"thought number {place} of {which} has the index {thought.index}")


@requirement("ORCH-3059-056")
async def test_tool_calls_come_one_after_the_other(subject: Subject) -> None:
    """Run a task that ends in a tool call, alone and two at once, and follow the calls that its pieces belong to."""
    for which, recording in await _calling(subject):
        begun = 0
        for at, piece in enumerate(recording.tool_calls):
            lawful = piece.call == begun or (begun > 0 and piece.call == begun - 1)
            due = f"{begun - 1} or {begun}" if begun else "0"
            expect(lawful, f"piece {at} of the tool calls of {which} belongs to call {piece.call} where {due} was due")
            begun = max(begun, piece.call + 1)


@requirement("ORCH-3059-057")
async def test_a_tool_call_begins_with_its_name(subject: Subject) -> None:
    """Run a task that ends in a tool call, alone and two at once, and look at the first piece of each call."""
    for which, recording in await _calling(subject):
        seen: set[int] = set()
        for piece in recording.tool_calls:
            named = isinstance(piece.name, str) and piece.name
            expect(named or piece.call in seen, f"tool call {piece.call} of {which} begins without its name")
            seen.add(piece.call)


@requirement("ORCH-3059-060")
async def test_the_arguments_of_tool_calls_are_what_the_engine_wrote(subject: Subject) -> None:
    """Run a task with known tool calls, alone and two at once, and compare their arguments, blank for blank."""
    known = subject.harness.known_tool_calls()
    subject.only_with(Capability.TOOLS, known.task.model)
    for which, recording in await _several(subject, known.task, "a task with known tool calls"):
        told = [(name, arguments) for name, arguments in _joined(recording.tool_calls) if name in dict(known.calls)]
        if not told:
            raise Blocked(f"no tool call of {which} is told")
        for name, arguments in told:
            expect((name, arguments) in known.calls, f"the arguments of a call of {which} are not what was written")


@requirement("ORCH-3059-061")
async def test_every_tool_call_is_told(subject: Subject) -> None:
    """Run a task that ends in tool calls, known ones where there are any, and compare the names."""
    known = _known_calls(subject)
    task = subject.harness.tools_task() if known is None else known.task
    subject.only_with(Capability.TOOLS, task.model)
    for which, recording in await _several(subject, task, "a task that ends in tool calls"):
        names = [name for name, _ in _joined(recording.tool_calls)]
        expect(names, f"{which} tells no tool call: {recording.summary()}")
        if known is not None:
            wanted = [name for name, _ in known.calls]
            expect(names == wanted, f"the model calls {wanted}, and {which} tells calls of {names}")


def _known_calls(subject: Subject) -> KnownToolCalls | None:
    try:
        return subject.harness.known_tool_calls()
    except Skipped:
        return None


@requirement("ORCH-3059-062")
async def test_thinking_is_told_whole_and_apart_from_the_answer(subject: Subject) -> None:
    """Run a task that makes the model think, alone and two at once, and compare its thoughts and its answer."""
    known, recordings = await _thinking(subject)
    for which, recording in recordings:
        thought = "".join(event.text for event in recording.thoughts)
        expect(
            thought == known.reasoning,
            f"the model thinks {len(known.reasoning)} characters, and the reasoning of {which} is another text, "
            f"of {len(thought)}",
        )
        leaked = known.reasoning in recording.text or _own_words(known) & set(recording.text.split())
        expect(not leaked, f"the tokens of {which} hold what the model thinks")


def _own_words(known: KnownReasoning) -> set[str]:
    """Return what the model thinks and does not say: the answer itself is another requirement's matter."""
    return set(known.reasoning.split()) - set(known.text.split())

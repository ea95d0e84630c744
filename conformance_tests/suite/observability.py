"""ORCH-3062: what adapters let people see."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

from adapter_api import Capability, Message, Metrics, PluginHost, WorkerAdapter
from conformance_tests.checks import requirement
from conformance_tests.outcome import Blocked, NotApplicable, Skipped, expect
from conformance_tests.recording import Recording
from conformance_tests.subject import Subject
from conformance_tests.suite.errors import CANARY, INJECTED

LABELS = frozenset({"engine", "engine_version", "pool_id", "replica_id", "model_id"})
_BUCKETS = frozenset({"le", "quantile"})
"""Labels of prometheus's own."""


@contextlib.contextmanager
def _log_records() -> Iterator[list[str]]:
    """Gather every log record that is made, at any level, as text."""
    texts: list[str] = []
    factory, root = logging.getLogRecordFactory(), logging.getLogger()
    level, quiet = root.level, logging.NullHandler()

    def remember(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        texts.append(_text_of(record))
        return record

    logging.setLogRecordFactory(remember)
    root.setLevel(logging.DEBUG)
    root.addHandler(quiet)  # else logging prints what nobody handles
    try:
        yield texts
    finally:
        root.removeHandler(quiet)
        root.setLevel(level)
        logging.setLogRecordFactory(factory)


def _text_of(record: logging.LogRecord) -> str:
    parts = [record.getMessage(), *(str(value) for value in vars(record).values() if isinstance(value, str | dict))]
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(repr(record.exc_info[1]))
    return " ".join(parts)


async def _use(subject: Subject, prompt: str) -> list[Recording]:
    """Use an adapter in every way the harness has: tasks that end, fail and are cancelled, health and props."""
    async with subject.open() as adapter:
        recordings = [await subject.run(adapter, subject.harness.task(prompt=prompt))]
        if subject.declares(Capability.MESSAGES, recordings[0].task.model):
            messages = (Message(role="user", content=prompt),)
            recordings.append(await subject.run(adapter, subject.harness.task(prompt=None, messages=messages)))
        recordings.append(await subject.unknown_model(adapter, prompt=prompt))
        recordings += await subject.failures(adapter, *INJECTED, prompt=prompt)
        cancelled = subject.submit(adapter, subject.harness.long_task(prompt=prompt))
        await cancelled.next()
        await adapter.cancel(cancelled.task.job_id)
        await cancelled.rest()
        with contextlib.suppress(Exception):
            await adapter.health()
            await adapter.props()
    return recordings


@requirement("ORCH-3062-001")
async def test_logs_hold_no_text_of_prompts_or_answers(subject: Subject) -> None:
    """Use the adapter with a conspicuous prompt and search every log record for it, and for a known answer."""
    prompt = f"say {CANARY} please"
    with _log_records() as texts:
        await _use(subject, prompt)
    expect(not any(CANARY in text for text in texts), "a log record contains text of the prompt")

    try:
        known = subject.harness.known_text()
    except Skipped:
        return
    with _log_records() as texts:
        async with subject.open() as adapter:
            await subject.run(adapter, known.task)
    words = [word for word in known.text.split() if len(word) > 3]
    # Each in some record: also an answer that is logged token by token is found.
    logged = bool(words) and all(any(word in text for text in texts) for word in words)
    expect(not logged, "log records contain the answer")


@requirement("ORCH-3062-002")
async def test_logs_hold_no_credential(subject: Subject) -> None:
    """Use the adapter and search every log record for the harness's secrets."""
    secrets = subject.secrets()
    with _log_records() as texts:
        await _use(subject, subject.harness.prompt)

    leaked = any(secret in text for secret in secrets for text in texts)
    expect(not leaked, "a log record contains a credential of the adapter")


@requirement("ORCH-3062-003")
async def test_repr_holds_no_credential(subject: Subject) -> None:
    """Look at the `repr` of an adapter, closed and open."""
    secrets = subject.secrets()
    async with subject.open() as adapter:
        told = f"{adapter!r} {adapter}"
    told += f"{subject.adapter()!r}"

    expect(not any(secret in told for secret in secrets), "the repr of the adapter contains a credential")


@requirement("ORCH-3062-004")
async def test_an_adapter_prints_nothing(subject: Subject) -> None:
    """Use the adapter and look at what Python code wrote to standard output and standard error."""
    output, errors = io.StringIO(), io.StringIO()
    with _log_records(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        await _use(subject, subject.harness.prompt)

    expect(not output.getvalue(), f"{len(output.getvalue())} characters were written to standard output")
    expect(not errors.getvalue(), f"{len(errors.getvalue())} characters were written to standard error")


def _collectors(subject: Subject) -> list[Any]:
    """Return the prometheus collectors of the harness's plugin."""
    name = subject.harness.plugin
    if name is None:
        raise Skipped("the harness names no plugin: Harness.plugin is None")
    for report in subject.harness.load_plugins().reports:
        if report.name == name or any(record.name == name for record in report.adapters):
            break
    else:
        raise Blocked(f"no plugin provides {name!r}")
    try:
        plugin = sys.modules.get(report.target) or importlib.import_module(report.target)
    except ImportError as exc:
        raise Blocked(f"the plugin {report.target} cannot be imported: {exc}") from exc
    host = PluginHost()
    host.add(name, plugin)
    collectors = [collector for found in host.call("worker_adapter_collectors") for collector in found]
    if not collectors:
        raise NotApplicable("the plugin exports no metrics")
    return collectors


@requirement("ORCH-3062-005")
async def test_metrics_keep_to_the_label_budget(subject: Subject) -> None:
    """Use the adapter, collect the plugin's metrics and look at their labels."""
    collectors = _collectors(subject)
    recordings = await _use(subject, subject.harness.prompt)

    samples = [sample for collector in collectors for metric in collector.collect() for sample in metric.samples]
    labels = {str(label) for collector in collectors for label in getattr(collector, "_labelnames", ())}
    labels |= {str(label) for sample in samples for label in sample.labels}
    extra = sorted(labels - LABELS - _BUCKETS)
    expect(not extra, f"the plugin's metrics have labels beyond the budget: {', '.join(extra)}")
    values = {str(value) for sample in samples for value in sample.labels.values()}
    expect(not values & {recording.task.job_id for recording in recordings}, "a label's value is the job_id of a task")


@requirement("ORCH-3062-006")
async def test_metrics_are_named_after_the_plugin(subject: Subject) -> None:
    """Collect the plugin's metrics and look at their names."""
    prefix = f"{(subject.harness.plugin or '').replace('-', '_')}_"
    names = {metric.name for collector in _collectors(subject) for metric in collector.collect()}

    other = sorted(name for name in names if not name.startswith(prefix))
    expect(not other, f"metrics are not named {prefix}…: {', '.join(other[:5])}")


@requirement("ORCH-3062-007")
async def test_metrics_do_not_count_more_than_the_end(subject: Subject) -> None:
    """Compare the token counts of the last metrics event with those of end."""
    async with subject.open() as adapter:
        recording = await subject.complete(adapter)
    subject.only_with(Capability.USAGE, recording.task.model)
    metrics = [event for event in recording.said if isinstance(event, Metrics)]
    if not metrics:
        raise NotApplicable("the task said no metrics")

    usage = recording.end.usage
    for what, counted, total in (
        ("tokens_in", metrics[-1].tokens_in, usage.tokens_in),
        ("tokens_out", metrics[-1].tokens_out, usage.tokens_out),
    ):
        more = counted is not None and total is not None and counted > total
        expect(not more, f"metrics says {what}={counted} and end says {total}")


@requirement("ORCH-3062-011")
async def test_the_logging_of_the_process_is_left_alone(subject: Subject) -> None:
    """Compare the root logger's handlers and level before and after an adapter was opened and used."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.root.manager.disable)
    async with subject.open() as adapter:
        await subject.run(adapter, subject.harness.task())
    after = (list(root.handlers), root.level, logging.root.manager.disable)
    for handler in after[0]:
        if handler not in before[0]:
            root.removeHandler(handler)
    root.setLevel(before[1])

    expect(before == after, "the adapter changed the handlers or the level of the root logger")


@requirement("ORCH-3062-015")
async def test_health_tells_no_credential(subject: Subject) -> None:
    """Probe an engine that works, one that loads and one that is gone, and search the reports for the secrets."""
    secrets = subject.secrets()
    async with subject.open() as adapter:
        told = [await _told_by_health(adapter)]
        for fault in (subject.engine_unready, subject.engine_stopped):
            with contextlib.suppress(Skipped):
                async with fault():
                    told.append(await _told_by_health(adapter))

    expect(not any(secret in text for secret in secrets for text in told), "a health report contains a credential")


async def _told_by_health(adapter: WorkerAdapter) -> str:
    try:
        return str(await adapter.health())
    except Exception as exc:
        return str(exc)

"""`worker-adapter determinism`."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import AsyncExitStack
from typing import Annotated, Any

import anyio
import msgspec
import typer

from adapter_api import WorkerAdapter
from worker_adapter.determinism import Divergence, Run, SeedVerdict
from worker_adapter.engine_options import AdapterOption, JsonOption, SettingsOption, make_adapter
from worker_adapter.exit_codes import ExitCode
from worker_adapter.reporting import write_json
from worker_adapter.terminal import one_line, print_fields, say, styled
from worker_adapter.trials import Replica, Report, Trials

_PROMPT = "Write a short story about a river that forgets its name."
_SEED = 7
_MAX_TOKENS = 64


def determinism(
    model: Annotated[str, typer.Option("--model", "-m", help="Which model.")],
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            "-u",
            metavar="URL",
            envvar="WORKER_ADAPTER_URL",
            show_default=False,
            help="Where an engine is; repeat it to compare replicas.",
        ),
    ] = None,
    adapter: AdapterOption = None,
    option: SettingsOption = None,
    runs: Annotated[
        int, typer.Option("--runs", "-r", min=1, help="How often to ask each replica, in turn and then at once.")
    ] = 5,
    prompt: Annotated[str | None, typer.Option(help="What to ask.", show_default="a short one")] = None,
    model_version: Annotated[str | None, typer.Option(show_default="the engine's choice")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", show_default=str(_MAX_TOKENS))] = None,
    seed: Annotated[int | None, typer.Option(show_default=f"{_SEED}, where the model takes one")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", "-t", show_default="0: greedy")] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="For each task.")] = 60.0,
    as_json: JsonOption = False,
) -> int:
    """Send one request many times to one or more replicas and compare the answers byte by byte.

    Seeds are tried at a higher temperature too: one that is ignored is told. Exits 0 when every answer is the same, 1
    when not, or when a task failed or the seed does not hold, 3 when a replica cannot be reached.
    """
    replicas = _replicas(url or [None], adapter, option)
    task: dict[str, Any] = {"model": model, "prompt": prompt or _PROMPT, "timeout_s": timeout}
    if model_version is not None:
        task["model_version"] = model_version
    wanted = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    given = {name: value for name, value in wanted.items() if value is not None}
    # In the order in which they are missed most: what comes last is left out first.
    profile = {"max_tokens": _MAX_TOKENS, "seed": _SEED, "temperature": 0.0}
    trials = Trials(replicas, task, given=given, profile=profile, runs=runs)
    report = anyio.run(_run, trials, replicas)
    if as_json:
        write_json(_document(report))
    else:
        _print(report)
    return ExitCode.DONE if report.is_deterministic else ExitCode.FAILED


async def _run(trials: Trials, replicas: list[Replica]) -> Report:
    async with AsyncExitStack() as stack:
        for replica in replicas:
            await stack.enter_async_context(replica.adapter)
        return await trials.run()


def _replicas(urls: list[str] | list[None], adapter: str | None, option: list[str] | None) -> list[Replica]:
    seen: Counter[str] = Counter()
    found = []
    for url in urls:
        made: WorkerAdapter = make_adapter(url, adapter, option)
        name = url or made.engine
        seen[name] += 1
        found.append(Replica(name if seen[name] == 1 else f"{name} #{seen[name]}", made))
    return found


def _document(report: Report) -> bytes:
    runs = [
        {
            **msgspec.structs.asdict(run),
            "sha256": run.digest,
            "bytes": None if run.text is None else len(run.text.encode()),
        }
        for run in report.runs
    ]
    for run in runs:
        del run["text"]
    fields = {**msgspec.structs.asdict(report), "runs": runs}
    return msgspec.json.encode({"deterministic": report.is_deterministic, **fields}, order="deterministic")


def _print(report: Report) -> None:
    sent = ", ".join(f"{name} {value}" for name, value in report.sent.items())
    left_out = f"; the model takes no {', no '.join(report.left_out)}" if report.left_out else ""
    rows = [("model", report.model), ("sent", f"{sent}{left_out}".removeprefix("; "))]
    for replica in report.replicas:
        versions = f", model version {', '.join(replica.model_versions)}" if replica.model_versions else ""
        rows.append(("replica", f"{replica.name} ({replica.engine_version or 'version unknown'}{versions})"))
    compared = sum(run.mode != "seed" and run.text is not None for run in report.runs)
    rows.append(("answers", f"{compared}, {report.distinct} different" if report.distinct > 1 else f"{compared}"))
    rows.append(("seed", _of_seeds(report)))
    if report.seeds is not None:
        rows.append(("holds", _of_company(report.seeds)))
    print_fields(rows)
    print()
    _print_divergence(report)
    for run in report.failures[:3]:
        say(f"{_name(run)} failed: {run.error}")
    for finding in report.findings:
        say(f"{finding.severity}: {finding.message}")
        print(f"  → {one_line(finding.advice)}")
    if report.is_deterministic:
        print(styled("deterministic", "green", sys.stdout))
    else:
        print(styled("not deterministic", "red", sys.stdout))


def _of_seeds(report: Report) -> str:
    if report.seeds is None:
        return "not tried: the model takes none" if not report.failures else "not tried"
    if report.seeds.ignored is not None:
        return f"ignored: {report.seeds.ignored}"
    seeds = len(report.seeds.seeds)
    if report.seeds.distinct == 1:
        return f"cannot be told: {seeds} seeds gave one text, and the model takes no temperature"
    return f"works: {seeds} seeds gave {report.seeds.distinct} texts, and each the same again"


def _of_company(seeds: SeedVerdict) -> str:
    """Say which of the three hold: the same text again alone, beside a task without a seed, beside a different one."""
    tried = (
        ("alone", seeds.ignored is None),
        ("beside a task without a seed", seeds.beside_unseeded),
        ("beside a different task", seeds.beside_different),
    )
    return ", ".join(f"{how}: {'not told' if holds is None else 'yes' if holds else 'NO'}" for how, holds in tried)


def _print_divergence(report: Report) -> None:
    found = report.divergence
    if found is None:
        return
    print(f"{_name(found)} differs from the first answer after {found.position} bytes:")
    # As literals, so that what cannot be seen can be told apart.
    print(f"  first  {'…' if found.excerpt_start else ''}{found.expected!r}")
    print(f"  then   {'…' if found.excerpt_start else ''}{found.found!r}")
    print()


def _name(run: Run | Divergence) -> str:
    return f"{run.mode.replace('_', ' ')} run {run.number} of {run.replica}"

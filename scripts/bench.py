"""Run the benchmarks in one go, and write BENCHMARKS.md, its figures as JSON and its plot: `make bench`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import bench_results as read
import msgspec
from bench_page import comparisons, page
from bench_results import Results, Row, Section

from adapter_kit.printable import printable_line
from worker_adapter.bench.peers import NotRun
from worker_adapter.bench.plot import Bar, draw
from worker_adapter.bench.report import Machine, now

ROOT = Path(__file__).resolve().parent.parent
PAGE, DATA, PICTURE = Path("BENCHMARKS.md"), Path("benchmarks/results/bench.json"), Path("docs/benchmarks.png")
_PACKAGES = (
    "worker-adapter", "grpcio", "tritonclient", "nvidia-pytriton", "openai", "httpx", "aiohttp", "uvloop",
)  # fmt: skip
_LONGEST_S = 300.0
"""For one benchmark; what takes longer is ended, and the page says so."""
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Expired|Exit)\b")


_GATEWAY_ROWS = ("--only", "request", "--only", "token", "--only", "paced")


class Benchmark(NamedTuple):
    """A script, what it is told, and how its JSON is read."""

    name: str
    title: str
    script: str
    arguments: Sequence[str]
    read: Callable[[Any], Iterator[Row]]


def benchmarks(rounds: int, scale: float, smg: str | None, litellm: str | None) -> list[Benchmark]:
    """Return what is run, in this order. `scale` is the share of the full size."""

    def less(full: float, least: int = 1) -> str:
        return str(max(round(full * scale), least))

    def window(full: float) -> str:
        return f"{max(full * scale, 0.2):g}"

    turns = ("--rounds", str(rounds))
    python = [] if litellm is None else ["--litellm-python", str(Path(litellm).parent / "python")]
    gateways = ["--smg", smg] if smg else []
    return [
        Benchmark(
            "tokens", "Tokens and tasks over gRPC: cannon, paced, real Triton",
            "tokens.py", [*turns, "--scale", f"{scale:g}"], read.tokens,
        ),
        Benchmark(
            "late", "How late a token is",
            "lateness.py", [*turns, "--streams", less(512, 64)], read.lateness,
        ),
        Benchmark(
            "slow", "A slow consumer",
            "slow_consumer.py", [*turns, "--seconds", window(5), "--streams", less(32, 4)], read.slow_consumer,
        ),
        Benchmark(
            "infer", "Tensors over gRPC, and silent streams: real Triton, cannon",
            "grpc_infer.py", [*turns, "--seconds", window(1), "--streams", less(1000, 100)], read.grpc_infer,
        ),
        Benchmark(
            "http-infer", "Tensors over HTTP: real Triton",
            "http_infer.py", [*turns, "--seconds", window(1), "--stall", "1"], read.http_infer,
        ),
        Benchmark(
            "http", "HTTP/1.1: `adapter_kit.http` beside other clients",
            "http_clients.py", [*turns, "--scale", f"{scale:g}", "--idle", less(1000, 100)], read.http_clients,
        ),
        Benchmark(
            "openai", "Tokens of an OpenAI-compatible engine: cannon, paced",
            "openai_tokens.py", [*turns, "--scale", f"{scale:g}", "--idle", less(1000, 100), *python],
            read.openai_tokens,
        ),
        Benchmark(
            "gateway", "The host beside other gateways: CPU of the process that serves",
            "host_cost.py",
            [*turns, "--scale", f"{scale:g}", "--face", "chat", "--host", f"{read.OURS}=.", *gateways, *_GATEWAY_ROWS],
            read.host_cost,
        ),
    ]  # fmt: skip


def run(benchmark: Benchmark) -> Section:
    """Run one benchmark to its end, or end it when it takes too long, with all that it started."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks" / benchmark.script), "--json", *benchmark.arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    failed: str | None = None
    rows: tuple[Row, ...] = ()
    try:
        out, err = process.communicate(timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        failed = f"it was ended after {_LONGEST_S:g} s; take a smaller --scale"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if failed is None and process.returncode != 0:
        failed = f"it ended with {process.returncode}: {_why(err)}"
    elif failed is None:
        rows = tuple(benchmark.read(json.loads(out)))
    return Section(
        title=benchmark.title,
        command=shown(benchmark),
        seconds=round(time.monotonic() - began, 1),
        load_1m=round(os.getloadavg()[0], 1),
        rows=rows,
        failed=failed,
    )


def shown(benchmark: Benchmark) -> str:
    """Return its command as anybody may type it: without where this machine keeps its programs."""
    words = [Path(word).name if os.sep in word else word for word in benchmark.arguments]
    return " ".join(["python", f"benchmarks/{benchmark.script}", *words])


def not_run(smg: str | None, litellm: str | None) -> Iterator[NotRun]:
    """Yield the peers that this run had to do without."""
    if smg is None:
        yield NotRun("SMG", "not installed (`pip install smg` into an environment of its own; `--smg PROGRAM`)")
    if litellm is None:
        how = "`pip install 'litellm[proxy]'` into an environment of its own; `--litellm PROGRAM`"
        yield NotRun("LiteLLM", f"not installed ({how})")
    yield NotRun("LiteLLM's proxy, as a gateway", "it refuses to start without a master key, which is not set up here")
    if find_spec("pytriton") is None:
        yield NotRun("pytriton's client", "not installed (the extra `embedded`, on Linux and Python up to 3.12)")


def machine(others: dict[str, str | None]) -> Machine:
    """Return this machine with the versions of what is measured; `others` are programs by their package's name."""
    here = Machine.here(_PACKAGES)
    found = dict(here.packages)
    for package, program in others.items():
        if program is not None and (version := _version_beside(program, package)) is not None:
            found[package] = version
    return msgspec.structs.replace(here, packages=found)


def write(results: Results, root: Path) -> None:
    """Write the page, the figures and the plot."""
    for path in (DATA, PICTURE):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / DATA).write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    (root / PAGE).write_text(page(results, str(PICTURE), str(DATA)), encoding="utf-8")
    bars = [
        Bar(f"{row.name}{f', {row.unit}' if row.unit else ''}: {beside.name}", beside.ratio)
        for _, row, beside in comparisons(results)
    ]
    draw(bars, f"What others cost over what ours costs, {results.date}", root / PICTURE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=0.2, help="share of the full size; 1 takes most of an hour")
    parser.add_argument("--only", action="append", help="only this benchmark, by name; may be repeated")
    parser.add_argument("--smg", default=shutil.which("smg"), metavar="PROGRAM", help="SMG, the gateway")
    parser.add_argument("--litellm", default=shutil.which("litellm"), metavar="PROGRAM", help="LiteLLM's proxy")
    parser.add_argument("--again", type=Path, metavar="JSON", help="make the page and the plot anew from these figures")
    parser.add_argument("--to", type=Path, default=ROOT, metavar="FOLDER", help="where to write")
    options = parser.parse_args()
    if options.again is not None:
        write(msgspec.json.decode(options.again.read_bytes(), type=Results), options.to)
        return 0
    chosen = _chosen(benchmarks(options.rounds, options.scale, options.smg, options.litellm), options.only)
    where = machine({"smg": options.smg, "litellm": options.litellm})
    sections = []
    for benchmark in chosen:
        print(f"{benchmark.name}: {shown(benchmark)}", flush=True)
        section = run(benchmark)
        print(f"  {section.failed or f'{len(section.rows)} rows'} ({section.seconds:.0f} s)", flush=True)
        sections.append(section)
    results = Results(
        date=now(), machine=where, rounds=options.rounds, scale=options.scale, sections=tuple(sections),
        not_run=tuple(not_run(options.smg, options.litellm)),
    )  # fmt: skip
    write(results, options.to)
    print(f"wrote {PAGE}, {DATA}, {PICTURE}")
    return 1 if any(section.failed is not None for section in sections) else 0


def _chosen(known: list[Benchmark], only: list[str] | None) -> list[Benchmark]:
    names = [benchmark.name for benchmark in known]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names)}")
    return [benchmark for benchmark in known if only is None or benchmark.name in only]


def _version_beside(program: str, package: str) -> str | None:
    """Return a package's version in the environment in which a program is."""
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    try:
        ran = subprocess.run(
            [str(Path(program).parent / "python"), "-c", ask], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()


def _why(text: str) -> str:
    """Return the line that says what went wrong: the last exception's, whatever the servers said after it."""
    lines = [printable_line(line).strip() for line in text.splitlines()]
    raised = [line for line in lines if _RAISED.match(line)]
    line = (raised or [line for line in lines if line] or ["it said nothing"])[-1]
    return line.replace(str(ROOT), ".")[:200]


if __name__ == "__main__":
    sys.exit(main())

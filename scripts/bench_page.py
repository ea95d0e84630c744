"""`BENCHMARKS.md` from the results: what was measured, how, and what is lost as well as what is won. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from bench_results import Beside, Results, Row, Section

from worker_adapter.bench.rendering import spread_text

_METHOD = """\
Everything was measured by `make bench`, on one machine, the clients of a row in one run and by turns in every round;
what they were told was checked. Servers and clients are different processes. Costs are CPU time of the client's whole
process, so that waiting costs nothing; memory is resident memory. A cell is min – median – max of the
rounds. **A ratio is what the other costs over what ours costs, round by round: above 1 ours is cheaper, below 1 it is
the other.** Of gateways, which are not taken round by round, it is that of the medians, with the widest range that the
two leave open; figures of memory that show no range were taken once. *Text only* reads the text and leaves; *same work*
reads the finish reason and the counts and sees the call to its end, as ours always does. A *floor* checks nothing and
is no client that one could use. Rows of the OpenAI cannon are called by their full size, whatever was run of it.

*Cannon*: a server that shoots ready-made answers, so that little but the client is measured. *Triton*: the real one,
2.51, from the wheel that the extra `embedded` brings, with this project's demo models."""


def page(results: Results, picture: str, data: str) -> str:
    """Return the page.

    Args:
        picture: Where the plot is, as seen from the page.
        data: Where the results are.
    """
    lines = [
        "# Benchmarks",
        "",
        "<!-- Made by `make bench`: do not edit. -->",
        "",
        f"{results.date}; {results.rounds} rounds, at {results.scale:g} of the full size. {results.machine.sentence}.",
        *_of_load(results),
        "",
        _METHOD,
        "",
        f"The figures as JSON: [{data}]({data}). To measure an engine of your own: `worker-adapter bench URL`.",
        "",
        f"![The ratios, as bars]({picture})",
        "",
        *_verdicts(results),
    ]
    for section in results.sections:
        lines += ["", f"## {section.title}", "", *_section(section)]
    if results.not_run:
        lines += ["", "## Not run", "", *(f"* {peer.name}: {peer.reason}" for peer in results.not_run)]
    return "\n".join(lines) + "\n"


def comparisons(results: Results) -> Iterator[tuple[Section, Row, Beside]]:
    """Yield everything that was set beside ours."""
    for section in results.sections:
        for row in section.rows:
            for beside in row.beside:
                yield section, row, beside


def _verdicts(results: Results) -> Iterator[str]:
    """Sort what was compared by whether the rounds agree."""
    won: list[tuple[float, str]] = []
    lost: list[tuple[float, str]] = []
    open_: list[tuple[float, str]] = []
    for _, row, beside in comparisons(results):
        ratio = beside.ratio
        line = f"* {_named(row)}: **{ratio.median:.2f}×** [{ratio.min:.2f}–{ratio.max:.2f}] against {beside.name}"
        kept = won if ratio.min > 1 else lost if ratio.max < 1 else open_
        kept.append((ratio.median, line))
    yield from _list("What we win: ours was cheaper in every round", won, largest_first=True)
    yield ""
    yield from _list("What we lose: ours was dearer in every round", lost, largest_first=False)
    yield ""
    yield from _list("What this run cannot tell: the rounds disagree", open_, largest_first=False)


def _list(title: str, entries: list[tuple[float, str]], *, largest_first: bool) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    if not entries:
        yield "Nothing."
    yield from (line for _, line in sorted(entries, reverse=largest_first))


def _section(section: Section) -> Iterator[str]:
    load = "" if section.load_1m is None else f", load {section.load_1m:.1f} at its end"
    yield f"`{section.command}` ({section.seconds:.0f} s{load})"
    yield ""
    if section.failed is not None:
        yield f"**It did not come to its end**: {section.failed}"
        return
    yield "| | client | cost | ratio |"
    yield "| --- | --- | --- | --- |"
    for row in section.rows:
        yield _line(_named(row), "**ours**", spread_text(row.ours), "")
        for beside in row.beside:
            yield _line("", beside.name, spread_text(beside.cost), spread_text(beside.ratio, digits=2))


def _of_load(results: Results) -> Iterator[str]:
    cores = results.machine.cores
    loads = [section.load_1m for section in results.sections if section.load_1m is not None]
    if loads and cores is not None and max(loads) > cores:
        yield ""
        yield (
            f"**The machine was busy with other work (load {min(loads):.0f} to {max(loads):.0f} on {cores} cores): "
            "only ratios count, and ranges are wide.**"
        )


def _named(row: Row) -> str:
    return f"{row.name}, {row.unit}" if row.unit else row.name


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

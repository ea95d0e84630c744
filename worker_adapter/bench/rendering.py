"""A report as people read it: rows of a table, and Markdown. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from worker_adapter.bench.report import ClientReport, Report
from worker_adapter.bench.samples import Spread, figures_of


def headings(report: Report) -> list[str]:
    """Return the table's: the figure, each client, and how each peer compares."""
    ours, *peers = report.clients
    beside = [heading for peer in peers for heading in (peer.name, "ratio")]
    return ["min – median – max", ours.name, *beside]


def rows(report: Report) -> list[list[str]]:
    """Return one row per figure that anybody has, errors last."""
    ours, *peers = report.clients
    found = []
    for figure in figures_of(report.kind):
        if any(figure.key in client.figures for client in report.clients):
            cells = [figure.label, spread_text(ours.figures.get(figure.key))]
            for peer in peers:
                better = peer.ours_is_better.get(figure.key)
                cells += [spread_text(peer.figures.get(figure.key)), spread_text(better, digits=2)]
            found.append(cells)
    last = [f"errors, of {ours.tasks} tasks each", _errors(ours)]
    for peer in peers:
        last += [_errors(peer), ""]
    return [*found, last]


def spread_text(spread: Spread | None, *, digits: int | None = None) -> str:
    """Return `1.2 – 1.5 – 2.0`; nothing where there is none."""
    if spread is None:
        return ""
    return " – ".join(_number(value, digits) for value in (spread.min, spread.median, spread.max))


def remarks(report: Report) -> Iterator[str]:
    """Yield what a reader of the figures has to know, a sentence each."""
    planned = report.plan["rounds"]
    if report.stopped == "time":
        seconds = report.plan["seconds"]
        yield (
            f"the {seconds:g} s were up after {report.rounds} of {planned} rounds: give more --seconds, or take fewer "
            "--tasks or --tokens"
        )
    elif report.stopped is not None:
        yield f"{report.stopped} ended it after {report.rounds} of {planned} rounds"
    yield {
        "same": "all clients were answered the same, to the byte",
        "different": "NOT all clients were answered the same:",
    }.get(report.contents, f"contents {report.contents}")
    for mismatch in report.mismatches:
        place = "" if mismatch.position is None else f", the first after {mismatch.position} bytes"
        yield (
            f"{mismatch.client} was answered something else than ours in {mismatch.answers} of {mismatch.of} tasks"
            f"{place}: its figures are of other work, and not compared"
        )
    for client in report.clients[1:]:
        if client.note:
            yield f"{client.name} {client.note}"
    for peer in report.not_run:
        yield f"{peer.name} was not run: {peer.reason}"
    load, cores = report.machine.load_1m, report.machine.cores
    if load is not None and cores is not None and load > cores:
        yield f"the machine was busy (load {load:g} on {cores} cores): trust ratios, not times"
    if len(report.clients) > 1:
        yield "a ratio says how many times better ours is, round by round; below 1 it is worse"
    if report.kind == "text":
        yield "a token is a piece of text as it arrived; CPU is that of this whole process"


def markdown(report: Report) -> str:
    """Return the report as a page."""
    by = f", by {report.transport}" if report.transport else ""
    plan = ", ".join(f"{name} {value:g}" for name, value in report.plan.items() if isinstance(value, int | float))
    sent = "; ".join(f"{name} {value}" for name, value in report.sent.items()) or "nothing of its own"
    lines = [
        f"# {_cell(report.model)} on {_cell(report.engine_sentence)}",
        "",
        f"{report.date}; {report.rounds} rounds in which the clients took turns{by}. {report.machine.sentence}.",
        "",
        f"Load: {plan}. Sent: {_cell(sent)}.",
        "",
        _line(headings(report)),
        _line(["---"] * len(headings(report))),
        *(_line(row) for row in rows(report)),
        "",
        *(f"* {_cell(remark)}" for remark in remarks(report)),
    ]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _errors(client: ClientReport) -> str:
    return ", ".join(f"{count} {code}" for code, count in client.errors.items()) or "none"


def _number(value: float, digits: int | None) -> str:
    if digits is None:
        digits = 0 if value >= 1000 else 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:,.{digits}f}"

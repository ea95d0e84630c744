"""The rollout report as one HTML file with drawings in it, for people. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from orchestrator.rollout.report import PoolFigures, RolloutReport, Spread

_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")
_FIGURES = (
    ("ttft_ms", "Time to first token", "ms"),
    ("total_ms", "Time of a whole task", "ms"),
    ("tokens_per_s", "Tokens per second", "1/s"),
)
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Rollout</title>'
    "<style>{style}</style></head><body><main>{body}</main></body></html>"
)
_STYLE = """
:root { color-scheme: light dark; --page: #f5f6f8; --card: #fff; --text: #1a1d21; --quiet: #555b64; --line: #d9dde3; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1d2127; --text: #e8eaed; --quiet: #b4bac2;
--line: #363c45; } }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0; background: var(--page); color: var(--text); }
main { max-width: 72rem; margin: auto; padding: 1.2rem; } h1 { font-size: 1.35rem; } h2 { font-size: 1.1rem; }
figure { margin: 0 0 1rem; overflow-x: auto; background: var(--card); border: 1px solid var(--line);
border-radius: .6rem; padding: .7rem .9rem; } figure:focus-visible { outline: 3px solid Highlight; }
figcaption, caption { font-weight: 600; text-align: left; } .quiet, th { color: var(--quiet); font-weight: 400; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .4rem 1rem .4rem 0; }
td { border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; } th { white-space: nowrap; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: .35rem .8rem; align-items: center;
font-size: .9rem; max-width: 60rem; } .bound { text-align: right; color: var(--quiet); white-space: nowrap; }
.bound, .bar { font-variant-numeric: tabular-nums; }
.bar { display: flex; align-items: center; gap: .4rem; height: 1.05rem; }
.bar i { height: .8rem; border-radius: .15rem; } .key { display: inline-block; width: .8em; height: .8em;
margin-right: .4em; border-radius: .15em; }
@media (max-width: 44rem) {
main { padding: .8rem; } table, tbody, caption { display: block; }
thead { position: absolute; width: 1px; height: 1px; overflow: hidden; }
tr { display: block; border-top: 1px solid var(--line); padding: .4rem 0; }
td { display: flex; gap: 1rem; justify-content: space-between; border: 0; padding: .15rem 0; text-align: right; }
td > span { overflow-wrap: anywhere; min-width: 0; }
td::before { content: attr(data-head); color: var(--quiet); text-align: left; }
}
"""


def render(report: RolloutReport) -> str:
    """Return the page: figures per pool, their distributions side by side, and how answers agree."""
    parts = ["<h1>Rollout</h1>", _pool_table(report.pools)]
    if not any(pool.tasks for pool in report.pools):
        parts.append('<p class="quiet">No task has ended yet: there is nothing to compare.</p>')
    for name, title, unit in _FIGURES:
        parts.append(_figure(title, unit, [(pool.pool_id, getattr(pool, name)) for pool in report.pools]))
    parts.append(_agreements(report))
    return _PAGE.format(style=_STYLE, body="".join(parts))


def _pool_table(pools: tuple[PoolFigures, ...]) -> str:
    rows = [
        (
            f'<span class="key" style="background:{_colour(position)}"></span>{escape(pool.pool_id)}',
            f"shadow of {escape(pool.shadow_of)}" if pool.shadow_of else str(pool.weight),
            str(pool.tasks),
            escape(", ".join(f"{count} {code}" for code, count in sorted(pool.errors.items()))) or "none",
            _three(pool.ttft_ms),
            _three(pool.total_ms),
            _three(pool.tokens_per_s),
        )
        for position, pool in enumerate(pools)
    ]
    return _table(
        ("Pool", "Weight", "Tasks", "Errors", "First token ms", "Whole task ms", "Tokens/s"), rows, "p50 / p90 / p99"
    )


def _agreements(report: RolloutReport) -> str:
    if not report.agreements:
        return ""
    rows = [
        (
            f"{escape(each.pool_id)} and {escape(each.shadow_id)}",
            str(each.compared),
            _percent(each.same_text, each.compared),
            "" if each.same_tool_calls is None else _percent(each.same_tool_calls, each.compared),
            _percent(each.same_outcome, each.compared),
            _three(each.first_difference),
            str(each.skipped),
        )
        for each in report.agreements
    ]
    heads = (
        "Pools", "Compared", "Same text", "Same tool calls", "Same outcome", "First difference (characters)",
        "Left out",
    )  # fmt: skip
    return "<h2>Agreement of answers</h2>" + _table(heads, rows, "a pool and its shadow") + _box_agreements(report)


def _box_agreements(report: RolloutReport) -> str:
    rows = [
        (
            f"{escape(each.pool_id)} and {escape(each.shadow_id)}",
            str(boxes.compared),
            _percent(boxes.same, boxes.compared),
            _three(boxes.matched),
            _three(boxes.overlap),
            str(boxes.unreadable),
        )
        for each in report.agreements
        if (boxes := each.boxes) is not None
    ]
    heads = ("Pools", "Compared", "Same boxes", "Boxes with a partner %", "Overlap of partners %", "Not readable")
    return "<h2>Agreement of boxes</h2>" + _table(heads, rows, "p50 / p90 / p99") if rows else ""


def _figure(title: str, unit: str, spreads: list[tuple[str, Spread]]) -> str:
    """Return bars that grow to the right, one group per range, so that any width of a screen will do."""
    bounds = sorted({bound for _, spread in spreads for bound, _ in spread.buckets})
    if not bounds:
        return ""
    most = max(count / spread.count for _, spread in spreads for _, count in spread.buckets)
    rows = []
    for bound in bounds:
        bars = []
        for position, (pool_id, spread) in enumerate(spreads):
            share = dict(spread.buckets).get(bound, 0) / spread.count if spread.count else 0
            label = f"{pool_id}: {share:.0%} up to {bound:g} {unit}"
            bars.append(
                f'<div class="bar" title="{escape(label)}"><i style="width:{share / most * 80:.1f}%;'
                f'background:{_colour(position)}"></i>{f"{share:.0%}" if share else ""}</div>'
            )
        rows.append(f'<span class="bound">≤ {bound:g}</span><div>{"".join(bars)}</div>')
    told = "; ".join(f"{pool_id} p50 {_number(spread.p50)}, p99 {_number(spread.p99)}" for pool_id, spread in spreads)
    return (
        f"<figure><figcaption>{title} <span class='quiet'>({unit}), share of tasks</span></figcaption>"
        f'<div class="bars" role="img" aria-label="{escape(f"{title}: {told}")}">{"".join(rows)}</div></figure>'
    )


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], caption: str) -> str:
    head = "".join(f'<th scope="col" role="columnheader">{each}</th>' for each in heads)
    # The roles are kept where a narrow screen lays the table out as blocks.
    body = "".join(
        '<tr role="row">'
        + "".join(
            f'<td role="cell" data-head="{name}"><span>{cell}</span></td>'
            for name, cell in zip(heads, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    inside = f'<caption>{caption}</caption><thead><tr role="row">{head}</tr></thead><tbody>{body}</tbody>'
    return f"<figure tabindex='0'><table role='table'>{inside}</table></figure>"


def _three(spread: Spread) -> str:
    return "\u00a0/\u00a0".join(_number(each) for each in (spread.p50, spread.p90, spread.p99)) if spread.count else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _colour(position: int) -> str:
    return _COLOURS[position % len(_COLOURS)]

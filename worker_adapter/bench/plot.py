"""How many times better ours is, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from adapter_api import ConfigurationError
from adapter_kit.installing import install_extra
from worker_adapter.bench.report import Report
from worker_adapter.bench.samples import Spread, figures_of

_BETTER, _WORSE = "#2a7f4f", "#b5452c"
_ROW_INCHES = 0.26


class Bar(NamedTuple):
    """One ratio: above 1 is to our credit."""

    label: str
    ratio: Spread


def need_matplotlib() -> None:
    """Raise `ConfigurationError` where it is not installed, which says how it is."""
    if find_spec("matplotlib") is None:
        raise ConfigurationError(f"--png draws with matplotlib, which is not installed: run `{install_extra('bench')}`")


def bars_of(report: Report) -> list[Bar]:
    """Return each peer's ratios."""
    figures = figures_of(report.kind)
    return [
        Bar(f"{figure.label}: {client.name}", client.ours_is_better[figure.key])
        for client in report.clients[1:]
        for figure in figures
        if figure.key in client.ours_is_better
    ]


def draw(bars: Sequence[Bar], title: str, path: Path) -> None:
    """Write the bars as a PNG: medians, with the range of the rounds, on a scale of factors.

    Raises:
        ConfigurationError: There is no matplotlib, or the file cannot be written.
    """
    need_matplotlib()
    # Without pyplot, which would look for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + _ROW_INCHES * max(len(bars), 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # A bar says a factor: twice as good is as far to the right of 1 as half as good is to the left.
    axes.set_xscale("log", base=2)
    axes.axvline(1, color="black", linewidth=1)
    for place, bar in enumerate(reversed(bars)):
        low, middle, high = bar.ratio.min, bar.ratio.median, bar.ratio.max
        axes.barh(place, middle - 1, left=1, height=0.6, color=_BETTER if middle >= 1 else _WORSE)
        axes.plot([low, high], [place, place], color="black", linewidth=1.2)
        axes.annotate(
            f"{middle:.2f}×", (max(high, 1), place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.set_yticks(range(len(bars)), [bar.label for bar in reversed(bars)], fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    figure.supxlabel("how many times better ours is (left of 1: worse); lines are the rounds' range", fontsize=8)
    figure.suptitle(title, fontsize=10)
    axes.margins(x=0.12)
    axes.set_ylim(-0.7, max(len(bars), 1) - 0.3)
    try:
        figure.savefig(path, dpi=80, metadata={"Software": None})
    except OSError as exc:
        raise ConfigurationError(f"cannot write {path}: {exc.strerror}") from None

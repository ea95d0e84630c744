"""`BENCHMARKS.md` is made from the figures, and tells what is lost as well as what is won."""

from __future__ import annotations

import bench_results as read
from bench_page import page
from bench_results import Beside, Results, Row, Section

from worker_adapter.bench.peers import NotRun
from worker_adapter.bench.report import Machine
from worker_adapter.bench.samples import Spread

no_spec = "how benchmarks are written down is the project's own affair"


def results(*ratios: Spread, failed: str | None = None, load: float = 1.0) -> Results:
    cost = Spread(1, 2, 3)
    beside = tuple(Beside(f"rival {number}", cost, ratio) for number, ratio in enumerate(ratios))
    row = Row(name="a token", unit="µs", ours=cost, beside=beside)
    section = Section(title="Tokens", command="python x.py", seconds=1, load_1m=load, rows=(row,), failed=failed)
    machine = Machine(python="3.12.0", system="Linux x86_64", cores=2, load_1m=load, packages={"grpcio": "1.81"})
    return Results(
        date="2026-01-02 03:04 UTC", machine=machine, rounds=5, scale=0.2, sections=(section,),
        not_run=(NotRun("SMG", "not installed"),),
    )  # fmt: skip


def test_what_is_won_lost_and_open_is_told_apart_by_whether_the_rounds_agree() -> None:
    text = page(results(Spread(2, 3, 4), Spread(0.2, 0.5, 0.9), Spread(0.8, 1.1, 2)), "plot.png", "data.json")

    won, lost, open_ = text.partition("## What we win")[2].partition("## Tokens")[0].split("\n## ")
    assert "3.00×" in won
    assert "rival 0" in won
    assert "0.50×" in lost
    assert "rival 1" in lost
    assert "1.10×" in open_
    assert "rival 2" in open_


def test_machine_date_and_who_was_not_run_are_said() -> None:
    text = page(results(Spread(2, 3, 4)), "plot.png", "data.json")

    for said in ("2026-01-02 03:04 UTC", "2 cores, load 1", "grpcio 1.81", "* SMG: not installed", "plot.png"):
        assert said in text
    assert "busy" not in text


def test_a_busy_machine_and_a_benchmark_that_failed_are_said() -> None:
    text = page(results(Spread(2, 3, 4), failed="it ended with 1", load=9.0), "plot.png", "data.json")

    assert "The machine was busy" in text
    assert "**It did not come to its end**: it ended with 1" in text


def test_ratios_are_those_of_each_round() -> None:
    clients = {"infer": {"cpu_us_rounds": [1.0, 2.0]}, "tritonclient": {"cpu_us_rounds": [3.0, 4.0]}}

    first, memory = read.grpc_infer({"infer": {"small": clients}, "idle_kib": {"infer": 10.0, "tritonclient": 40.0}})

    assert first.beside[0].ratio == Spread(2.0, 2.5, 3.0)
    assert memory.beside[0].ratio.median == 4.0


def test_of_gateways_the_widest_range_is_told() -> None:
    figures = {
        "us per request | /v1 | worker-adapter": {"least": 10.0, "middle": 20.0, "most": 40.0},
        "us per request | /v1 | SMG": {"least": 5.0, "middle": 10.0, "most": 20.0},
    }

    (row,) = read.host_cost(figures)

    assert row.beside[0].name == "SMG"
    assert row.beside[0].ratio == Spread(0.125, 0.5, 2.0)

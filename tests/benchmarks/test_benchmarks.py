"""The benchmarks run and find what they look for. How fast anything is, no test asks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from foreign_servers import make

ROOT = Path(__file__).resolve().parents[2]
BASELINES = {"tritonclient, text only", "tritonclient, same work"}
CLIENTS = {*BASELINES, "submit", "submit, batches()", "submit, over grpcio"}


def run(script: str, *arguments: str, exit_code: int = 0) -> Any:
    """Return what a benchmark prints as JSON; fail with what it says when it ends in another way than expected."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--json", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=ROOT)
    assert ran.returncode == exit_code, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def test_the_guard_is_measured_for_every_way_of_reading() -> None:
    found = run("stream_guard.py", "--tokens", "200", "--rounds", "1")

    assert set(found) == {"one by one", "lists of 64", "after a wait"}
    assert all(set(row) == {"bare", "guarded", "guarded_in_batches"} for row in found.values())


def test_the_journal_is_measured_beside_the_same_run_without_it() -> None:
    found = run("journal.py", "--tasks", "4", "--tokens", "8", "--rounds", "1")

    assert set(found) == {"1 at once", "64 at once"}
    assert all({name.rpartition(", ")[2] for name in row} == {"with", "without"} for row in found.values())


@pytest.mark.long
def test_all_clients_get_every_token_of_the_cannon() -> None:
    found = run("tokens.py", "--no-triton", "--rounds", "1", "--scale", "0.02")

    assert len(found) == 7
    assert all(CLIENTS < set(row) for row in found)
    assert all(row[client]["tokens_per_s"]["min"] > 0 for row in found for client in CLIENTS)
    assert all(set(row[client]["cheaper_than"]) == BASELINES for row in found for client in CLIENTS)
    if find_spec("uvloop"):
        assert all({"tritonclient, text only, uvloop", "submit, uvloop"} < set(row) for row in found)


@pytest.mark.long
def test_how_late_a_token_is_is_measured_for_every_client_in_both_ways() -> None:
    found = run("lateness.py", "--rounds", "1", "--streams", "8", "--tokens", "12")

    assert set(found["late"]) == {"at one moment", "spread"}
    for row in found["late"].values():
        assert {"tritonclient", "submit", "submit, over grpcio"} <= set(row)
        assert all(0 < client["p50_ms"]["median"] <= client["p99_ms"]["median"] for client in row.values())


@pytest.mark.long
def test_what_is_kept_for_a_reader_that_stalls_is_its_window_and_not_what_the_server_has() -> None:
    found = run("slow_consumer.py", "--rounds", "1", "--seconds", "1", "--streams", "8", "--tokens", "40000")

    # The window is 256 KiB, and the bytes of its messages are as much again in their objects; 4 MiB are to come.
    assert found["stalled"]["submit"][0]["grown_kib"] < 768


@pytest.mark.long
def test_all_http_clients_get_every_event_of_the_cannon() -> None:
    found = run("http_clients.py", "--rounds", "1", "--scale", "0.02", "--idle", "20")

    assert all(set(row) == {"floor", "kit", "aiohttp", "httpx"} for row in found["rows"].values())
    assert set(found["idle_kb"]) == {"floor", "kit", "aiohttp", "httpx"}


@pytest.mark.long
@pytest.mark.live
def test_all_clients_agree_on_the_tokens_of_the_real_server() -> None:
    found = run("tokens.py", "--only", "Triton", "--rounds", "1", "--scale", "0.1")

    assert [row["row"] for row in found] == ["Triton 1×20", "Triton, task after task"]


@pytest.mark.long
@pytest.mark.live
def test_a_short_soak_leaves_nothing_behind() -> None:
    found = run("soak.py", "--tasks", "20", "--streams", "10", "--times", "1", "--allowed-mib", "64")

    assert found["left_over"] == []
    assert len(found["rows"]) == 3


@pytest.mark.long
@pytest.mark.live
def test_a_soak_that_ends_with_more_memory_than_allowed_fails() -> None:
    found = run("soak.py", "--tasks", "2", "--streams", "2", "--times", "1", "--allowed-mib", "-1000", exit_code=1)

    assert all("memory grew" in text for text in found["left_over"])
    assert len(found["left_over"]) == 3


@pytest.mark.live
@pytest.mark.long
def test_a_small_burst_of_cancels_reaches_the_engine_whole() -> None:
    found = run("cancel.py", "--count", "2", "--burst", "20")

    assert found["burst"]["acknowledged"] == found["burst"]["cancelled_in_engine"] == 20
    assert set(found["one_at_a_time_ms"]) == {"receipt", "engine"}


@pytest.mark.long
@pytest.mark.live
def test_inferences_over_http_are_measured_beside_tritonclient() -> None:
    found = run("http_infer.py", "--rounds", "1", "--seconds", "0.2", "--stall", "1")

    assert set(found["infer"]) == {"16 numbers", "4.9 MB"}
    assert all(set(row) == {"infer", "tritonclient", "tritonclient, no gzip"} for row in found["infer"].values())
    # What the kernel's buffers hold is not ours; what we hold is a window and a little more.
    assert found["stalled"]["grown_kib"] < 4096


@pytest.mark.long
@pytest.mark.live
def test_detection_finds_the_box_and_is_measured_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ULTRALYTICS_PYTHON", raising=False)

    found = run("detect.py", "--convolutions", "1", "--rounds", "1", "--pictures", "2", "--batch", "9")

    assert found["agreement_px"] < 0.01
    assert "ULTRALYTICS_PYTHON" in found["skipped"]
    assert found["cpu_ms"]["detect"] > 0
    assert set(found["pictures_per_s"]) == {"infer", "detect_batch"}
    assert found["letterbox_ms"] > 0
    assert found["suppression_ms"] > 0


@pytest.fixture(scope="module")
def dynamo() -> None:
    """Dynamo is there, and networks can be made."""
    try:
        make("dynamo")
    except (RuntimeError, OSError) as exc:
        pytest.skip(f"needs dynamo: {sys.executable} scripts/foreign_servers.py dynamo (it said: {exc})")
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("Dynamo's frontend listens on all addresses: run as root, for a network of its own")


@pytest.mark.long
@pytest.mark.live
def test_dynamo_workers_are_measured_in_pairs_and_answer_right(dynamo: None) -> None:
    found = run("dynamo_cost.py", "--rounds", "1", "--engine", "--only", "1")

    pairs = [(row["baseline"], row["worker"]) for row in found]
    assert pairs == 2 * [("echo", "ours")] + 2 * [("relay", "triton_worker")]
    assert all(row["cpu_us"][row[who]] > 0 for row in found for who in ("baseline", "worker"))


@pytest.mark.long
@pytest.mark.live
def test_every_way_of_leaving_a_cluster_is_seen_by_the_model_after_the_client_left(dynamo: None) -> None:
    found = run("dynamo_cancel.py", "--times", "1")

    assert len(found) == 4
    assert all(row["p50_ms"] > 0 for row in found.values()), found


@pytest.mark.long
def test_points_for_the_simulation_are_measured_of_one_worker_and_of_two(dynamo: None) -> None:
    one, two = run("dynamo_scale.py", "--seconds", "1", "--engine-only")["points"]

    assert (one["workers"], two["workers"]) == (1, 2)
    assert two["per_s"] > one["per_s"]

"""The show as a whole, on a real server of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from adapter_api import decode_event
from adapter_api.testing import find_violation
from tests.worker_adapter.program import DEADLINE_S, PROGRAM, Finished, Running, environment, is_gone, run
from worker_adapter.demo.detection import DRAWN
from worker_adapter.demo.show import program

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def shown() -> Finished:
    return run("demo", "--json")


@pytest.fixture(scope="module")
def documents(shown: Finished) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shown.out.splitlines()]


def of(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents if document["type"] == kind]
    return found


def test_it_ends_well(shown: Finished) -> None:
    assert (shown.code, shown.err) == (0, "")


def test_its_tasks_run_at_once_and_each_stream_is_lawful(documents: list[dict[str, Any]]) -> None:
    events = [(d["job_id"], decode_event(msgspec.json.encode(d["event"]))) for d in documents if d["type"] == "event"]
    order = [job_id for job_id, _ in events]
    jobs = set(order)

    assert len(jobs) > 3
    assert all(find_violation([event for owner, event in events if owner == job]) is None for job in jobs)
    # On a busy machine a short task may be over before a long one has its first token; but one after the other, no task
    # would ever come back after another one was seen.
    came_back = sum(before != now for before, now in pairwise(order)) - (len(jobs) - 1)
    assert came_back > 0


def test_one_task_is_cancelled_and_the_receipt_says_what_that_did(documents: list[dict[str, Any]]) -> None:
    receipt = of(documents, "receipt")["receipt"]

    assert receipt["found"]
    assert receipt["sent"]
    assert receipt["acknowledged"]
    assert receipt["mode"] == "hard"


@pytest.mark.spec("ORCH-3059-023")
def test_the_tasks_that_share_prompt_and_seed_share_their_text(documents: list[dict[str, Any]]) -> None:
    assert of(documents, "results")["twins_agree"] is True


def test_a_detector_says_what_is_in_a_picture_and_where(documents: list[dict[str, Any]]) -> None:
    found = of(documents, "detection")["detections"]

    assert [(each["class_name"], tuple(each["box"])) for each in found] == [(name, box) for name, _, box in DRAWN]


def test_it_shows_health_props_and_metrics_of_both_sides(documents: list[dict[str, Any]]) -> None:
    assert of(documents, "health")["health"]["state"] == "ready"
    assert of(documents, "props")["props"]["engine"] == "triton"
    assert {metric["counted_by"] for metric in of(documents, "metrics")["metrics"]} == {"orchestrator", "triton"}


def test_it_leaves_no_process_and_no_port(documents: list[dict[str, Any]]) -> None:
    engine = of(documents, "engine")
    address = urlsplit(engine["url"])

    assert is_gone(engine["pid"])
    with pytest.raises(ConnectionRefusedError), socket.create_connection((address.hostname, address.port), 5):
        pass


@pytest.mark.long
def test_in_a_pipe_it_is_plain_lines() -> None:
    result = run("demo")

    assert result.code == 0
    assert "\x1b" not in result.out
    assert "the same text, byte for byte" in result.out
    assert "to cancel: cancelled in" in result.out
    assert "finish: length" in result.out


@pytest.mark.long
def test_ctrl_c_in_the_middle_leaves_nothing_either() -> None:
    with Running("demo", "--json") as program:
        pid = None
        while (document := json.loads(program.line()))["type"] != "event":
            pid = document.get("pid", pid)
        program.signal(signal.SIGINT)
        result = program.finish()

    assert result.code == 130
    assert "nothing was left behind" in result.err
    assert pid is not None
    assert is_gone(pid)


@pytest.mark.long
def test_in_a_terminal_ctrl_c_restores_the_cursor() -> None:
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        [PROGRAM, "demo"], stdin=theirs, stdout=theirs, stderr=theirs, env=environment({"TERM": "xterm"}),
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown = _read_until(ours, rb"tok/s")
        program.send_signal(signal.SIGINT)
        shown += _read_until(ours, rb"nothing was left behind")
        code = program.wait(DEADLINE_S)
    finally:
        os.close(ours)
        program.kill()
        program.wait()

    assert code == 130
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0


def _read_until(terminal: int, pattern: bytes) -> bytes:
    found = b""
    while not re.search(pattern, found):
        ready, _, _ = select.select([terminal], [], [], DEADLINE_S)
        assert ready, f"the terminal did not show {pattern!r} in time"
        found += os.read(terminal, 65536)
    return found


def test_what_to_type_next_can_be_pasted_from_a_path_with_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = tmp_path / "my code" / "worker-adapter"
    started.parent.mkdir()
    started.touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(started)])

    monkeypatch.chdir(tmp_path)
    near = program()
    monkeypatch.chdir(tmp_path / "elsewhere")
    far = program()

    assert near == "'my code/worker-adapter'"
    assert far == f"'{started}'"

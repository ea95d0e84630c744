"""Output that cannot be written is told as what it is, and never changes what became of the work."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker_adapter.program import DEADLINE_S, PROGRAM, environment

no_spec = "how a program treats its standard streams is a matter of good manners, and of no requirement"

FULL = Path("/dev/full")
"""A device that takes nothing, as a full disk."""

NO_SPACE = "error: cannot write the output: No space left on device\n"
SUITE = (sys.executable, "-m", "conformance_tests")
COMMANDS = [
    (PROGRAM, "--help"),
    (PROGRAM, "plugins", "--json"),
    (PROGRAM, "submit", "--adapter", "mock", "hello"),
    (PROGRAM, "submit", "--adapter", "mock", "--json", "hello"),
    (PROGRAM, "conformance", "--list"),
    (*SUITE, "--list"),
]

full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
every_command = pytest.mark.parametrize(
    "command", COMMANDS, ids=[" ".join(Path(word).name for word in command) for command in COMMANDS]
)


def ended(command: tuple[str, ...], **streams: object) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, stdin=subprocess.DEVNULL, text=True, timeout=DEADLINE_S, check=False, env=environment(), **options
    )


@contextlib.contextmanager
def full_disk() -> Iterator[object]:
    with FULL.open("w") as file:
        yield file


@full
@every_command
def test_a_full_disk_is_told_and_fails_the_command(command: tuple[str, ...]) -> None:
    with full_disk() as disk:
        found = ended(command, stdout=disk)

    if "conformance" in " ".join(command):
        assert (found.returncode, found.stderr.partition(": ")[2]) == (
            5, "cannot write to standard output: No space left on device\n",
        )  # fmt: skip
    else:
        assert (found.returncode, found.stderr) == (1, NO_SPACE)


@full
@every_command
def test_a_standard_error_that_is_full_changes_nothing(command: tuple[str, ...]) -> None:
    with full_disk() as disk:
        found = ended(command, stderr=disk)

    assert found.returncode == 0
    assert found.stdout


@full
def test_an_error_that_cannot_be_told_still_has_its_exit_code() -> None:
    with full_disk() as disk:
        found = ended((PROGRAM, "nosuch", "--json"), stdout=disk, stderr=disk)

    assert found.returncode == 2


@every_command
def test_a_reader_that_is_gone_is_no_noise(command: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        found = ended(command, stdout=write)
    finally:
        os.close(write)

    assert found.returncode == (5 if "conformance" in " ".join(command) else 130)
    assert "Traceback" not in found.stderr
    assert "Exception ignored" not in found.stderr


@every_command
def test_closed_streams_are_nowhere(command: tuple[str, ...]) -> None:
    found = ended(("sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command))

    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_a_line_in_a_pipe_is_there_when_it_was_written() -> None:
    """Not when a block is full, which for a log is never, or hours later."""
    code = "from adapter_kit.standard_streams import open_streams; open_streams(); print('here'); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True
    ) as running:
        assert running.stdout is not None
        line = running.stdout.readline()
        running.communicate("\n", timeout=DEADLINE_S)

    assert line == "here\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@full
def test_what_was_written_in_vain_does_not_set_the_exit_status(stream: str) -> None:
    code = (
        "import contextlib, sys\n"
        "from adapter_kit.standard_streams import open_streams, settle_streams\n"
        "open_streams()\n"
        f"with contextlib.suppress(OSError): print('lost', file=sys.{stream})\n"
        "settle_streams()\n"
        "sys.exit(7)\n"
    )
    with full_disk() as disk:
        found = ended((sys.executable, "-c", code), **{stream: disk})

    assert found.returncode == 7


@full
@pytest.mark.live
@pytest.mark.parametrize("with_json", [True, False], ids=["json", "people"])
@pytest.mark.long
def test_the_server_runs_on_when_nobody_can_be_told_where_it_is(tmp_path: Path, with_json: bool) -> None:
    command = [PROGRAM, "triton", "--log-file", str(tmp_path / "log"), *(["--json"] if with_json else [])]
    with full_disk() as disk, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=disk, stderr=subprocess.PIPE, text=True, env=environment()  # type: ignore[call-overload]
    ) as server:  # fmt: skip
        try:
            told = next(line for line in server.stderr if line.startswith("cannot write"))
            assert ended((PROGRAM, "health", "--url", told.split()[-1])).returncode == 0
            server.send_signal(signal.SIGTERM)
            code = server.wait(DEADLINE_S)
        finally:
            server.kill()

    assert code == 0


@pytest.mark.long
@full
@pytest.mark.live
def test_the_server_starts_where_standard_error_takes_nothing() -> None:
    with full_disk() as disk, subprocess.Popen(
        [PROGRAM, "triton", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=disk, env=environment()  # type: ignore[call-overload]
    ) as server:  # fmt: skip
        try:
            ready = server.stdout.readline()
            server.send_signal(signal.SIGTERM)
            code = server.wait(DEADLINE_S)
        finally:
            server.kill()

    assert b"grpc_url" in ready
    assert code == 0

"""The program as the tests run it is the program as its users start it."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from tests.worker_adapter.processes import PROGRAM, Forked, start
from tests.worker_adapter.program import DEADLINE_S, environment

no_spec = "it is about how the tests run the program"

HANGS = ("submit", "--adapter", "mock", "--option", "hang_after=0", "hello")


@pytest.mark.parametrize(
    "arguments, stdin",
    [
        (("--version",), b""),
        (("submit", "--help"), b""),
        (("plugins", "--json"), b""),
        (("submit", "--adapter", "mock", "--option", "reply=naïve 日本 🙂", "hello"), b""),
        (
            ("submit", "--adapter", "mock", "--task", "-"),
            b'{"model": "mock", "seed": 7, "prompt": "' + b"x" * 90_000 + b'"}',
        ),
        (("submit", "--adapter", "nope", "--json", "hello"), b""),
        (("health", "--url", "grpc://127.0.0.1:1", "--option", "connect_timeout_s=0.2"), b""),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_forked_process_says_and_ends_as_one_that_was_started_anew(arguments: tuple[str, ...], stdin: bytes) -> None:
    anew = subprocess.run(
        [PROGRAM, *arguments], input=stdin, capture_output=True, env=environment(), timeout=DEADLINE_S, check=False
    )

    forked = start(arguments, environment(), stdin=subprocess.PIPE)
    out, err = forked.communicate(stdin, DEADLINE_S)

    assert (forked.wait(), untimed(out), untimed(err)) == (anew.returncode, untimed(anew.stdout), untimed(anew.stderr))


def untimed(text: bytes) -> bytes:
    """How long something took differs from run to run."""
    return re.sub(rb"\d+(\.\d+)?", b"#", text)


def test_a_signal_that_it_cannot_handle_is_its_exit_code() -> None:
    process = start(HANGS, environment(), stdin=subprocess.DEVNULL)
    assert process.poll() is None

    process.send_signal(signal.SIGKILL)
    _, _ = process.communicate(timeout=DEADLINE_S)

    assert process.wait() == -signal.SIGKILL


def test_what_the_interpreter_looks_at_when_it_starts_starts_one() -> None:
    process = start(("--version",), environment({"PYTHONUNBUFFERED": "x"}), stdin=subprocess.DEVNULL)
    process.communicate(timeout=DEADLINE_S)

    assert not isinstance(process, Forked)

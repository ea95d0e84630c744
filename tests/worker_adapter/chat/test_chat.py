"""`worker-adapter chat` through a pipe, and in a terminal."""

from __future__ import annotations

import json
import os
import platform
import pty
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from adapter_api import End, Started
from tests.worker_adapter.program import DEADLINE_S, PROGRAM, environment, run
from triton_adapter.embedded import EmbeddedTriton

MOCK = ("chat", "mock://")
REPLY = ("--option", "reply=one two three")


@pytest.mark.spec("ORCH-3070-017")
def test_through_a_pipe_the_answers_are_all_that_goes_to_standard_output() -> None:
    result = run(*MOCK, *REPLY, stdin="hello\n\nand again\n")

    assert (result.code, result.out) == (0, "one two three\none two three\n")
    assert "\x1b" not in result.err
    assert "3 tokens" in result.err


@pytest.mark.spec("ORCH-3070-017")
def test_a_conversation_goes_on_from_line_to_line() -> None:
    result = run(
        *MOCK, *REPLY, "--history", "1", stdin="/system Be brief.\nfirst\nsecond\n/history\n/clear\n/history\n"
    )

    assert result.code == 0
    assert "user: second\nassistant: one two three\n" in result.err
    assert "user: first" not in result.err
    assert result.err.endswith("forgotten\nnothing was said yet\n")


@pytest.mark.spec("ORCH-3070-017")
def test_json_is_one_event_per_line() -> None:
    result = run(*MOCK, *REPLY, "--json", stdin="hello\nagain\n")

    assert [type(event) for event in result.events if isinstance(event, Started | End)] == [Started, End] * 2


@pytest.mark.spec("ORCH-3070-017")
@pytest.mark.parametrize(
    "arguments, stdin, code, fault",
    [
        (("--option", "fail=engine_failed"), "hi\nmore\n", 1, "error[engine_failed]"),
        ((), "/nothing\n", 2, "there is no /nothing"),
        ((), b"\xff\xfe\n", 2, "not UTF-8"),
        (("--top-p", "7"), "hi\n", 2, "top_p"),
        (("--model", "other"), "hi\n", 1, "no model 'other'"),
        (("--option", 'models=["a", "b"]'), "hi\n", 2, "choose one with --model"),
        (("--image", "none.jpg"), "hi\n", 2, "image 1: cannot read"),
    ],
)
def test_what_goes_wrong_is_one_line_and_the_exit_code(
    arguments: tuple[str, ...], stdin: str | bytes, code: int, fault: str
) -> None:
    result = run(*MOCK, *arguments, stdin=stdin)

    assert (result.code, result.out) == (code, "")
    assert fault in result.err
    assert result.err.count("\n") == 1


@pytest.mark.spec("ORCH-3070-017")
def test_an_engine_that_is_not_there_exits_3_before_a_question_is_read(closed_url: str) -> None:
    result = run("chat", closed_url, stdin="hi\n")

    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("error[connect_failed]")


def test_the_settings_of_the_environment_hold() -> None:
    result = run(*MOCK, *REPLY, stdin="hi\n", env={"MAX_NEW_TOKENS": "2"})

    assert result.out == "one two\n"


def test_a_conversation_is_saved_for_its_owner_only_and_never_over_another_file(tmp_path: Path) -> None:
    lines = f"/system Be brief.\nhello\n/save {tmp_path}/a chat.md\n/save '{tmp_path}/chat.json'\n"
    first = run(*MOCK, *REPLY, stdin=lines.replace("a chat", "a\\ chat"))
    again = run(*MOCK, *REPLY, stdin=f"hello\n/save {tmp_path}/chat.json\n")

    assert first.code == 0
    assert (tmp_path / "a chat.md").read_text() == "*Be brief.*\n\n**You:** hello\n\n**mock:** one two three\n"
    assert json.loads((tmp_path / "chat.json").read_text())["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "one two three", "model": "mock"},
    ]
    assert (tmp_path / "chat.json").stat().st_mode & 0o777 == 0o600
    assert again.code == 2
    assert "there already" in again.err


_SELECT = {"x86_64": ("23", "270"), "aarch64": ("72",)}
"""The numbers of `select` and `pselect6`, in which readline waits for a key."""


class Terminal:
    """The program in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._screen, theirs = pty.openpty()
        self.seen = ""
        self._process = subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment({"TERM": "xterm", "NO_COLOR": ""}),
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def read_until(self, text: str) -> str:
        """Return what is on the screen from the last such call up to `text`."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.seen:
            ready, _, _ = select.select([self._screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} did not come, but {self.seen!r}"
            try:
                self.seen += os.read(self._screen, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"the program ended before {text!r}, after {self.seen!r}") from None
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def read_until_prompt(self) -> str:
        """Return what is on the screen up to the prompt, as `read_until_it_waits` does."""
        return self.read_until_it_waits("> ")

    def read_until_it_waits(self, text: str) -> str:
        """Return what is on the screen up to a text, once a key or a signal is waited for: a signal that comes between
        the text and that is noticed with the next only."""
        found = self.read_until(text)
        deadline = time.monotonic() + DEADLINE_S
        while not self._sleeps():
            assert time.monotonic() < deadline, "the program does not wait for a line"
        return found

    def exit_code(self) -> int:
        return self._process.wait(DEADLINE_S)

    def _sleeps(self) -> bool:
        """Whether it waits for a key: not for a lock, nor in an event loop."""
        pid = self._process.pid
        state = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(") ")[2]
        call = Path(f"/proc/{pid}/task/{pid}/syscall").read_text().split()[0]
        return state.startswith("S") and call in _SELECT[platform.machine()]


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A shell starts what it runs in the background without Ctrl-C, and the tests may be such a thing.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.spec("ORCH-3070-016")
def test_ctrl_c_cancels_the_answer_and_not_the_program_and_ctrl_d_ends_it() -> None:
    with Terminal(*MOCK, *REPLY, "--option", "hang_after=2") as terminal:
        terminal.read_until_prompt()
        terminal.type("hello\r")
        terminal.read_until("one two")
        terminal.type("\x03")
        told = terminal.read_until_prompt()
        terminal.type("/history\r")
        terminal.read_until("nothing was said yet")
        terminal.read_until_prompt()
        terminal.type("\x04")

        assert terminal.exit_code() == 0
    assert "finish: cancelled" in told
    assert "SIGINT: cancelled in" in told
    assert "it is not remembered" in told


@pytest.mark.spec("ORCH-3070-016")
def test_ctrl_c_at_the_prompt_drops_the_line_and_the_second_ends_the_program() -> None:
    with Terminal(*MOCK, *REPLY) as terminal:
        terminal.read_until_prompt()
        terminal.type("half a line")
        terminal.read_until_it_waits("half a line")
        terminal.type("\x03")
        terminal.read_until("Ctrl-C once more")
        terminal.read_until_prompt()
        terminal.type("hello\r")
        terminal.read_until("one two three")
        terminal.read_until_prompt()
        terminal.type("\x03")
        terminal.read_until("Ctrl-C once more")
        terminal.read_until_prompt()
        terminal.type("\x03")

        assert terminal.exit_code() == 130


def test_an_error_in_a_terminal_is_told_and_the_chat_goes_on(tmp_path: Path) -> None:
    with Terminal(*MOCK, *REPLY, "--option", "fail=overloaded", "--option", "fail_times=1") as terminal:
        terminal.read_until_prompt()
        terminal.type("/nothing\r")
        terminal.read_until("there is no /nothing")
        terminal.type("hello\r")
        terminal.read_until("injected overloaded")
        terminal.type("hello\r")
        terminal.read_until("one two three")
        terminal.type("/exit\r")

        assert terminal.exit_code() == 0


def test_sigterm_at_the_prompt_ends_the_chat_in_order() -> None:
    with Terminal(*MOCK, *REPLY) as terminal:
        terminal.read_until_prompt()
        terminal.signal(signal.SIGTERM)

        assert terminal.exit_code() == 130


@pytest.mark.live
@pytest.mark.spec("ORCH-3070-017")
def test_a_line_through_a_pipe_is_answered_by_the_real_server(triton: EmbeddedTriton) -> None:
    result = run("chat", triton.grpc_url, "--model", "tinylm", "--max-tokens", "8", stdin="The import statement\n")

    assert result.code == 0
    assert result.out.strip()
    assert "8 tokens" in result.err

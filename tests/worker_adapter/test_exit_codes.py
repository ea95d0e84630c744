"""Every error has one exit code."""

from __future__ import annotations

import pytest

from adapter_api import DeadlineExceeded, DeadlineStage, Error
from adapter_api.testing import error_named
from worker_adapter.exit_codes import ExitCode, code_for_command, code_for_task


@pytest.mark.parametrize("code", ["invalid_request", "invalid_configuration", "unknown_adapter", "plugin_broken"])
def test_what_was_asked_for_wrongly_is_usage_before_a_task_and_a_failure_of_a_task(code: str) -> None:
    error = Error.from_exception(error_named(code, "x"))

    assert (code_for_command(error), code_for_task(error)) == (ExitCode.USAGE, ExitCode.FAILED)


@pytest.mark.parametrize(
    "stage, expected",
    [
        ("connect", ExitCode.UNREACHABLE),
        ("control", ExitCode.UNREACHABLE),
        ("health", ExitCode.UNREACHABLE),
        ("first_token", ExitCode.FAILED),
        ("total", ExitCode.FAILED),
    ],
)
def test_an_engine_is_out_of_reach_when_it_does_not_even_answer(stage: DeadlineStage, expected: ExitCode) -> None:
    assert code_for_task(Error.from_exception(DeadlineExceeded("x", stage=stage))) is expected


def test_a_connection_that_was_lost_had_been_reached() -> None:
    assert code_for_task(Error.from_exception(error_named("connection_lost", "x"))) is ExitCode.FAILED
    assert code_for_task(Error.from_exception(error_named("connect_failed", "x"))) is ExitCode.UNREACHABLE

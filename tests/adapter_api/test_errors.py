"""The error tree: stable codes, and a picture that is true."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import adapter_api
from adapter_api import AdapterError, DeadlineExceeded, errors

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
GRPC_CODES = {
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
}  # fmt: skip


def descendants(error: type[AdapterError]) -> Iterator[type[AdapterError]]:
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


ALL = list(descendants(AdapterError))
LEAVES = [error for error in ALL if error.code != AdapterError.code]


@pytest.mark.spec("ORCH-3058-020")
@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_every_error_stands_in_the_picture_with_its_code(error: type[AdapterError]) -> None:
    picture = errors.__doc__ or ""
    line = next(line for line in picture.splitlines() if f" {error.__name__} " in line)

    assert error.code in line.split()
    assert error.grpc_status in line.split()
    assert ("retryable" in line) == error.default_retryable
    assert error.grpc_status in GRPC_CODES


def test_no_two_errors_share_a_code() -> None:
    codes = [error.code for error in LEAVES]

    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("error", [AdapterError, *ALL], ids=lambda error: error.__name__)
def test_every_error_is_exported(error: type[AdapterError]) -> None:
    assert getattr(adapter_api, error.__name__) is error


@pytest.mark.parametrize("stage, retryable", [("total", False), ("first_token", True), ("connect", True)])
def test_only_the_tasks_own_total_time_makes_a_deadline_final(stage: errors.DeadlineStage, retryable: bool) -> None:
    assert DeadlineExceeded("late", stage=stage).retryable is retryable


def test_an_adapter_may_know_better_whether_to_retry() -> None:
    assert errors.EngineFailed("stub died", retryable=True).retryable is True
    assert errors.EngineFailed("bug").retryable is False

"""Whom an error condemns: the table that hosts read, and the specification that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import adapter_api
from adapter_api import AdapterError, Error, errors
from adapter_api.errors import DeadlineStage
from adapter_api.judgement import DEADLINES, JUDGEMENTS, Culprit, judge, render

SPEC = Path(__file__).resolve().parents[2] / "specs" / "ORCH-3058-errors.md"
CLASSES = {
    cls.code: cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, AdapterError) and cls is not AdapterError and "code" in vars(cls)
}


def error(code: str, *, retryable: bool = False, stage: DeadlineStage | None = None) -> Error:
    return Error(code=code, message="m", retryable=retryable, stage=stage)


def test_it_judges_every_code_of_the_contract_and_every_deadline() -> None:
    assert {*JUDGEMENTS, "deadline_exceeded"} == set(CLASSES)
    assert set(DEADLINES) == set(get_args(DeadlineStage))


@pytest.mark.spec("ORCH-3058-027")
def test_the_specification_shows_the_table_that_the_code_uses() -> None:
    assert render() in SPEC.read_text("utf-8"), "put the output of adapter_api.judgement.render() into specs"


@pytest.mark.spec("ORCH-3058-011", "ORCH-3058-012", "ORCH-3058-026")
@pytest.mark.parametrize("code", sorted(JUDGEMENTS))
def test_it_says_of_repeating_what_the_errors_say_themselves(code: str) -> None:
    default = CLASSES[code].default_retryable
    assert JUDGEMENTS[code].repeat in (("yes", "as told") if default else ("no", "as told"))


@pytest.mark.spec("ORCH-3057-027", "ORCH-3057-029")
@pytest.mark.parametrize(
    "condemned, codes",
    [
        (Culprit.TASK, ["invalid_request", "context_length_exceeded", "model_not_found", "unsupported"]),
        (Culprit.NOBODY, ["overloaded", "not_ready", "closed"]),
        (Culprit.REPLICA, ["connect_failed", "connection_lost", "unauthenticated"]),
        (Culprit.MODEL, ["engine_failed", "protocol_violation", "stream_incomplete", "permission_denied",
                         "adapter_failed", "a code of nobody's"]),
    ],
)  # fmt: skip
def test_only_what_says_something_of_the_replica_condemns_the_replica(condemned: Culprit, codes: list[str]) -> None:
    assert {code: judge(error(code)).condemns for code in codes} == dict.fromkeys(codes, condemned)


@pytest.mark.parametrize(
    "stage, condemned",
    [
        ("total", Culprit.NOBODY), ("queue", Culprit.NOBODY), ("first_token", Culprit.MODEL),
        ("inter_token", Culprit.MODEL), ("connect", Culprit.REPLICA), ("control", Culprit.REPLICA),
    ],
)  # fmt: skip
def test_a_deadline_condemns_by_its_stage(stage: DeadlineStage, condemned: Culprit) -> None:
    assert judge(error("deadline_exceeded", retryable=True, stage=stage)).condemns is condemned


def test_one_error_is_enough_when_an_engine_is_dead_or_refuses_us() -> None:
    assert judge(error("engine_failed")).condemns_at_once(error("engine_failed", retryable=True))
    assert not judge(error("engine_failed")).condemns_at_once(error("engine_failed"))
    assert judge(error("unauthenticated")).condemns_at_once(error("unauthenticated"))
    assert not judge(error("connection_lost")).condemns_at_once(error("connection_lost", retryable=True))


def test_it_is_part_of_the_contract() -> None:
    assert adapter_api.judge is judge

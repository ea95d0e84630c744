"""The table of errors, and the settings."""

from __future__ import annotations

import pytest

from adapter_api import AdapterError, ConfigurationError
from dynamo_worker.faults import FAULTS, fault_of
from dynamo_worker.settings import WorkerSettings


def _codes(error: type[AdapterError]) -> set[str]:
    own = {error.code} if error.code != "unknown" else set()
    return own.union(*map(_codes, error.__subclasses__()))


@pytest.mark.spec("ORCH-3071-008")
def test_every_error_of_the_contract_has_a_row() -> None:
    ours = {code for code in _codes(AdapterError) if not code.startswith("test_")}

    assert set(FAULTS) <= ours
    assert {"invalid_request", "overloaded", "deadline_exceeded", "engine_failed"} <= set(FAULTS)
    for error in AdapterError.__subclasses__():
        for each in (error, *error.__subclasses__()):
            if each.__module__ == "adapter_api.errors" and each.code != "unknown":
                assert each.code in FAULTS


@pytest.mark.spec("ORCH-3071-009")
def test_only_an_engine_that_can_serve_nobody_takes_the_worker_out() -> None:
    assert {code for code, fault in FAULTS.items() if fault.exception == "WorkerUnavailable"} == {
        "connect_failed", "closed",
    }  # fmt: skip


@pytest.mark.spec("ORCH-3071-008")
def test_a_code_of_a_later_contract_is_the_server_s_fault() -> None:
    assert fault_of("of_tomorrow") == FAULTS["engine_failed"]


@pytest.mark.spec("ORCH-3071-015")
@pytest.mark.parametrize(
    "environ, given, expected",
    [
        ({}, {}, ("dynamo", "etcd", "tcp")),
        ({"DYN_STORE_KV": "file"}, {}, ("dynamo", "file", "tcp")),
        ({"DYN_STORE_KV": "mem", "DYN_DISCOVERY_BACKEND": "file"}, {}, ("dynamo", "file", "tcp")),
        ({"DYN_NAMESPACE": "n", "DYN_REQUEST_PLANE": "nats"}, {}, ("n", "etcd", "nats")),
        ({"DYN_DISCOVERY_BACKEND": "file"}, {"discovery": "mem", "namespace": None}, ("dynamo", "mem", "tcp")),
    ],
)
def test_dynamo_s_variables_are_honoured_and_options_win(
    environ: dict[str, str], given: dict[str, str | None], expected: tuple[str, str, str]
) -> None:
    settings = WorkerSettings.from_env(environ, **given)

    assert (settings.namespace, settings.discovery, settings.request_plane) == expected


@pytest.mark.spec("ORCH-3071-010", "ORCH-3071-015")
@pytest.mark.parametrize("value, canary", [(None, False), ("", False), ("false", False), ("true", True), ("1", True)])
def test_health_is_the_canary_s_only_where_dynamo_s_variable_switches_it_on(value: str | None, canary: bool) -> None:
    environ = {} if value is None else {"DYN_HEALTH_CHECK_ENABLED": value}

    assert WorkerSettings.from_env(environ).canary == canary


@pytest.mark.spec("ORCH-3071-015")
@pytest.mark.parametrize(
    "given",
    [
        {"discovery": "consul"}, {"request_plane": "http"}, {"namespace": "A.b"}, {"component": ""}, {"face": "audio"},
        {"interval_s": 0.0}, {"drain_s": -1.0},
    ],
)  # fmt: skip
def test_settings_that_dynamo_has_not_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        WorkerSettings.from_env({}, **given)

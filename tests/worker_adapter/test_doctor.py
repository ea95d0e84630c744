"""`doctor`: what an engine is, what is wrong with it, and what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from adapter_api import (
    AdapterError,
    Capability,
    EngineFailed,
    EngineProps,
    Finding,
    HealthReport,
    HealthState,
    ModelHealth,
    ModelProps,
)
from adapter_api.testing import MockAdapter
from tests.worker_adapter.program import Finished, run
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.testing import FakeTriton
from worker_adapter.checkup import Checkup, examine
from worker_adapter.commands.doctor import _row

pytestmark = pytest.mark.anyio
no_spec = "what the program makes of a report is its own affair; what is in it is ORCH-3057"


@pytest.fixture
def fake() -> Iterator[FakeTriton]:
    with FakeTriton() as fake:
        fake.model("llama").respond_with_text("Hello there!")
        yield fake


class Patient(MockAdapter):
    """Says of itself what a test wants it to."""

    report = HealthReport(state=HealthState.READY, live=True, ready=True)
    description: EngineProps | AdapterError = EngineProps(engine="mock", models=(ModelProps(name="m", ready=True),))
    canary: HealthReport | None = None

    async def _health(self, *, canary: bool) -> HealthReport:
        return self.canary if canary and self.canary is not None else self.report

    async def _props(self) -> EngineProps:
        if isinstance(self.description, AdapterError):
            raise self.description
        return self.description


async def examined(*, ask: bool = False, **told: Any) -> Checkup:
    patient = Patient()
    for name, value in told.items():
        setattr(patient, name, value)
    async with patient:
        return await examine(patient, url=None, canary=ask)


def findings_of(result: Finished, severity: str) -> list[dict[str, Any]]:
    return [finding for finding in result.document["findings"] if finding["severity"] == severity]


async def test_nothing_is_wrong_with_an_engine_that_is_ready() -> None:
    assert (await examined()).notes == ()


async def test_what_the_adapter_finds_comes_worst_first_and_with_its_model() -> None:
    model = ModelProps(name="m", ready=True, findings=(Finding(severity="warning", topic="cancel", message="late"),))
    engine = EngineProps(
        engine="mock", models=(model,), findings=(Finding(severity="hint", topic="version", message="old"),)
    )

    notes = (await examined(description=engine)).notes

    assert [(note.severity, note.model, note.message) for note in notes] == [
        ("warning", "m", "late"),
        ("hint", None, "old"),
    ]


@pytest.mark.parametrize("state", [HealthState.STARTING, HealthState.DRAINING])
async def test_an_engine_that_takes_no_work_is_an_error_with_its_reason(state: HealthState) -> None:
    report = HealthReport(state=state, live=True, ready=False, detail="because")

    found = await examined(report=report)

    assert found.has_errors
    assert "because" in found.notes[0].message


@pytest.mark.parametrize(
    "model, severity",
    [
        (ModelHealth(name="m", ready=False, reason="out of memory"), "error"),
        (ModelHealth(name="m", ready=False, state="LOADING"), "warning"),
        (ModelHealth(name="m", ready=False, state="UNAVAILABLE", reason="unloaded"), "hint"),
        (ModelHealth(name="m", ready=False), "hint"),
    ],
)
async def test_a_model_that_is_not_ready_weighs_what_its_reason_does(model: ModelHealth, severity: str) -> None:
    report = HealthReport(state=HealthState.DEGRADED, live=True, ready=True, models=(model,))

    notes = (await examined(report=report)).notes

    assert (severity, "m") in [(note.severity, note.model) for note in notes]


async def test_an_engine_that_does_not_describe_itself_is_an_error() -> None:
    found = await examined(description=EngineFailed("no idea"))

    assert found.has_errors
    assert found.props is None


async def test_a_canary_that_dies_is_an_error_although_the_engine_calls_itself_ready() -> None:
    dead = HealthReport(
        state=HealthState.DEGRADED, live=True, ready=True, canary=True, detail="the canary failed: m is not healthy"
    )

    found = await examined(ask=True, canary=dead)

    assert [note.message for note in found.notes if note.severity == "error"] == [dead.detail]


async def test_no_canary_is_sent_unasked() -> None:
    patient = MockAdapter()
    async with patient:
        await examine(patient, url=None, canary=False)

    assert patient.submitted == []


def test_a_healthy_engine_exits_0_with_what_its_models_can_do() -> None:
    result = run("doctor", "mock://")

    assert result.code == 0
    assert "nothing is wrong" in result.out
    (row,) = [line for line in result.out.splitlines() if line.startswith("mock ")]
    assert {"✓", "–", "hard"} <= {*row.split()}


def test_an_engine_that_takes_no_work_exits_1() -> None:
    assert run("doctor", "--adapter", "mock", "--option", "state=draining").code == 1


def test_a_hard_cancel_that_is_declared_without_a_mode_is_shown() -> None:
    declared = ModelProps(name="m", ready=True, capabilities=frozenset({Capability.CANCEL_HARD}))
    silent = ModelProps(name="m", ready=True)

    assert ("hard" in _row(declared), "?" in _row(declared)) == (True, False)
    assert "?" in _row(silent)


def test_a_port_where_nothing_listens_exits_3_and_says_so(closed_url: str) -> None:
    result = run("doctor", closed_url, "--json")

    assert (result.code, result.document["fault"]) == (3, "refused")
    assert findings_of(result, "error")[0]["advice"]


def test_an_http_port_exits_3_and_says_that_it_is_no_grpc(http_url: str) -> None:
    result = run("doctor", "--url", http_url)

    assert result.code == 3
    assert "HTTP/1" in result.out


def test_an_address_that_says_nothing_exits_3_within_the_timeout(silent_url: str) -> None:
    began = time.monotonic()

    result = run("doctor", silent_url, "--timeout", "0.5", "--json")

    assert (result.code, result.document["fault"]) == (3, "no_answer")
    assert time.monotonic() - began < 10


def test_a_url_from_the_environment_is_examined_too(closed_url: str) -> None:
    result = run("doctor", "--adapter", "triton", "--json", env={"ORCHD_TRITON_URL": closed_url})

    assert (result.code, result.document["fault"]) == (3, "refused")


def test_a_restricted_server_is_an_error_that_names_the_setting(fake: FakeTriton) -> None:
    fake.restrict("health", "metadata", "model-repository", key="admin", value="s3cret")

    result = run("doctor", fake.grpc_url, "--json")

    assert result.code == 1
    assert "restricted_token" in findings_of(result, "error")[0]["message"]
    assert "s3cret" not in result.out


def test_dialects_are_told_with_their_reason(fake: FakeTriton) -> None:
    result = run("doctor", fake.grpc_url)

    assert result.code == 0
    assert "llama  speaks vllm: it declares text_input" in result.out


def test_what_holds_for_several_models_is_said_once(fake: FakeTriton) -> None:
    fake.model("second")

    lines = [line for line in run("doctor", fake.grpc_url).out.splitlines() if "finish_reason" in line]

    assert len(lines) <= 1


@pytest.mark.live
def test_a_real_server_is_healthy_and_its_models_are_told(triton: EmbeddedTriton) -> None:
    result = run("doctor", triton.grpc_url, "--canary", "--json")

    models = {model["name"]: model for model in result.document["props"]["models"]}
    assert result.code == 0
    assert result.document["health"]["canary"]
    assert Capability.SEED in models["tinylm"]["capabilities"]
    assert {spec["name"]: spec["shape"] for spec in models["addsub"]["inputs"]} == {
        "INPUT0": [-1, 4],
        "INPUT1": [-1, 4],
    }
    assert {"determinism"} <= {finding["topic"] for finding in models["addsub"]["findings"]}


def test_a_model_whose_process_died_is_found_by_the_canary_only(fake: FakeTriton) -> None:
    fake.model("llama").kill_stub()

    silent, asked = run("doctor", fake.grpc_url, "--json"), run("doctor", fake.grpc_url, "--canary", "--json")

    assert (silent.code, asked.code) == (0, 1)
    assert "is not healthy" in findings_of(asked, "error")[0]["message"]


def test_a_model_that_failed_to_load_is_an_error_with_its_reason(fake: FakeTriton) -> None:
    fake.model("huge").fail_to_load("out of memory")

    result = run("doctor", fake.grpc_url, "--json")

    (error,) = findings_of(result, "error")
    assert result.code == 1
    assert (error["model"], "out of memory" in error["message"]) == ("huge", True)


def test_a_wrong_override_of_one_model_is_told_and_hides_no_other(fake: FakeTriton) -> None:
    fake.model("other")

    result = run("doctor", fake.grpc_url, "--option", 'models={"llama": {"dialect": "klingon"}}', "--json")

    models = {model["name"]: model["dialect"] for model in result.document["props"]["models"]}
    assert result.code == 1
    assert models == {"llama": None, "other": "vllm"}
    assert "klingon" in findings_of(result, "error")[0]["message"]


@pytest.mark.parametrize("proxied", [True, False])
async def test_a_proxy_in_the_environment_is_suspected_when_nothing_else_is(
    proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    if proxied:
        monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")

    found = await examined(report=HealthReport(state=HealthState.UNREACHABLE, live=False, ready=False))

    assert not found.reachable
    assert ("no_proxy" in found.notes[0].advice) == proxied

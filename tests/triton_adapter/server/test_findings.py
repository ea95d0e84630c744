"""What is said of servers and models, by what they declare and by version."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import Any

import pytest

from adapter_api import Capability, Finding
from triton_adapter.engine.cancellation import cancel_mode
from triton_adapter.schema import ModelSchema, TensorSpec, parse_version
from triton_adapter.server.findings import model_findings, server_findings
from triton_adapter.settings import ModelOverride, TritonSettings
from triton_adapter.transports.base import Traits
from triton_adapter.transports.ways import GRPC, HTTP


def of_model(
    *, version: str = "2.73.0", text: bool = True, failure: str | None = None, way: Traits = GRPC, **declared: Any
) -> set[str]:
    """Return `severity topic` of every finding about a model."""
    declared = {"backend": "python", **declared}
    schema = ModelSchema(name="m", inputs=MappingProxyType({}), outputs=MappingProxyType({}), **declared)
    mode = cancel_mode(schema, way)
    capabilities = {Capability.TEXT, Capability.USAGE} if text else set()
    return shown(
        model_findings(
            schema, frozenset(capabilities), version, reason="because", failure=failure, mode=mode, traits=way
        )
    )


def of_server(version: str = "2.73.0", name: str = "triton", **settings: Any) -> set[str]:
    return shown(server_findings(name, version, TritonSettings(**settings)))


@pytest.mark.parametrize(
    "kind, said", [("h2", ""), ("HTTP/1.1", ""), ("grpcio (asked for)", "auto"), ("grpcio (a proxy)", "no_proxy")]
)
def test_another_transport_than_our_own_is_told_with_what_to_do(kind: str, said: str) -> None:
    found = server_findings("triton", "2.73.0", TritonSettings(), carried_by=kind)

    assert [said in finding.advice and kind in finding.message for finding in found] == ([True] if said else [])


def shown(findings: tuple[Finding, ...]) -> set[str]:
    return {f"{finding.severity} {finding.topic}" for finding in findings}


@pytest.mark.parametrize(
    "text, version",
    [("2.51.0", (2, 51)), ("2.100.1-dev", (2, 100)), ("", None), ("latest", None)],
)
def test_versions_are_read(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


def test_nothing_is_said_of_a_new_server_on_this_machine_and_a_plain_streaming_model() -> None:
    assert of_server() == set()
    assert of_model(decoupled=True, backend="python") == set()


def test_plaintext_to_another_machine_is_a_warning_and_tls_is_none() -> None:
    assert of_server(url="grpc://gpu-7:8001") == {"warning security"}
    assert of_server(url="grpcs://gpu-7:8001") == set()


def test_a_token_over_plaintext_is_told_without_being_shown() -> None:
    settings = TritonSettings(url="grpc://gpu-7:8001", bearer_token="s3cret")

    (finding,) = server_findings("triton", "2.73.0", settings)

    assert "token" in finding.message
    assert "s3cret" not in finding.message


@pytest.mark.parametrize("version, hints", [("2.51.0", 2), ("2.56.0", 1), ("2.59.0", 0), ("unknown", 0)])
def test_what_an_old_server_lacks_goes_away_with_its_version(version: str, hints: int) -> None:
    assert len(server_findings("triton", version, TritonSettings())) == hints


def test_shared_memory_is_told_to_be_off_where_it_is_asked_for() -> None:
    assert of_server("2.69.0", shared_memory=True) == {"hint version"}
    assert of_server("2.68.0", shared_memory=True) == set()
    assert of_server("2.69.0") == set()


def test_a_server_that_is_no_triton_is_told() -> None:
    assert of_server(name="mlserver") == {"hint version"}


def test_a_model_whose_last_request_failed_is_an_error() -> None:
    assert "error health" in of_model(decoupled=True, failure="is not healthy")


def test_a_python_process_that_dies_unseen_is_told_before_26_01() -> None:
    assert of_model(decoupled=True, backend="python", version="2.64.0") == {"hint health"}
    assert of_model(decoupled=True, backend="python", version="2.65.0") == set()
    assert of_model(decoupled=True, backend="onnxruntime", version="2.64.0") == {"warning cancel"}


@pytest.mark.parametrize(
    "declared",
    [
        {"scheduling": "ensemble", "ensemble_steps": ("a", "b")},
        {"parameters": MappingProxyType({"tensorrt_llm_model_name": "tensorrt_llm"})},
    ],
)
def test_a_cancel_that_reaches_nobody_is_a_warning(declared: dict[str, Any]) -> None:
    assert of_model(decoupled=True, **declared) == {"warning cancel"}


@pytest.mark.spec("ORCH-3066-003")
def test_over_http_a_model_that_streams_tensors_and_one_that_answers_once_are_told() -> None:
    assert "warning model" in of_model(decoupled=True, text=False, way=HTTP)
    assert "warning model" not in of_model(decoupled=True, text=True, way=HTTP)
    assert "hint cancel" in of_model(way=HTTP)
    assert not {each for each in of_model() if each.endswith("cancel")}


def test_nothing_is_promised_of_cancels_where_the_backend_is_not_told() -> None:
    assert of_model(decoupled=True, backend="") == {"warning cancel"}


def test_batching_and_several_instances_are_told_for_determinism() -> None:
    assert "hint determinism" in of_model(decoupled=True, scheduling="dynamic_batching", max_batch_size=8)
    assert of_model(decoupled=True, instance_count=2) == {"hint determinism"}


def test_batching_one_by_one_is_none() -> None:
    batching: dict[str, Any] = {"scheduling": "dynamic_batching", "max_batch_size": 1, "max_queue_size": 4}

    assert of_model(decoupled=True, **batching) == set()


def test_a_text_model_that_cannot_stream_and_one_without_text_are_told() -> None:
    assert of_model(decoupled=False) == {"hint model"}
    assert of_model(text=False) == {"hint model"}


@pytest.mark.spec("ORCH-3062-022")
@pytest.mark.parametrize(
    "days, found", [(-1, {"error security"}), (5, {"warning security"}), (90, set()), (None, set())]
)
def test_our_own_certificate_that_ends_is_told_before_it_does(days: float | None, found: set[str]) -> None:
    ends = None if days is None else time.time() + days * 86400

    assert shown(server_findings("triton", "2.73.0", TritonSettings(), certificate_expires_at=ends)) == found


@pytest.mark.spec("ORCH-3057-035")
@pytest.mark.parametrize(
    "declared, slots",
    [
        ({"instance_count": 2, "max_batch_size": 4}, 8),
        ({"instance_count": 3}, 3),
        ({"instances_told": False}, None),
        ({"decoupled": True}, None),
        ({"scheduling": "ensemble"}, None),
        ({"scheduling": "sequence_batching"}, None),
    ],
)
def test_slots_are_told_where_an_instance_is_busy_until_it_has_answered(declared: Any, slots: int | None) -> None:
    declared = {"instances_told": True, **declared}
    schema = ModelSchema(name="m", inputs=MappingProxyType({}), outputs=MappingProxyType({}), **declared)

    assert schema.slots == slots


@pytest.mark.parametrize(
    "datatype, dims, shares, said",
    [
        ("FP32", (-1, 4), True, True),
        ("FP32", (-1, 4), False, False),
        ("FP32", (3, 4), True, False),
        ("BYTES", (-1,), True, False),
    ],
)
def test_an_output_that_cannot_go_by_shared_memory_unless_its_shape_is_stated_is_told(
    datatype: str, dims: tuple[int, ...], shares: bool, said: bool
) -> None:
    outputs = MappingProxyType({"boxes": TensorSpec("boxes", datatype, dims)})
    schema = ModelSchema(name="m", inputs=MappingProxyType({}), outputs=outputs)
    found = model_findings(
        schema, frozenset({Capability.TENSORS}), "2.51.0", reason="", failure=None, mode=cancel_mode(schema, GRPC),
        traits=GRPC, shares_memory=shares,
    )  # fmt: skip

    assert any("boxes" in finding.message and "shape=" in finding.advice for finding in found) is said


@pytest.mark.spec("ORCH-3073-018")
@pytest.mark.parametrize(
    "call, severity, said",
    [
        ("<tool_calls>{{ c.function | tojson }}</tool_calls>", "hint", "read as tool_calls"),
        ("!{{ c.function.name }} {{ c.function.arguments.town }}!", "warning", "not known"),
        (None, None, ""),
    ],
)
def test_how_the_calls_of_a_model_with_a_template_are_told_is_said(
    call: str | None, severity: str | None, said: str
) -> None:
    turn = f"{{{{ m.content or '' }}}}{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}|"
    template = None if call is None else f"{{{{ tools }}}}{{% for m in messages %}}{turn}{{% endfor %}}"
    schema = ModelSchema(name="m", inputs=MappingProxyType({}), outputs=MappingProxyType({}), backend="python")
    found = model_findings(
        schema, frozenset({Capability.TEXT, Capability.USAGE}), "2.73.0", reason="", failure=None,
        mode=cancel_mode(schema, GRPC), traits=GRPC, override=ModelOverride(chat_template=template),
    )  # fmt: skip

    told = [each for each in found if "tool calls" in each.message]
    assert [each.severity for each in told] == ([] if severity is None else [severity])
    assert all(said in each.message and bool(each.advice) == (severity == "warning") for each in told)

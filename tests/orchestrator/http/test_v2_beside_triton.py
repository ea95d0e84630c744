"""Every method of an unmodified tritonclient.http, at a real Triton and at a host in front of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio.to_thread
import numpy as np
import pytest

from tests.orchestrator.http.test_v2_config import in_front_of
from triton_adapter.embedded import EmbeddedTriton

pytestmark = [pytest.mark.anyio, pytest.mark.live]

Call = Callable[[Any], Any]


def _inputs(http: Any, *, binary: bool = True, rows: int = 1) -> list[Any]:
    found = []
    for name in ("INPUT0", "INPUT1"):
        tensor = http.InferInput(name, [rows, 4], "FP32")
        tensor.set_data_from_numpy(np.full((rows, 4), 2, np.float32), binary_data=binary)
        found.append(tensor)
    return found


def _sum(result: Any) -> Any:
    return (result.get_response()["model_name"], result.as_numpy("SUM").tolist(), result.get_output("SUM")["datatype"])


def same_calls(http: Any) -> dict[str, Call]:
    """Calls that a program cannot tell the two by."""
    asked = [http.InferRequestedOutput("SUM", binary_data=False), http.InferRequestedOutput("DIFFERENCE")]
    top = [http.InferRequestedOutput("SUM", class_count=2)]
    return {
        "is_server_live": lambda c: c.is_server_live(),
        "is_server_ready": lambda c: c.is_server_ready(),
        "is_model_ready": lambda c: (c.is_model_ready("addsub"), c.is_model_ready("addsub", "1")),
        "is_model_ready of none": lambda c: (c.is_model_ready("nope"), c.is_model_ready("addsub", "9")),
        "get_server_metadata": lambda c: sorted(c.get_server_metadata()),
        "get_model_metadata": lambda c: {**c.get_model_metadata("addsub"), "platform": None},
        "get_model_metadata of a version": lambda c: {**c.get_model_metadata("echo", "2"), "platform": None},
        "get_model_config": lambda c: (c.get_model_config("echo"), c.get_model_config("tinylm", "1")),
        "get_model_repository_index": lambda c: sorted(
            (each["name"], each["version"], each["state"]) for each in c.get_model_repository_index()
        ),
        "get_inference_statistics": lambda c: _shape(c.get_inference_statistics("addsub")),
        "get_inference_statistics of a version": lambda c: _shape(c.get_inference_statistics("addsub", "1")),
        "get_inference_statistics of all": lambda c: {
            each["name"] for each in c.get_inference_statistics()["model_stats"]
        },
        "load_model": lambda c: c.load_model("addsub"),
        "unload_model of none": lambda c: c.unload_model("nope"),
        "get_system_shared_memory_status": lambda c: c.get_system_shared_memory_status(),
        "unregister_system_shared_memory": lambda c: c.unregister_system_shared_memory(),
        "get_cuda_shared_memory_status": lambda c: c.get_cuda_shared_memory_status(),
        "unregister_cuda_shared_memory": lambda c: c.unregister_cuda_shared_memory("r"),
        "infer": lambda c: _sum(c.infer("addsub", _inputs(http), request_id="7")),
        "infer in JSON": lambda c: _sum(c.infer("addsub", _inputs(http, binary=False), outputs=asked)),
        "infer of a batch": lambda c: _sum(c.infer("addsub", _inputs(http, rows=3), model_version="1")),
        "infer of classes": lambda c: c.infer("addsub", _inputs(http), outputs=top).as_numpy("SUM").tolist(),
        "infer compressed": lambda c: _sum(
            c.infer(
                "addsub", _inputs(http), request_compression_algorithm="gzip", priority=1, timeout=1,
                parameters={"a": 1},
            )
        ),
        "async_infer": lambda c: _sum(c.async_infer("addsub", _inputs(http)).get_result()),
        "generate_request_body": lambda c: c.generate_request_body(_inputs(http))[1],
    }  # fmt: skip


def _shape(statistics: Any) -> Any:
    """The names and types of what is told; the figures are each server's own."""
    if isinstance(statistics, dict):
        return {
            name: _shape(value) for name, value in statistics.items() if name not in ("batch_stats", "memory_usage")
        }
    return [_shape(each) for each in statistics] if isinstance(statistics, list) else type(statistics)


FAILING: dict[str, tuple[Callable[[Any, Any], Any], str, str]] = {
    # The status at the host, and a part of what it says.
    "get_model_metadata": (lambda c, http: c.get_model_metadata("nope"), "404", "no replica has a model 'nope'"),
    "get_model_config": (lambda c, http: c.get_model_config("nope"), "404", "no replica has a model 'nope'"),
    "get_inference_statistics": (lambda c, http: c.get_inference_statistics("nope"), "404", "no replica has a model"),
    "load_model": (lambda c, http: c.load_model("nope"), "404", "'nope'"),
    "infer of an input there is not": (
        lambda c, http: c.infer("addsub", [http.InferInput("zzz", [1], "FP32").set_data_from_numpy(np.ones(1, "f4"))]),
        "400", "zzz",
    ),
    "infer of a model that streams": (
        lambda c, http: c.infer(
            "splitter",
            [http.InferInput("text_input", [1], "BYTES").set_data_from_numpy(np.array([b"x"], dtype=object))],
        ),
        "501", "streams",
    ),
    "get_trace_settings": (lambda c, http: c.get_trace_settings(), "501", "trace settings"),
    "update_trace_settings": (lambda c, http: c.update_trace_settings("echo", {"trace_rate": "1"}), "501", "trace"),
    "get_log_settings": (lambda c, http: c.get_log_settings(), "501", "log settings"),
    "update_log_settings": (lambda c, http: c.update_log_settings({"log_info": False}), "501", "log settings"),
    "register_system_shared_memory": (
        lambda c, http: c.register_system_shared_memory("r", "/r", 8), "501", "shared memory",
    ),
    "register_cuda_shared_memory": (
        lambda c, http: c.register_cuda_shared_memory("r", b"\0" * 64, 0, 8), "501", "shared memory",
    ),
}  # fmt: skip


@pytest.mark.spec("ORCH-3074-010")
async def test_tritons_client_finds_the_same_at_a_host(triton: EmbeddedTriton) -> None:
    import tritonclient.http as http  # here, because it brings gevent

    def all_of(url: str) -> dict[str, Any]:
        client = http.InferenceServerClient(url)
        try:
            found = {}
            for name, call in same_calls(http).items():
                try:
                    found[name] = call(client)
                except Exception as exc:
                    found[name] = f"failed: {exc}"
            return found
        finally:
            client.close()

    async with in_front_of(triton.grpc_url) as host:
        there = await anyio.to_thread.run_sync(all_of, triton.http_url.removeprefix("http://"))
        here = await anyio.to_thread.run_sync(all_of, host.base_url.netloc.decode())

    assert not {name: value for name, value in there.items() if str(value).startswith("failed")}
    assert [(name, here[name], value) for name, value in there.items() if here[name] != value] == []


@pytest.mark.spec("ORCH-3074-010")
async def test_what_a_host_has_not_is_told_clearly(triton: EmbeddedTriton) -> None:
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    def all_of(url: str) -> dict[str, tuple[str, str]]:
        client = http.InferenceServerClient(url)
        found = {}
        try:
            for name, (call, _, _) in FAILING.items():
                with pytest.raises(InferenceServerException) as failed:
                    call(client, http)
                found[name] = (str(failed.value.status()), failed.value.message())
        finally:
            client.close()
        return found

    async with in_front_of(triton.grpc_url) as host:
        told = await anyio.to_thread.run_sync(all_of, host.base_url.netloc.decode())

    wrong = {
        name: told[name]
        for name, (_, status, said) in FAILING.items()
        if status != told[name][0] or said not in told[name][1]
    }
    assert wrong == {}
    assert not [name for name, (_, message) in told.items() if triton.grpc_url.removeprefix("grpc://") in message]


@pytest.mark.spec("ORCH-3074-010")
async def test_no_method_of_the_client_is_left_out() -> None:
    import tritonclient.http as http

    tried = {name.split()[0] for name in (*same_calls(http), *FAILING)}
    methods = {name for name in dir(http.InferenceServerClient) if not name.startswith("_")}
    plumbing = {"close", "parse_response_body", "plugin", "register_plugin", "unregister_plugin"}
    assert methods - plumbing - tried == set()

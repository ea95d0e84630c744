"""The demo models of the embedded server, scripted for the fake, so that one test can be run against both."""

from __future__ import annotations

from typing import Any

from adapter_api import Tensor
from triton_adapter.embedded import demo_repository
from triton_adapter.testing import FakeTriton, RecordedRequest
from triton_adapter.testing.script import Fail, Finish, Send, Step, Wait

# Not in the demo repository: a test brings it to the server with `STATEFUL_CODE`.
STATEFUL: dict[str, Any] = {
    "backend": "python",
    "max_batch_size": 4,
    "input": [{"name": "X", "data_type": "TYPE_INT32", "dims": [1]}],
    "output": [{"name": "Y", "data_type": "TYPE_INT32", "dims": [1]}],
    "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    "sequence_batching": {
        "max_sequence_idle_microseconds": 60_000_000,
        "control_input": [
            {"name": "START", "control": [{"kind": "CONTROL_SEQUENCE_START", "int32_false_true": [0, 1]}]},
            {"name": "CORRID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_UINT64"}]},
        ],
    },
}
STATEFUL_CODE = b"""
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", value)]) for value in inputs]
"""


def add_demo_models(fake: FakeTriton) -> None:
    """Give `fake` the models of the demo repository that compute something simple enough to be scripted."""
    for name in ("addsub", "tensors", "slow", "splitter", "midfail", "tinylm", "tinytrt"):
        fake.model(name).config((demo_repository() / name / "config.pbtxt").read_text())
    fake.model("stateful").config(STATEFUL).respond_with(lambda request: {"Y": request.inputs["X"].to_numpy()})
    fake.model("addsub").respond_with(_addsub)
    fake.model("tensors").respond_with(_identity)
    fake.model("slow").respond_with(_slow)
    fake.model("splitter").respond_with(_split)
    fake.model("midfail").respond_with(_fail_midway)


def _addsub(request: RecordedRequest) -> dict[str, Any]:
    left, right = (request.inputs[name].to_numpy() for name in ("INPUT0", "INPUT1"))
    return {"SUM": left + right, "DIFFERENCE": left - right}


def _identity(request: RecordedRequest) -> dict[str, Any]:
    renamed = {name.replace("_IN", "_OUT"): tensor for name, tensor in request.inputs.items()}
    return {name: Tensor(name, tensor.datatype, tensor.shape, tensor.data) for name, tensor in renamed.items()}


def _slow(request: RecordedRequest) -> list[Step]:
    options: dict[str, Any] = {"max_tokens": 50, "delay_ms": 50} | dict(request.parameters)
    words = request.text().split() or ["tick"]
    steps: list[Step] = []
    for index in range(options["max_tokens"]):
        is_last = index == options["max_tokens"] - 1
        steps += [Wait(options["delay_ms"] / 1000), _text(f"{words[index % len(words)]} ", final=is_last)]
    return steps or [Finish()]


def _split(request: RecordedRequest) -> list[Step]:
    (prompt,) = request.inputs["text_input"].elements()
    prompt = prompt[: len(prompt) - int(request.parameters.get("drop_bytes", 0))]
    return [*(_text(bytes([byte])) for byte in prompt), Finish()]


def _fail_midway(request: RecordedRequest) -> list[Step]:
    options: dict[str, Any] = {"tokens": 3, "code": "INTERNAL", "message": "midfail was asked to fail here"}
    options |= {"final": True, "then_tokens": 0} | dict(request.parameters)
    if "message_hex" in options:
        options["message"] = bytes.fromhex(options["message_hex"]).decode()
    before = [_text(f"token{index} ") for index in range(options["tokens"])]
    steps: list[Step] = [*before, Fail(options["message"], options["code"], options["final"])]
    if not options["final"]:
        steps += [_text(f"token{index} ") for index in range(options["then_tokens"])]
        steps.append(Finish())
    return steps


def _text(text: str | bytes, *, final: bool = False) -> Send:
    element = text.encode() if isinstance(text, str) else text
    return Send({"text_output": Tensor.from_bytes_elements("text_output", [element])}, final=final)

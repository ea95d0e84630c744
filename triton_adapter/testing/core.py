"""The fake server without a wire: which models there are, who may ask what, and what becomes of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from adapter_api.errors import InvalidRequest
from adapter_api.task import ParameterValue
from adapter_api.tensors import ITEM_SIZE, Tensor
from triton_adapter.wire import v2_pb2 as v2

from .admission import admit
from .failure import Code, TritonFailure
from .incoming import EMPTY_FINAL, RawInput, read_inputs, read_parameters, requested_version
from .records import Origin, RecordedCall, RecordedRequest
from .runs import Run
from .serving import Serving, not_found

EXTENSIONS = (
    "classification", "sequence", "model_repository", "model_repository(unload_dependents)", "schedule_policy",
    "model_configuration", "system_shared_memory", "cuda_shared_memory", "binary_tensor_data", "parameters",
    "statistics", "trace", "logging",
)  # fmt: skip
Protocol = Literal[
    "health", "metadata", "inference", "shared-memory", "model-config", "model-repository", "statistics", "trace",
    "logging",
]  # fmt: skip
"""What can be restricted, by Triton's names."""

_PROTOCOLS: Mapping[str, Protocol] = {
    "ServerLive": "health",
    "ServerReady": "health",
    "ModelReady": "health",
    "Check": "health",
    "ServerMetadata": "metadata",
    "ModelMetadata": "metadata",
    "ModelInfer": "inference",
    "ModelStreamInfer": "inference",
    "ModelConfig": "model-config",
    "ModelStatistics": "statistics",
    "RepositoryIndex": "model-repository",
    "RepositoryModelLoad": "model-repository",
    "RepositoryModelUnload": "model-repository",
    "SystemSharedMemoryStatus": "shared-memory",
    "TraceSetting": "trace",
    "LogSettings": "logging",
}
_DECOUPLED = {
    "grpc": "ModelInfer RPC doesn't support models with decoupled transaction policy",
    "http": "HTTP end point doesn't support models with decoupled transaction policy",
}


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request the server has taken on."""

    run: Run
    serving: Serving
    version: int
    wants_empty_final: bool


class Core:
    """Used on the server's event loop; what a test sets is read there."""

    def __init__(self, version: str, ring: Callable[[], None]) -> None:
        self.version = version
        self.servings: dict[str, Serving] = {}
        self.calls: list[RecordedCall] = []
        self.requests: list[RecordedRequest] = []
        self.live = True
        self.ready: bool | None = None
        self.is_draining = False
        self.model_control: Literal["explicit", "none"] = "explicit"
        self.name = "triton"
        self.missing: set[str] = set()
        self.lists_models = True
        self.refuses_unknown: Code | None = None
        self.flags_ends = True
        self.extensions: tuple[str, ...] = EXTENSIONS
        self.restricted: dict[str, tuple[str, str]] = {}
        self._scripted: list[tuple[str, Code, str]] = []
        self.add_model: Callable[[str], object] = lambda name: None
        self._ring = ring

    def fail_next(self, call: str, code: Code, text: str, times: int) -> None:
        self._scripted += [(call, code, text)] * times

    def enter(self, origin: Origin, model: str = "") -> None:
        """Note the call; raise what the test scripted for it, or the refusal of a restricted protocol."""
        self.calls.append(RecordedCall(origin, model))
        self._ring()
        if origin.call in self.missing:
            raise TritonFailure("UNIMPLEMENTED", "")
        self.check_access(origin)
        for index, (call, code, text) in enumerate(self._scripted):
            if call == origin.call:
                del self._scripted[index]
                raise TritonFailure(code, text)

    def check_access(self, origin: Origin) -> None:
        key_and_value = self.restricted.get(_PROTOCOLS.get(origin.call, ""))
        if key_and_value is None:
            return
        key, value = key_and_value
        name = f"triton-grpc-protocol-{key}" if origin.transport == "grpc" else key.lower()
        if origin.metadata.get(name) == value:
            return
        if origin.transport == "grpc":
            raise TritonFailure("UNAVAILABLE", f"This protocol is restricted, expecting header '{name}'")
        raise TritonFailure("PERMISSION_DENIED", f"This API is restricted, expecting header '{key}'")

    def is_ready(self) -> bool:
        if self.ready is not None:
            return self.ready
        states = [serving.shown_state for serving in self.servings.values()]
        return not any(state in ("LOADING", "UNLOADING") or (state == "UNAVAILABLE" and why != "unloaded")
                       for state, why in states)  # fmt: skip

    def model_is_ready(self, name: str, version: int | None) -> bool:
        serving = self.servings.get(name)
        known = serving is not None and (version is None or version in serving.versions)
        return known and serving is not None and serving.says_ready

    def find(self, name: str, version: int | None) -> tuple[Serving, int]:
        """Return the model and the version that serve this.

        Raises:
            TritonFailure: There is none, or it is not ready.
        """
        serving = self.servings.get(name)
        if serving is None:
            raise not_found(name, "is not found")
        if self.is_draining and version is None:
            raise not_found(name, "has no available versions")
        return serving, serving.version(version)

    def submit(
        self, request: v2.ModelInferRequest, origin: Origin, *, streaming: bool, inputs: list[RawInput] | None = None
    ) -> Admitted:
        """Take a request on.

        Args:
            request: As it came, or what an HTTP request says in its terms.
            origin: How it came.
            streaming: Whether any number of responses can go back.
            inputs: When they were read already.

        Raises:
            TritonFailure: What the server refuses it with.
        """
        recorded = self._record(request, origin, inputs)
        serving, version = self.find(request.model_name, requested_version(request.model_version))
        if serving.is_decoupled and not streaming:
            raise TritonFailure("UNIMPLEMENTED", _DECOUPLED[origin.transport])
        read_parameters(request.parameters)
        outputs = [output.name for output in request.outputs]
        admit(serving.config, request.id, read_inputs(request) if inputs is None else inputs, outputs)
        run = serving.start(recorded)
        return Admitted(run, serving, version, recorded.parameters.get(EMPTY_FINAL) is True)

    def _record(self, request: v2.ModelInferRequest, origin: Origin, inputs: list[RawInput] | None) -> RecordedRequest:
        recorded = RecordedRequest(
            model=request.model_name,
            version=request.model_version,
            id=request.id,
            inputs=_readable_inputs(request, inputs),
            parameters=_readable_parameters(request),
            outputs=tuple(output.name for output in request.outputs),
            origin=origin,
        )
        self.requests.append(recorded)
        serving = self.servings.get(request.model_name)
        if serving is not None:
            serving.requests.append(recorded)
        self._ring()
        return recorded


def _readable_inputs(request: v2.ModelInferRequest, inputs: list[RawInput] | None) -> dict[str, Tensor]:
    """Return the inputs that make sense by themselves, whatever the model thinks of them."""
    try:
        raw = read_inputs(request) if inputs is None else inputs
    except TritonFailure:
        return {}
    tensors = {}
    for given in raw:
        if given.datatype not in ITEM_SIZE and given.datatype != "BYTES":
            continue
        try:
            tensor = Tensor(given.name, given.datatype, given.shape, given.data)  # type: ignore[arg-type]
            if given.datatype == "BYTES":
                tensor.elements()
        except InvalidRequest:
            continue
        tensors[given.name] = tensor
    return tensors


def _readable_parameters(request: v2.ModelInferRequest) -> dict[str, ParameterValue]:
    choices = {key: (parameter, parameter.WhichOneof("choice")) for key, parameter in request.parameters.items()}
    return {key: getattr(parameter, choice) for key, (parameter, choice) in choices.items() if choice}

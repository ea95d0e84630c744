"""Runs any ONNX file, `model.onnx` beside this one, with onnxruntime, for servers without a backend for it."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        try:
            import onnxruntime
        except ImportError as exc:
            raise RuntimeError("the Python that runs the models has no onnxruntime: pip install onnxruntime") from exc
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        options = onnxruntime.SessionOptions()
        # By itself it takes as many as there are cores, also where it is held to one of them.
        options.intra_op_num_threads = int(parameters.get("intra_op_num_threads", 1))
        options.inter_op_num_threads = 1
        on_gpu = args["model_instance_kind"] == "GPU"
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=[name for name in wanted if name in onnxruntime.get_available_providers()]
        )
        self._batches = config["max_batch_size"] > 0
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._outputs = [each.name for each in self._session.get_outputs()]

    def execute(self, requests):
        inputs = [self._read(request) for request in requests]
        if len(requests) > 1 and self._batches and self._fit_together(inputs):
            return self._run_together(requests, inputs)
        return [self._run_alone(request, given) for request, given in zip(requests, inputs, strict=True)]

    def _read(self, request):
        return {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}

    def _fit_together(self, inputs):
        return all(len({given[name].shape[1:] for given in inputs}) == 1 for name in self._inputs)

    def _run_together(self, requests, inputs):
        joined = {name: np.concatenate([given[name] for given in inputs]) for name in self._inputs}
        ends = np.cumsum([len(given[self._inputs[0]]) for given in inputs])[:-1]
        try:
            found = [np.split(output, ends) for output in self._session.run(self._outputs, joined)]
        except Exception:
            # One request's values may be the reason: only it is to fail.
            return [self._run_alone(request, given) for request, given in zip(requests, inputs, strict=True)]
        each = zip(*found, strict=True)
        return [self._response(request, parts) for request, parts in zip(requests, each, strict=True)]

    def _run_alone(self, request, given):
        try:
            return self._response(request, self._session.run(self._outputs, given))
        except Exception as exc:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(exc)))

    def _response(self, request, values):
        wanted = set(request.requested_output_names())
        named = zip(self._outputs, values, strict=True)
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(value)) for name, value in named if name in wanted]
        return pb_utils.InferenceResponse(output_tensors=tensors)

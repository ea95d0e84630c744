"""Identity for every datatype: X_IN comes back as X_OUT, after `delay_ms` (a request parameter) if asked for."""

import json
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        delays = [float(json.loads(request.parameters() or "{}").get("delay_ms", 0)) for request in requests]
        time.sleep(max(delays, default=0) / 1000)
        return [
            pb_utils.InferenceResponse(output_tensors=[_renamed(tensor) for tensor in request.inputs()])
            for request in requests
        ]


def _renamed(tensor):
    name = tensor.name().replace("_IN", "_OUT")
    if tensor.name() == "BF16_IN":
        # numpy has no bfloat16, so the bytes go through untouched.
        return pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack())
    return pb_utils.Tensor(name, tensor.as_numpy())

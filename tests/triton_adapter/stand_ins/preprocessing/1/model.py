"""Text to ids: an id is a byte of UTF-8, so that most characters of the world take several."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._encode(request) for request in requests]

    def _encode(self, request):
        text = pb_utils.get_input_tensor_by_name(request, "QUERY").as_numpy()[0, 0]
        length = pb_utils.get_input_tensor_by_name(request, "REQUEST_OUTPUT_LEN").as_numpy()
        ids = np.array([list(text)], np.int32)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("INPUT_ID", ids),
                pb_utils.Tensor("REQUEST_INPUT_LEN", np.array([[ids.shape[1]]], np.int32)),
                pb_utils.Tensor("REQUEST_OUTPUT_LEN", length),
            ]
        )

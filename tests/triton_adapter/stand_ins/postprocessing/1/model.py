"""Ids to text, as the bytes that they are."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._decode(request) for request in requests]

    def _decode(self, request):
        ids = pb_utils.get_input_tensor_by_name(request, "TOKENS_BATCH").as_numpy()[0, 0]
        length = pb_utils.get_input_tensor_by_name(request, "SEQUENCE_LENGTH").as_numpy()[0, 0]
        text = np.array([bytes(ids[:length].tolist())], dtype=np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", text)])

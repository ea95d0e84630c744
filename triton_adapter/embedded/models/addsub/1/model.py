"""SUM = INPUT0 + INPUT1 and DIFFERENCE = INPUT0 - INPUT1."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        left, right = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("INPUT0", "INPUT1"))
        return pb_utils.InferenceResponse(
            output_tensors=[pb_utils.Tensor("SUM", left + right), pb_utils.Tensor("DIFFERENCE", left - right)]
        )

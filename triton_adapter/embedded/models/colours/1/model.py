"""Finds the box around all that is red, all that is green and all that is blue, in the raw layout of YOLO detectors.

Around each it also says two boxes more, less sure: one nearly the same, which a client has to suppress, and one of the
next class.
"""

import numpy as np
import triton_python_backend_utils as pb_utils

_CELLS = 2100
_SURE, _NEARLY, _OTHERWISE = 0.9, 0.8, 0.3


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        pictures = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
        found = np.stack([self._detect(picture) for picture in pictures])
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("output0", found)])

    def _detect(self, picture):
        table = np.zeros((7, _CELLS), np.float32)
        cell = 0
        for colour in range(3):
            others = np.delete(picture, colour, axis=0)
            rows, columns = np.nonzero((picture[colour] > 0.6) & (others < 0.4).all(axis=0))
            if not len(rows):
                continue
            left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            width, height = right - left, bottom - top
            box = [(left + right) / 2, (top + bottom) / 2, width, height]
            shifted = [box[0] + width / 20, *box[1:]]
            for values, number, score in (
                (box, colour, _SURE - colour / 10),
                (shifted, colour, _NEARLY - colour / 10),
                (box, (colour + 1) % 3, _OTHERWISE),
            ):
                table[:4, cell] = values
                table[4 + number, cell] = score
                cell += 1
        return table

"""A model with eyes, behind the tensors of Triton's vLLM backend: says of each picture its size and what it sees.

Pictures are opened as that backend opens them: standard base64 of a file, by Pillow, made RGB, not turned. Of each it
tells width, height and the colours of its quarters, row by row; then the question.
"""

import base64
import io
import json

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            try:
                words = self._answer(request)
            except Exception as error:
                refusal = pb_utils.TritonError(str(error))
                sender.send(pb_utils.InferenceResponse([], refusal), pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            for word in words:
                sender.send(pb_utils.InferenceResponse([_text("text_output", word)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _answer(self, request):
        shown = [_seen(each) for each in _values(request, "image")]
        (prompt,) = _values(request, "text_input")
        sampling = json.loads((_values(request, "sampling_parameters") or [b"{}"])[0])
        limit = int(sampling.get("max_tokens", 64))
        return [*[f"{word} " for word in ("; ".join(shown) or "nothing").split()][:limit], f"<{prompt.decode()}>"]


def _seen(encoded):
    image = Image.open(io.BytesIO(base64.b64decode(encoded.decode("utf-8"), validate=True))).convert("RGB")
    width, height = image.size
    places = [(x, y) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    a, b, c, d = (_named(image.getpixel(place)) for place in places)
    return f"{width}x{height} {a} {b} / {c} {d}"


def _named(pixel):
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(pixel, COLOURS[name], strict=True)))


def _values(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return [] if tensor is None else list(tensor.as_numpy().reshape(-1))


def _text(name, value):
    return pb_utils.Tensor(name, np.array([value.encode()], dtype=np.object_))

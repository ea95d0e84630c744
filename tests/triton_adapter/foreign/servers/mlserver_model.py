"""A model for MLServer: y is twice x."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Adder(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        (given,) = payload.inputs
        if given.name == "boom":
            raise ValueError("this model broke")
        doubled = 2 * NumpyCodec.decode_input(given)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", doubled)])

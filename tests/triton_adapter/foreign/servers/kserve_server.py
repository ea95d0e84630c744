"""KServe's model server with one model, y is twice x: `kserve_server.py PORT`.

It listens on all addresses whatever it is told, so this runs in a network namespace only.
"""

import sys

from kserve import InferOutput, InferResponse, Model, ModelServer

PORT = int(sys.argv.pop())


class Adder(Model):
    def __init__(self):
        super().__init__("adder")
        self.ready = True

    async def get_input_types(self):
        return [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]

    async def get_output_types(self):
        return [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]

    async def predict(self, payload, headers=None, response_headers=None):
        doubled = 2 * payload.inputs[0].as_numpy()
        output = InferOutput("y", list(doubled.shape), payload.inputs[0].datatype)
        output.set_data_from_numpy(doubled, binary_data=True)
        return InferResponse(payload.id, self.name, [output])


ModelServer(http_port=PORT + 1, grpc_port=PORT, workers=1).start([Adder()])

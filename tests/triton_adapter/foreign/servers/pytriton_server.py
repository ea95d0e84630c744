"""PyTriton with one model, y is twice x, on the loopback interface: `pytriton_server.py PORT`."""

import signal
import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

PORT = int(sys.argv[1])


@batch
def double(x):
    return {"y": 2 * x}


def stop(number, frame):
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, stop)
config = TritonConfig(
    http_address="127.0.0.1", http_port=PORT + 1,
    grpc_address="127.0.0.1", grpc_port=PORT,
    metrics_address="127.0.0.1", metrics_port=PORT + 2,
)  # fmt: skip
with Triton(config=config) as triton:
    triton.bind(
        model_name="adder", infer_func=double, config=ModelConfig(max_batch_size=8),
        inputs=[Tensor(name="x", dtype=np.float32, shape=(2,))],
        outputs=[Tensor(name="y", dtype=np.float32, shape=(2,))],
    )  # fmt: skip
    try:
        triton.serve()
    except KeyboardInterrupt:
        pass

"""A real Triton server from a wheel, with small real models, so that everything runs on a laptop without a GPU.

    with EmbeddedTriton() as triton:
        print(triton.grpc_url, triton.models)

`server.py` is the public class; `layout.py`, `interpreter.py`, `libpython.py` and `fetched.py` prepare the ground,
`process.py` and `supervisor.py` run the process, `readiness.py` and `diagnose.py` watch it start, `models/` is the
demo model repository and `model_code/` what its models share. Importing this package imports nothing heavy.
"""

from .demo import DEMO_MODELS, DemoModel, demo_repository
from .interpreter import PYTHON_VARIABLE
from .server import EmbeddedTriton

__all__ = ["DEMO_MODELS", "PYTHON_VARIABLE", "DemoModel", "EmbeddedTriton", "demo_repository"]

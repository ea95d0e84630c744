"""A Dynamo cluster in one process, with its KServe face, a text model and a tensor model: `dynamo_server.py PORT`.

The face listens on all addresses whatever it is told, so this runs in a network namespace only.
"""

import asyncio
import sys
import time

import uvloop
from dynamo.llm import (
    EngineType,
    EntrypointArgs,
    ModelInput,
    ModelType,
    WorkerType,
    make_engine,
    register_model,
    run_input,
)
from dynamo.runtime import DistributedRuntime

WORDS = ("one ", "two ", "three ", "four")
CONFIG = {
    "name": "adder",
    "inputs": [{"name": "x", "data_type": "Float32", "shape": [2], "parameters": {}}],
    "outputs": [{"name": "y", "data_type": "Float32", "shape": [2], "parameters": {}}],
}


async def text(request, context):
    """Answer word by word; a prompt may name what to raise instead."""
    prompt = str(request.get("prompt"))
    if "value error" in prompt:
        raise ValueError("that prompt is not allowed")
    if "timeout" in prompt:
        raise TimeoutError("the worker gave up")
    for index, word in enumerate(WORDS):
        if "fail midway" in prompt and index == 2:
            raise RuntimeError("boom")
        last = index == len(WORDS) - 1
        yield {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": int(time.time()),
            "model": "talker",
            "choices": [
                {"text": word, "index": 0, "finish_reason": "stop" if last else None, "logprobs": None},
            ],
        }
        await asyncio.sleep(0.2)


async def tensor(request, context):
    """Double the numbers, as often as the first of them says."""
    given = request["tensors"][0]
    values = given["data"]["values"]
    answer = {
        "metadata": {**given["metadata"], "name": "y"},
        "data": {"data_type": given["data"]["data_type"], "values": [2 * value for value in values]},
    }
    yield {"model": "adder", "tensors": [answer]}


async def main(port):
    loop = asyncio.get_running_loop()
    runtime = DistributedRuntime(loop, "mem", "tcp")
    talker, adder = runtime.endpoint("test.talker.generate"), runtime.endpoint("test.adder.generate")
    await register_model(
        ModelInput.Text, ModelType.Completions, talker, "talker", "talker",
        worker_type=WorkerType.Aggregated, skip_model_assets=True,
    )  # fmt: skip
    await register_model(
        ModelInput.Tensor, ModelType.TensorBased, adder, "adder", "adder",
        worker_type=WorkerType.Aggregated, tensor_model_config=CONFIG,
    )  # fmt: skip
    serving = [asyncio.ensure_future(each) for each in (talker.serve_endpoint(text), adder.serve_endpoint(tensor))]
    engine = await make_engine(runtime, EntrypointArgs(EngineType.Dynamic, http_host="127.0.0.1", http_port=port))
    await asyncio.gather(run_input(runtime, "grpc", engine), *serving)


uvloop.run(main(int(sys.argv[1])))

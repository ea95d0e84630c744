"""A Dynamo cluster with its KServe face, text models and a tensor model: `dynamo_server.py PORT`.

The face listens on all addresses whatever it is told, so this runs in a network namespace only. The model `mortal` is
served by a process of its own, `dynamo_server.py worker`, which ends when a prompt says so.
"""

import asyncio
import os
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
from dynamo.llm.exceptions import Cancelled, HttpError, WorkerUnavailable
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
    if "slow down" in prompt:
        raise HttpError(429, "slow down")
    if "cancelled" in prompt:
        raise Cancelled("told to stop")
    if "unavailable" in prompt:
        raise WorkerUnavailable("no room left")
    for index, word in enumerate(WORDS):
        if "fail midway" in prompt and index == 2:
            raise RuntimeError("boom")
        if "die midway" in prompt and index == 2:
            os._exit(9)
        if "break off" in prompt and index == 2:
            return
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


async def chat(request, context):
    """Answer a conversation word by word."""
    for index, word in enumerate(WORDS):
        last = index == len(WORDS) - 1
        delta = {"content": word, "role": "assistant"}
        yield {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": "chatter",
            "choices": [{"delta": delta, "index": 0, "finish_reason": "stop" if last else None}],
        }


async def tensor(request, context):
    """Double the numbers, as often as the first of them says."""
    given = request["tensors"][0]
    values = given["data"]["values"]
    answer = {
        "metadata": {**given["metadata"], "name": "y"},
        "data": {"data_type": given["data"]["data_type"], "values": [2 * value for value in values]},
    }
    yield {"model": "adder", "tensors": [answer]}


async def register(runtime, name, kind, **more):
    endpoint = runtime.endpoint(f"test.{name}.generate")
    how = ModelInput.Tensor if kind == ModelType.TensorBased else ModelInput.Text
    await register_model(
        how, kind, endpoint, name, name, worker_type=WorkerType.Aggregated,
        **({"tensor_model_config": CONFIG} if how == ModelInput.Tensor else {"skip_model_assets": True}),
    )  # fmt: skip
    return endpoint


def connected():
    return DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")


async def work():
    endpoint = await register(connected(), "mortal", ModelType.Completions)
    await endpoint.serve_endpoint(text)


async def main(port):
    worker = await asyncio.create_subprocess_exec(sys.executable, __file__, "worker")
    runtime = connected()
    try:
        talker = await register(runtime, "talker", ModelType.Completions)
        chatter = await register(runtime, "chatter", ModelType.Chat)
        adder = await register(runtime, "adder", ModelType.TensorBased)
        serving = [
            asyncio.ensure_future(each)
            for each in (
                talker.serve_endpoint(text), chatter.serve_endpoint(chat), adder.serve_endpoint(tensor),
            )
        ]  # fmt: skip
        engine = await make_engine(runtime, EntrypointArgs(EngineType.Dynamic, http_host="127.0.0.1", http_port=port))
        await asyncio.gather(run_input(runtime, "grpc", engine), *serving)
    finally:
        if worker.returncode is None:
            worker.kill()


uvloop.run(work() if sys.argv[1] == "worker" else main(int(sys.argv[1])))

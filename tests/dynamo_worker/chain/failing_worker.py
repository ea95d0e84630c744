"""A worker and both frontends in one process (discovery `mem`), whose engine fails as each request says."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import msgspec

from adapter_api import Capability, InferRequest, InferResponse, ModelProps, TaskRequest, TensorSpec, TokenEvent
from adapter_api.errors import AdapterError, DeadlineExceeded
from adapter_api.testing import MockAdapter, MockSettings
from dynamo_worker import DynamoWorker, WorkerSettings
from dynamo_worker.cluster import Cluster
from dynamo_worker.following import Follower


def _all(error: type[AdapterError]) -> list[type[AdapterError]]:
    return [error, *(each for child in error.__subclasses__() for each in _all(child))]


CLASSES = {error.code: error for error in _all(AdapterError)}


def _made(code: str) -> AdapterError:
    if code == DeadlineExceeded.code:
        return DeadlineExceeded("as asked for", stage="total")
    return CLASSES[code]("as asked for")


class Failing(MockAdapter):
    """Fails with the code that a parameter, or the prompt, names."""

    async def _model_props(self, model: str) -> ModelProps:
        props = await super()._model_props(model)
        x = TensorSpec("x", "FP32", (-1,))
        kept = props.capabilities | {Capability.TENSORS, Capability.TENSOR_STREAM}
        return msgspec.structs.replace(props, inputs=(x,), outputs=(x,), capabilities=kept)

    async def _infer_stream(self, request: InferRequest) -> AsyncIterator[InferResponse]:
        raise _made(str(request.parameters["code"]))
        yield  # makes this an async generator

    async def _submit(self, task: TaskRequest) -> AsyncIterator[TokenEvent]:
        raise _made(str(task.prompt))
        yield  # makes this an async generator


def _tell(follower: Follower) -> None:
    sys.stderr.write(f"serving {follower.published}\n")


async def main(kserve: int, openai: int) -> None:
    settings = WorkerSettings(discovery="mem", interval_s=0.2)
    async with Failing(MockSettings(models=("failing",))) as adapter:
        cluster = Cluster(settings)
        frontends = [
            asyncio.ensure_future(cluster.run_frontend("grpc", host="127.0.0.1", port=kserve, metrics_port=kserve + 9)),
            asyncio.ensure_future(cluster.run_frontend("http", host="127.0.0.1", port=openai)),
        ]
        worker = DynamoWorker(adapter, cluster, settings)
        ended = asyncio.wait(frontends, return_when=asyncio.FIRST_COMPLETED)
        await worker.run(ended, on_look=_tell)


asyncio.run(main(*map(int, sys.argv[1:])))

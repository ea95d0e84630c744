"""The processes of a Dynamo cluster that benchmarks measure; each is started as `dynamo_parts.py NAME`.

They live in a network of their own (root is needed), because Dynamo's KServe frontend listens on all addresses. The
event loop is uvloop's for all, as in Dynamo's own examples and in `worker-adapter dynamo-worker`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KSERVE, OPENAI = 18201, 18202
_WORKERS = ("echo", "relay", "ours", "triton_worker")
_READY_S, _STOP_S = 90.0, 15.0
_TRITON = "BENCH_TRITON"
"""The variable that tells parts where Triton's gRPC is."""


def enter_network() -> int | None:
    """Run this program again in a network of its own; returns its exit code there, and `None` when this is there."""
    if "BENCH_PATH" in os.environ:
        return None
    sys.path.insert(0, str(ROOT / "scripts"))
    from foreign_servers import environment_of

    packages = next((environment_of("dynamo") / "lib").glob("python*/site-packages"), None)
    if packages is None:
        raise SystemExit(f"Dynamo is not there: {sys.executable} scripts/foreign_servers.py dynamo")
    env = {**os.environ, "BENCH_PATH": f"{packages}:{ROOT}"}
    shell = 'ip link set lo up && exec "$@"'
    return subprocess.call(["unshare", "--net", "sh", "-c", shell, "sh", sys.executable, *sys.argv], env=env)


@contextmanager
def cluster(*names: str, triton: Path | None = None) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start parts (`echo#2` is a second `echo`) and, with a model repository, a Triton; stop them at the end."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    core = _pinned()
    with tempfile.TemporaryDirectory() as store:
        env = {
            **os.environ, "PYTHONPATH": os.environ["BENCH_PATH"], "DYN_FILE_KV": store, "DYN_LOG": "off",
            "DYN_TCP_RPC_HOST": "127.0.0.1", "BENCH_DISCOVERY": "file",
        }  # fmt: skip
        try:
            if shutil.which("etcd") is not None:
                # `file` takes many of the few inotify instances that a user may have.
                env |= {"BENCH_DISCOVERY": "etcd", "ETCD_ENDPOINTS": "http://127.0.0.1:2379"}
                processes["etcd"] = subprocess.Popen(
                    ["etcd", "--data-dir", f"{store}/etcd"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            if triton is not None:
                env[_TRITON] = os.environ[_TRITON] = _start_triton(processes, triton)
            if "etcd" in processes:
                wait_for(lambda: socket.create_connection(("127.0.0.1", 2379), 1).close())
            for name in names:
                command = [sys.executable, __file__, name.partition("#")[0]]
                processes[name] = subprocess.Popen(command, env=env, stderr=_quiet(), stdout=subprocess.DEVNULL)
                if core is not None and name.partition("#")[0] in _WORKERS:
                    os.sched_setaffinity(processes[name].pid, core)
            yield processes
        finally:
            for process in reversed(processes.values()):
                process.terminate()
            for process in processes.values():
                try:
                    process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(_STOP_S)


def _pinned() -> set[int] | None:
    """Keep this process and what it starts off the last core, and return that: it is the workers'.

    With a core of their own workers can be compared: what a process costs depends on whom it shares a core with.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or os.environ.get("BENCH_ALL_CORES"):
        return None
    os.sched_setaffinity(0, cores[:-1])
    return set(cores[-1:])


def _quiet() -> int | None:
    return None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL


def _start_triton(processes: dict[str, subprocess.Popen[bytes]], repository: Path) -> str:
    command = [sys.executable, "-m", "worker_adapter", "triton", "--json", "--model-repository", str(repository)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=_quiet(), cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    processes["triton"] = process
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("Triton did not start: run with BENCH_VERBOSE=1")
    url: str = json.loads(line)["grpc_url"]
    return url.removeprefix("grpc://")


def triton_address() -> str:
    """Return where the gRPC of the Triton is that `cluster` started last."""
    return os.environ[_TRITON]


def wait_for(work: Callable[[], object]) -> None:
    """Do some work of a client until it succeeds, or the time is up."""
    ends = time.monotonic() + _READY_S
    while True:
        try:
            work()
            return
        except Exception:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of all threads that a process has, or had."""
    return time.clock_gettime((~pid << 3) | 2)  # the id of another process's CPU clock, see clock_getcpuclockid(3)


class Reader:
    """Reads streams of text from the OpenAI frontend, one after the other, on one connection.

    It acknowledges at once what it gets: the frontend leaves Nagle's algorithm on, and 40 ms per stream would be the
    kernel's waiting for the acknowledgement.
    """

    def __init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", OPENAI), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def complete(self, model: str, tokens: int, *, chat: bool = False) -> None:
        """Read a stream to its end, and see that it was one."""
        body: dict[str, Any] = {"model": model, "max_tokens": tokens, "stream": True}
        body |= {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "word"}
        path, payload = "/v1/chat/completions" if chat else "/v1/completions", json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}"
        self._socket.sendall(head.encode() + b"\r\n\r\n" + payload)
        text = b""
        while not text.endswith(b"0\r\n\r\n"):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            more = self._socket.recv(1 << 16)
            text += more
            assert more, text
            assert b" 200 " in text[:20], text
        assert text.count(b"word ") >= tokens, text[-300:]

    def close(self) -> None:
        self._socket.close()


# -- the parts --------------------------------------------------------------------------------------------------------


def _tensor_config(name: str) -> dict[str, Any]:
    return {"name": name, "inputs": [], "outputs": []}


async def _serve(name: str, tensors: Any, text: Any) -> None:
    """Serve one model by two handlers, in the plain way of Dynamo's examples."""
    from dynamo.llm import ModelInput, ModelType, WorkerType, register_model
    from dynamo.runtime import DistributedRuntime

    runtime = DistributedRuntime(asyncio.get_running_loop(), os.environ["BENCH_DISCOVERY"], "tcp")
    served = runtime.endpoint(f"bench.{name}.tensors"), runtime.endpoint(f"bench.{name}.text")
    serving = [
        asyncio.ensure_future(endpoint.serve_endpoint(handler, health_check_payload={"health": True}))
        for endpoint, handler in zip(served, (tensors, text), strict=True)
    ]
    kind = WorkerType.Aggregated
    await register_model(ModelInput.Tensor, ModelType.TensorBased, served[0], name, name, worker_type=kind,
                         tensor_model_config=_tensor_config(name))  # fmt: skip
    await register_model(ModelInput.Text, ModelType.Chat | ModelType.Completions, served[1], name, name,
                         worker_type=kind, skip_model_assets=True)  # fmt: skip
    await asyncio.gather(*serving)


def _chunk(request: Any, text: str, reason: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
    chat = "messages" in request
    choice |= {"delta": {"content": text}} if chat else {"text": text}
    return {
        "id": "1", "object": "chat.completion.chunk" if chat else "text_completion", "created": 1,
        "model": request["model"], "choices": [choice],
    }  # fmt: skip


async def echo() -> None:
    """A minimal worker of Dynamo's own kind: tensors come back, and a text is so many words. No engine, no cancel."""

    async def tensors(request: Any, context: Any) -> Any:
        yield {"id": request["id"], "model": "echo", "tensors": request["tensors"]}

    async def text(request: Any, context: Any) -> Any:
        last = request["max_tokens"] - 1
        for index in range(last + 1):
            yield _chunk(request, "word ", "stop" if index == last else None)

    await _serve("echo", tensors, text)


async def relay() -> None:
    """A minimal worker that asks Triton by `tritonclient.grpc.aio`, as one writes it by hand. It takes no cancel."""
    import numpy as np
    import tritonclient.grpc.aio as grpcclient

    told = grpcclient.InferenceServerClient(os.environ[_TRITON])

    async def tensors(request: Any, context: Any) -> Any:
        inputs = []
        for tensor in request["tensors"]:
            metadata, values = tensor["metadata"], tensor["data"]["values"]
            inputs.append(grpcclient.InferInput(metadata["name"], metadata["shape"], "FP32"))
            inputs[-1].set_data_from_numpy(np.array(values, "f4").reshape(metadata["shape"]))
        answer = await told.infer("tensors", inputs, request_id=request["id"] or "")
        outputs = []
        for output in answer.get_response().outputs:
            array = answer.as_numpy(output.name)
            outputs.append({
                "metadata": {"name": output.name, "data_type": "Float32", "shape": list(array.shape)},
                "data": {"data_type": "Float32", "values": array.ravel().tolist()},
            })  # fmt: skip
        yield {"id": request["id"], "model": "relay", "tensors": outputs}

    async def text(request: Any, context: Any) -> Any:
        given = grpcclient.InferInput("text_input", [1], "BYTES")
        given.set_data_from_numpy(np.array([b"word"], dtype=object))

        async def asked() -> AsyncIterator[Any]:
            yield {"model_name": "slow", "inputs": [given], "parameters": {"max_tokens": request["max_tokens"]},
                   "enable_empty_final_response": True}  # fmt: skip

        async for result, error in told.stream_infer(asked()):
            if error is not None:
                raise error
            response = result.get_response()
            ended = response.parameters["triton_final_response"].bool_param
            words = result.as_numpy("text_output")
            yield _chunk(request, words[0].decode() if words is not None else "", "stop" if ended else None)

    await _serve("relay", tensors, text)


async def ours() -> None:
    """Our worker, with an engine in its own process that waits for nothing."""
    from instant import Instant

    from dynamo_worker import DynamoWorker, WorkerSettings
    from dynamo_worker.cluster import Cluster

    settings = WorkerSettings(discovery=os.environ["BENCH_DISCOVERY"], namespace="bench", component="ours")
    async with Instant() as adapter:
        await DynamoWorker(adapter, Cluster(settings), settings).run(asyncio.get_running_loop().create_future())


async def triton_worker() -> None:
    """Our worker before Triton, whose models keep their names."""
    from dynamo_worker import DynamoWorker, WorkerSettings
    from dynamo_worker.cluster import Cluster
    from triton_adapter import TritonAdapter, TritonSettings

    settings = WorkerSettings(discovery=os.environ["BENCH_DISCOVERY"], namespace="bench", component="triton")
    async with TritonAdapter(TritonSettings(url=f"grpc://{os.environ[_TRITON]}")) as adapter:
        await DynamoWorker(adapter, Cluster(settings), settings).run(asyncio.get_running_loop().create_future())


async def frontends() -> None:
    """Both of Dynamo's frontends, in one process."""
    from dynamo_worker import WorkerSettings
    from dynamo_worker.cluster import Cluster

    cluster = Cluster(WorkerSettings(discovery=os.environ["BENCH_DISCOVERY"], namespace="bench"))
    await asyncio.gather(
        cluster.run_frontend("grpc", host="127.0.0.1", port=KSERVE, metrics_port=KSERVE + 8),
        cluster.run_frontend("http", host="127.0.0.1", port=OPENAI),
    )


if __name__ == "__main__":
    import uvloop

    uvloop.run(globals()[sys.argv[1]]())

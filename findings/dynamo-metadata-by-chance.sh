#!/usr/bin/env bash
# NVIDIA Dynamo's runtime 1.6.1 (pip: ai-dynamo-runtime): the metadata of a model with two registrations is by chance.
#
# Set-up    One process with discovery "mem" and Dynamo's KServe frontend. A worker registers twelve models, each twice
#           under its one name: for tensors (input "x", FP32) and for completions, so that KServe clients get its tensors
#           and OpenAI clients its text. NVIDIA's client (pip: tritonclient 2.73.0) asks for metadata and infers by "x".
#           The frontend listens on all addresses, so all runs in a network namespace.
# Expected  A model's metadata names "x", the input that its inferences take. Or always the same of the two.
# Seen      All twelve inferences by "x" succeed, yet of some models the metadata names "text_input" and "streaming",
#           which those inferences do not have. Which ones they are differs from one run to the next. When the
#           registration for completions has the tensors' configuration and type as well, all twelve name "x".
# Output    reproduced: 12 of 12 infer by x, metadata names x for 2 of 12 and text_input for the others; mended 12 of 12
# Seen on   2026-11-28, Python 3.11, Linux x86-64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq ai-dynamo-runtime==1.6.1 'tritonclient[grpc]==2.73.0' protobuf==6.33.6 >&2
cat >cluster.py <<'PYTHON'
import asyncio
import json
import sys
import time

import numpy
from dynamo.llm import (
    EngineType, EntrypointArgs, ModelInput, ModelType, WorkerType, make_engine, register_model, run_input,
)
from dynamo.runtime import DistributedRuntime
from tritonclient.grpc import InferenceServerClient, InferenceServerException, InferInput

MODELS = [f"model-{number}" for number in range(12)]
TENSOR = [{"name": "x", "data_type": "Float32", "shape": [2], "parameters": {}}]


async def echo(request, context=None):
    yield {"model": request["model"], "tensors": request["tensors"]}


async def text(request, context=None):
    choice = {"text": "hi", "index": 0, "finish_reason": "stop", "logprobs": None}
    yield {"id": "1", "object": "text_completion", "created": 1, "model": request["model"], "choices": [choice]}


async def main(mended):
    runtime = DistributedRuntime(asyncio.get_running_loop(), "mem", "tcp")
    arguments = EntrypointArgs(EngineType.Dynamic, http_host="127.0.0.1", http_port=8000, http_metrics_port=8001)
    running = [asyncio.ensure_future(run_input(runtime, "grpc", await make_engine(runtime, arguments)))]
    for model in MODELS:
        config = {"tensor_model_config": {"name": model, "inputs": TENSOR, "outputs": TENSOR}}
        endpoint = runtime.endpoint(f"findings.worker.{model}-tensor")
        running.append(asyncio.ensure_future(endpoint.serve_endpoint(echo)))
        await register_model(ModelInput.Tensor, ModelType.TensorBased, endpoint, model, model,
                             worker_type=WorkerType.Aggregated, **config)
        endpoint = runtime.endpoint(f"findings.worker.{model}-text")
        running.append(asyncio.ensure_future(endpoint.serve_endpoint(text)))
        kind = ModelType.Completions | ModelType.TensorBased if mended else ModelType.Completions
        await register_model(ModelInput.Text, kind, endpoint, model, model, worker_type=WorkerType.Aggregated,
                             skip_model_assets=True, **(config if mended else {}))
    print(json.dumps(await asyncio.to_thread(ask)), flush=True)


def ask():
    client = InferenceServerClient("127.0.0.1:8000")
    tensor = InferInput("x", [2], "FP32")
    tensor.set_data_from_numpy(numpy.ones(2, "f4"))
    infer, named = 0, []
    for model in MODELS:
        infer += again(lambda: client.infer(model, [tensor], client_timeout=20).as_numpy("x").tolist()) == [1.0, 1.0]
    time.sleep(1)  # The registrations for completions, which KServe clients cannot ask for, arrive a moment later.
    for model in MODELS:
        named.append([spec.name for spec in client.get_model_metadata(model, client_timeout=20).inputs])
    return [infer, named]


def again(call):
    for _ in range(100):
        try:
            return call()
        except InferenceServerException as error:
            last = error
            time.sleep(0.1)
    raise last


asyncio.run(asyncio.wait_for(main(sys.argv[1] == "mended"), 60))
PYTHON
cat >probe.py <<'PYTHON'
import json
import os
import subprocess
import sys


def main():
    infer, named = run("plain")
    mended_infer, mended = run("mended")
    own, texts = named.count(["x"]), named.count(["text_input", "streaming"])
    same = infer == mended_infer == len(named) == own + texts == mended.count(["x"]) and texts > 0
    print(f"{'reproduced' if same else 'not reproduced'}: {infer} of {len(named)} infer by x, metadata names x for {own} "
          f"of {len(named)} and text_input for the others; mended {mended.count(['x'])} of {len(mended)}")
    return 0 if same else 1


def run(how):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DYN_")}
    ran = subprocess.run(
        [sys.executable, "cluster.py", how], env=inherited | {"DYN_TCP_RPC_HOST": "127.0.0.1"},
        capture_output=True, text=True, timeout=90,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("[1") and line.endswith("]]]")]
    if not lines:
        sys.exit("not reproduced: the cluster said\n" + (ran.stdout + ran.stderr)[-2000:])
    return json.loads(lines[0])


sys.exit(main())
PYTHON
timeout 240 unshare --user --map-root-user --net sh -c 'ip link set lo up && exec venv/bin/python probe.py'

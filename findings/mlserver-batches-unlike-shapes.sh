#!/usr/bin/env bash
# MLServer 1.7.1 (pip: mlserver): adaptive batching puts requests of different shapes into one tensor, and both fail.
#
# Set-up    A model whose one input and output are declared with shape [-1, -1]: any number of rows of any length. It
#           doubles what it gets. max_batch_size is 2. Two clients send one row each: [[1, 2]] and [[3, 4, 5]].
# Expected  A batcher joins what fits together, here rows of equal length, and runs the rest alone (as Triton's does):
#           whether another client is there at the same time changes no answer.
# Seen      One after the other each is answered. At the same time both get 500: the values are put one after another
#           under the shape of the request that came first, so neither row can be read any more.
# Output    reproduced: alone [200, 200], together [500, 500]
#           "ValueError: cannot reshape array of size 5 into shape (2,2)"
#           (on one line; the shape is (2,3) when the longer row came first)
# Seen on   2026-11-28, Python 3.11, Linux x86-64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq mlserver==1.7.1 grpcio==1.85.3 protobuf==6.33.6 numpy==2.4.6 >&2
cat >doubling.py <<'PYTHON'
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Doubling(MLModel):
    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("doubled", rows * 2)])
PYTHON
timeout 150 venv/bin/python - <<'PYTHON'
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROWS = [1, 2], [3, 4, 5]


def main():
    ports = free_ports(3)
    settings = {"host": "127.0.0.1", "parallel_workers": 0}
    settings |= dict(zip(("http_port", "grpc_port", "metrics_port"), ports))
    Path("settings.json").write_text(json.dumps(settings))
    tensor = {"datatype": "INT64", "shape": [-1, -1]}
    model = {
        "name": "doubling", "implementation": "doubling.Doubling", "max_batch_size": 2, "max_batch_time": 1.0,
        "inputs": [{"name": "rows", **tensor}], "outputs": [{"name": "doubled", **tensor}],
    }
    Path("model-settings.json").write_text(json.dumps(model))
    with open("log", "w") as log:
        server = subprocess.Popen(
            [str(Path("venv/bin/mlserver").absolute()), "start", "."],
            env=os.environ | {"PYTHONPATH": str(Path.cwd())}, stdout=log, stderr=log,
        )
    try:
        base = f"http://127.0.0.1:{ports[0]}/v2"
        wait_until_ready(f"{base}/health/ready", server)
        url = f"{base}/models/doubling/infer"
        alone = [send(url, row) for row in ROWS]
        with ThreadPoolExecutor(2) as clients:
            together = list(clients.map(lambda row: send(url, row), ROWS))
    finally:
        stop(server)
    same = (
        alone == [(200, [2, 4]), (200, [6, 8, 10])]
        and [status for status, _ in together] == [500, 500]
        and all("cannot reshape array of size 5" in str(said) for _, said in together)
    )
    if same:
        print(f'reproduced: alone [200, 200], together [500, 500] "{together[0][1]}"')
    else:
        print(f"not reproduced: alone {alone}, together {together}")
    return 0 if same else 1


def send(url, row):
    """Return the status and the doubled row, or the last line of what the error says (a traceback)."""
    tensor = {"name": "rows", "shape": [1, len(row)], "datatype": "INT64", "data": row}
    request = urllib.request.Request(
        url, json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)["outputs"][0]["data"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip().splitlines()[-1]


def wait_until_ready(url, server):
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("not reproduced: the server did not get ready\n" + Path("log").read_text()[-2000:])


def stop(server):
    server.terminate()
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


sys.exit(main())
PYTHON

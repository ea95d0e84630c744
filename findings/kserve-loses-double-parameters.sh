#!/usr/bin/env bash
# KServe's Python server 0.21.0 (pip: kserve): request parameters of type double reach the model without a value.
#
# Set-up    A model behind kserve.ModelServer that answers with the request parameters it was given. NVIDIA's client
#           (pip: tritonclient 2.73.0) calls it over v2 gRPC with parameters n=2, name="x", temperature=0.5, as a
#           language model's client would. KServe listens on all addresses, so all runs in a network namespace.
# Expected  The model sees the three values: the Open Inference Protocol's InferParameter has a double_param (field 4)
#           and a uint64_param (5). Or, if the server cannot read one, an error that says so.
# Seen      The call is OK; "n" and "name" are there, "temperature" is a key with an InferParameter in which no field
#           is set. The server's own protobuf module stops at field 3, so the double is read as an unknown field.
# Output    reproduced: sent temperature=0.5, the model sees {n: int64_param, name: string_param, temperature: None}
# Seen on   2026-11-28, Python 3.11, Linux x86-64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq kserve==0.21.0 'tritonclient[grpc]==2.73.0' grpcio==1.85.3 \
    protobuf==6.33.6 numpy==2.4.6 >&2
cat >server.py <<'PYTHON'
import sys

import numpy
from kserve import InferOutput, InferResponse, Model, ModelServer


class Telling(Model):
    def __init__(self):
        super().__init__("telling")
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        kinds = sorted((key, str(value.WhichOneof("parameter_choice"))) for key, value in payload.parameters.items())
        output = InferOutput("seen", [1], "BYTES")
        output.set_data_from_numpy(numpy.array([repr(kinds).encode()], dtype=object), binary_data=True)
        return InferResponse(payload.id, self.name, [output])


http, grpc = map(int, sys.argv[1:])
ModelServer(http_port=http, grpc_port=grpc, grace_period=1).start([Telling()])
PYTHON
cat >probe.py <<'PYTHON'
import ast
import subprocess
import sys
import time

import numpy
from tritonclient.grpc import InferenceServerClient, InferenceServerException, InferInput

HTTP, GRPC = 8080, 8081  # Free: this network namespace is the probe's own.


def main():
    with open("log", "w") as log:
        server = subprocess.Popen([sys.executable, "server.py", str(HTTP), str(GRPC)], stdout=log, stderr=log)
    try:
        client = InferenceServerClient(f"127.0.0.1:{GRPC}")
        wait_until_ready(client, server)
        tensor = InferInput("x", [1], "INT32")
        tensor.set_data_from_numpy(numpy.array([1], dtype=numpy.int32))
        sent = {"n": 2, "name": "x", "temperature": 0.5}
        answer = client.infer("telling", [tensor], parameters=sent, client_timeout=20).as_numpy("seen")
        client.close()
    finally:
        stop(server)
    seen = dict(ast.literal_eval(answer[0].decode()))
    same = seen == {"n": "int64_param", "name": "string_param", "temperature": "None"}
    told = ", ".join(f"{key}: {kind}" for key, kind in seen.items())
    print(f"{'reproduced' if same else 'not reproduced'}: sent temperature=0.5, the model sees {{{told}}}")
    return 0 if same else 1


def wait_until_ready(client, server):
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            if client.is_server_ready(client_timeout=2):
                return
        except InferenceServerException:
            pass
        time.sleep(0.2)
    sys.exit("not reproduced: the server did not get ready\n" + open("log").read()[-2000:])


def stop(server):
    server.terminate()
    try:
        server.wait(15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


sys.exit(main())
PYTHON
timeout 150 unshare --user --map-root-user --net sh -c 'ip link set lo up && exec venv/bin/python probe.py'

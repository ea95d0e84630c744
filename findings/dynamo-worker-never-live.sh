#!/usr/bin/env bash
# NVIDIA Dynamo's runtime 1.6.1 (pip: ai-dynamo-runtime): a worker that answers requests stays 503 on /health and /live.
#
# Set-up    One process with discovery "mem": a worker serves one endpoint with serve_endpoint(handler), a client calls
#           it once a second for ten seconds. DYN_SYSTEM_PORT switches the worker's status server on. The runtime binds
#           a port to the machine's own address, so all runs in a network namespace that has loopback only.
# Expected  200 on /live, since the process lives; 200 on /health, since its only endpoint serves.
# Seen      Every call is answered, and the status body itself says that the endpoint is ready; yet both paths answer
#           503 "notready" each time, so an orchestrator that probes /live restarts a worker that is well. With a
#           health_check_payload given to serve_endpoint (health checks themselves left off) both are 200 at once.
# Output    reproduced: 10 of 10 calls answered, /health [503] /live [503], endpoint "ready"; with a payload [200] [200]
# Seen on   2026-11-28, Python 3.11, Linux x86-64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq ai-dynamo-runtime==1.6.1 >&2
cat >worker.py <<'PYTHON'
import asyncio
import json
import os
import sys
import urllib.error
import urllib.request

from dynamo.runtime import DistributedRuntime


async def handler(request, context=None):
    yield request


async def main(options):
    runtime = DistributedRuntime(asyncio.get_running_loop(), "mem", "tcp")
    endpoint = runtime.endpoint("findings.worker.echo")
    serving = asyncio.ensure_future(endpoint.serve_endpoint(handler, **options))
    client = await endpoint.client()
    await asyncio.wait_for(client.wait_for_instances(), 20)
    answered, seen = 0, []
    for count in range(10):
        replies = [reply.data() async for reply in await client.generate(count)]
        answered += replies == [count]
        seen.append([await asyncio.to_thread(status, path) for path in ("/health", "/live")])
        await asyncio.sleep(1)
    print(json.dumps([answered, seen]), flush=True)
    runtime.shutdown()
    await asyncio.wait_for(serving, 20)


def status(path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{os.environ['DYN_SYSTEM_PORT']}{path}", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


asyncio.run(main(json.loads(sys.argv[1])))
PYTHON
cat >probe.py <<'PYTHON'
import json
import os
import subprocess
import sys


def main():
    answered, plain = run({})
    _, with_payload = run({"health_check_payload": {"ping": 1}})
    health, live, payload_health, payload_live = (
        sorted({each[path][0] for each in seen}) for seen in (plain, with_payload) for path in (0, 1)
    )
    endpoint = sorted({each[0][1].get("endpoints", {}).get("echo", "absent") for each in plain})
    without = [answered, health, live, endpoint] == [10, [503], [503], ["ready"]]
    same = without and payload_health == payload_live == [200]
    print(f"{'reproduced' if same else 'not reproduced'}: {answered} of 10 calls answered, /health {health} "
          f'/live {live}, endpoint "{" ".join(endpoint)}"; with a payload {payload_health} {payload_live}')
    return 0 if same else 1


def run(options):
    loopback = {"DYN_SYSTEM_HOST": "127.0.0.1", "DYN_SYSTEM_PORT": "20000", "DYN_TCP_RPC_HOST": "127.0.0.1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DYN_")}
    ran = subprocess.run(
        [sys.executable, "worker.py", json.dumps(options)],
        env=inherited | loopback | {"DYN_LOG": "off"}, capture_output=True, text=True, timeout=60,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("[")]
    if not lines:
        sys.exit("not reproduced: the worker said\n" + (ran.stdout + ran.stderr)[-2000:])
    return json.loads(lines[0])


sys.exit(main())
PYTHON
timeout 150 unshare --user --map-root-user --net sh -c 'ip link set lo up && exec venv/bin/python probe.py'

#!/usr/bin/env bash
# NVIDIA Dynamo's runtime 1.6.1 (pip: ai-dynamo-runtime): with file discovery a paused worker is forgotten for good.
#
# Set-up    Two processes that share a folder for discovery "file": a worker with one endpoint, and a client. The worker
#           is stopped by SIGSTOP, as a suspended machine or a debugger stops it, until the client knows of no instance,
#           and continued by SIGCONT. The runtime binds a port to the machine's own address, so all runs in a network
#           namespace that has loopback only.
# Expected  The worker, which lives and has lost nothing, is known again after a heartbeat or two; or it ends, so that a
#           supervisor starts it anew.
# Seen      It is forgotten after some ten seconds of pause. Half a minute after it goes on nobody knows of it, while its
#           process runs its event loop, and its serve_endpoint has neither returned nor raised.
# Output    reproduced: forgotten after 12 s of pause; 30 s after it goes on: 0 instances, process alive, still serving
# Seen on   2026-11-28, Python 3.11, Linux x86-64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq ai-dynamo-runtime==1.6.1 >&2
cat >worker.py <<'PYTHON'
import asyncio

from dynamo.runtime import DistributedRuntime


async def handler(request, context=None):
    yield request


async def main():
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    serving = asyncio.ensure_future(runtime.endpoint("findings.worker.echo").serve_endpoint(handler))
    while True:
        await asyncio.sleep(0.5)
        with open("state", "w") as state:
            state.write("ended" if serving.done() else "serving")


asyncio.run(main())
PYTHON
cat >probe.py <<'PYTHON'
import asyncio
import os
import signal
import subprocess
import sys
import time

from dynamo.runtime import DistributedRuntime

AFTER_S = 30


async def main():
    with open("log", "w") as log:
        worker = subprocess.Popen([sys.executable, "worker.py"], stdout=log, stderr=log)
    try:
        return await watch(worker)
    finally:
        worker.kill()
        worker.wait()


async def watch(worker):
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    client = await runtime.endpoint("findings.worker.echo").client()
    await asyncio.wait_for(client.wait_for_instances(), 30)
    answered = [reply.data() async for reply in await client.generate("hello")]
    while not os.path.exists("state"):
        await asyncio.sleep(0.1)
    worker.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    while client.instance_ids() and time.monotonic() - began < 60:
        await asyncio.sleep(0.1)
    paused = time.monotonic() - began
    os.remove("state")
    worker.send_signal(signal.SIGCONT)
    seen = 0
    for _ in range(AFTER_S * 10):
        await asyncio.sleep(0.1)
        seen = max(seen, len(client.instance_ids()))
    alive = worker.poll() is None
    with open("state") as state:
        serving = state.read()
    same = answered == ["hello"] and paused < 60 and seen == 0 and alive and serving == "serving"
    serving = "ended" if serving == "ended" else "still serving"
    with open("verdict", "w") as verdict:  # The runtime writes to standard output, too.
        print(f"{'reproduced' if same else 'not reproduced'}: forgotten after {paused:.0f} s of pause; {AFTER_S} s after "
              f"it goes on: {seen} instances, process {'alive' if alive else 'ended'}, {serving}", file=verdict)
    runtime.shutdown()
    return 0 if same else 1


for name in [name for name in os.environ if name.startswith("DYN_")]:
    del os.environ[name]
os.environ |= {"DYN_TCP_RPC_HOST": "127.0.0.1", "DYN_FILE_KV": os.path.abspath("store"), "DYN_LOG": "error"}
sys.exit(asyncio.run(main()))
PYTHON
status=0
timeout 240 unshare --user --map-root-user --net \
    sh -c 'ip link set lo up && exec venv/bin/python probe.py' >runtime.log 2>&1 || status=$?
cat verdict 2>/dev/null || { echo "not reproduced: the client said"; tail -20 runtime.log; }
exit "$status"

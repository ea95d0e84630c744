#!/usr/bin/env bash
# Triton 2.51.0 (pip: nvidia-pytriton 0.7.0), HTTP: a GET whose path arrives in two TCP segments never gets its answer.
#
# Set-up    The server of the wheel with an empty repository, on loopback. A client writes one and the same request for
#           /v2/health/live, whole, or in two pieces with 50 ms between them: cut within the method, the path, the
#           version, after the request line, within a header. Ten times each, each on a connection of its own.
# Expected  200 each time: TCP is a stream of bytes, and where it is cut means nothing to HTTP.
# Seen      Cut within the path, 404 or a connection that is closed without an answer, and never 200; cut anywhere else,
#           200 each time. A request that the network cuts there, or that a client or a proxy writes in pieces, meets
#           "not found" for what is there.
# Output    reproduced: cut in nowhere ['200'], method ['200'], path ['404', 'closed'], version ['200'], request line
#           ['200'], header ['200']
# Seen on   2026-11-28, Python 3.11, Linux x86-64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq --no-deps nvidia-pytriton==0.7.0 >&2
cat >probe.py <<'PYTHON'
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

REQUEST = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
CUTS = {"nowhere": 0, "method": 2, "path": 12, "version": 26, "request line": 30, "header": 40}


def main():
    wheel = next(Path("venv/lib").glob("python3*/site-packages"))
    server = wheel / "pytriton/tritonserver"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    Path("models").mkdir()
    libraries = [str(path) for path in wheel.glob("*.libs")] + [str(server / "external_libs"), str(server / "lib")]
    process = subprocess.Popen(
        [str(server / "bin/tritonserver"), "--model-repository=models", "--model-control-mode=explicit",
         f"--http-port={port}", "--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false",
         f"--backend-directory={server / 'backends'}", f"--cache-directory={server / 'caches'}"],
        env=os.environ | {"LD_LIBRARY_PATH": ":".join(libraries)}, stdout=open("server.log", "wb"), stderr=subprocess.STDOUT,
    )
    try:
        wait(port, process)
        seen = {name: sorted({ask(port, cut) for _ in range(10)}) for name, cut in CUTS.items()}
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    same = all("200" not in said if name == "path" else said == ["200"] for name, said in seen.items())
    print(f"{'reproduced' if same else 'not reproduced'}: cut in {', '.join(f'{k} {v}' for k, v in seen.items())}")
    return 0 if same else 1


def wait(port, process):
    ends = time.monotonic() + 60
    while True:
        try:
            if ask(port, 0) == "200":
                return
        except OSError:
            pass
        if process.poll() is not None or time.monotonic() > ends:
            sys.exit(f"the server does not serve: {Path('server.log').read_text()[-2000:]}")
        time.sleep(0.1)


def ask(port, cut):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if cut:
            connection.sendall(REQUEST[:cut])
            time.sleep(0.05)
        connection.sendall(REQUEST[cut:])
        said = connection.recv(4096).split(b" ", 2)
        return said[1].decode() if len(said) > 1 else "closed"


sys.exit(main())
PYTHON
venv/bin/python probe.py

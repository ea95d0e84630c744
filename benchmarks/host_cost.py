"""What a request and a token cost the process that serves: CPU of the host, beside other gateways over the same engine.

    python benchmarks/host_cost.py --host .                       # this checkout
    python benchmarks/host_cost.py --host . --host ../before      # two checkouts, taking turns
    python benchmarks/host_cost.py --host . --smg ~/smg/bin/smg --litellm ~/litellm/bin/litellm

request: 64 clients, each of which sends one request of 2 tokens after another; CPU per request.
token: 64 streams of 100 tokens, each token in a write of the engine's own, as fast as they come; CPU per token, with
    its part of the request.
paced: 16 streams that get a token every 20 ms; CPU per token, and how long after they were made tokens are read, p50
    and p99, also straight from the engine.
memory: resident memory per stream, of 1,000 that are open and wait; at the first face only, since a process gives
    little memory back.

The engine is `openai_cannon.py`, which all of them can stand before. Every gateway is a process of its own, of which
all threads count; they take turns, and the middle of the rounds is shown with its range.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, perf_counter, sleep

HERE = Path(__file__).parent
PACE_S = 0.02
START_S = 90.0
READ_S = 60.0
PEERS = ("SMG", "LiteLLM")
CHAT, TASKS = "/v1/chat/completions", "/v2/tasks"
_TOKEN = re.compile(rb"tok\d")
_STAMP = re.compile(rb"tok\d+ ([\d.]+) ")


class Gateway:
    """A process that serves, and where."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = name
        self.process = process
        self.port = port

    def cpu_s(self) -> float:
        """Seconds of CPU that all its threads have had."""
        spent = 0
        for schedstat in Path(f"/proc/{self.process.pid}/task").glob("*/schedstat"):
            try:
                spent += int(schedstat.read_text().split()[0])
            except OSError:  # a thread that has just ended
                continue
        return spent / 1e9

    def resident_kb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024


# -- the processes ----------------------------------------------------------------------------------------------------


@contextmanager
def engine() -> Iterator[str]:
    command = [sys.executable, str(HERE / "openai_cannon.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


@contextmanager
def started(name: str, command: list[str], port: int, **options: object) -> Iterator[Gateway]:
    """Run a gateway that listens on `port`, and wait until it answers."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)  # type: ignore[call-overload]
        try:
            until = monotonic() + START_S
            while not _answers(port):
                if process.poll() is not None or monotonic() > until:
                    log.seek(0)
                    raise SystemExit(f"{name} does not serve: {log.read()[-2000:].decode(errors='replace')}")
                sleep(0.2)
            yield Gateway(name, process, port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(port: int) -> bool:
    body = json.dumps({"model": "cannon", "messages": [{"role": "user", "content": "cannon 1 1 0"}]}).encode()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{CHAT}", json.dumps({**json.loads(body), "stream": True}).encode(),
        {"content-type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return b"[DONE]" in answer.read()
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def our_host(checkout: str, engine_url: str, *, log_level: str) -> Iterator[Gateway]:
    """The host of a checkout, in this Python's environment."""
    name, _, path = checkout.rpartition("=")
    root, port = Path(path).resolve(), _free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "host.toml")
        settings.write_text(
            f'[server]\nport = {port}\nshutdown_grace_s = 0.5\n[log]\nlevel = "{log_level}"\n'
            f'[[pools]]\nid = "p"\nadapter = "openai"\n[[pools.replicas]]\nid = "r0"\nslots = 10000\n'
            # A busy machine is no sick engine.
            f'url = "{engine_url}"\n[pools.replicas.options]\nconnect_timeout_s = 60\nfirst_token_timeout_s = 60\n'
            "control_timeout_s = 60\n[pools.health]\ntimeout_s = 60\n"
        )
        command = [sys.executable, "-m", "worker_adapter", "serve", "--config", str(settings)]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        with started(name or root.name, command, port, env=environment, cwd=folder) as gateway:
            yield gateway


@contextmanager
def smg(program: str, engine_url: str) -> Iterator[Gateway]:
    port, metrics = _free_port(), _free_port()
    command = [
        program, "launch", "--host", "127.0.0.1", "--port", str(port), "--worker-urls", engine_url,
        "--prometheus-port", str(metrics), "--max-concurrent-requests", "20000",
    ]  # fmt: skip
    with started("SMG", command, port) as gateway:
        yield gateway


@contextmanager
def litellm(program: str, engine_url: str) -> Iterator[Gateway]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "litellm.yaml")
        settings.write_text(
            "model_list:\n  - model_name: cannon\n    litellm_params:\n      model: openai/cannon\n"
            f"      api_base: {engine_url}/v1\n      api_key: none\n"
        )
        command = [program, "--config", str(settings), "--host", "127.0.0.1", "--port", str(port)]
        with started("LiteLLM", command, port, cwd=folder) as gateway:
            yield gateway


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


# -- the clients ------------------------------------------------------------------------------------------------------


def request_of(path: str, count: int, burst: int, pause_ms: int, how: str = "") -> bytes:
    order = f"cannon {count} {burst} {pause_ms}{how}"
    fields: dict[str, object] = {
        "model": "cannon", "messages": [{"role": "user", "content": order}], "max_tokens": count,
    }  # fmt: skip
    if path == CHAT:
        fields["stream"] = True
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def answered(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], asked: bytes, on_data: Callable[[bytes], None]
) -> None:
    """Send one request and read its whole answer, in chunks."""
    reader, writer = connection
    writer.write(asked)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), READ_S)
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"refused: {head.decode(errors='replace')}{(await reader.read(2000)).decode()}")
    last = b""
    while not last.endswith(b"0\r\n\r\n"):
        data = await reader.read(1 << 18)
        if not data:
            raise SystemExit("the answer broke off")
        on_data(data)
        last = (last + data)[-16:]


async def load(port: int, path: str, streams: int, each: int, count: int, burst: int) -> None:
    """Have `streams` connections ask `each` times for `count` tokens, and see that all of them come."""
    asked, text = request_of(path, count, burst, 0), f"tok{count - 1} ".encode()

    async def one() -> None:
        connection = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(each):
            pieces: list[bytes] = []
            await answered(connection, asked, pieces.append)
            answer = b"".join(pieces)
            if text not in answer or len(_TOKEN.findall(answer)) != count:
                raise SystemExit(f"{count} tokens were asked for and these came: {answer[:2000]!r}")
        connection[1].close()

    await asyncio.gather(*(one() for _ in range(streams)))


async def lateness(port: int, path: str, streams: int, count: int) -> list[float]:
    """Return the seconds from the making of each token to its being read, in order."""
    asked = request_of(path, count, 1, int(PACE_S * 1e3), " stamped")
    late: list[float] = []

    async def one() -> None:
        connection = await asyncio.open_connection("127.0.0.1", port)

        def on_data(data: bytes) -> None:
            now = perf_counter()
            late.extend(now - float(made) for made in _STAMP.findall(data))

        await answered(connection, asked, on_data)
        connection[1].close()

    await asyncio.gather(*(one() for _ in range(streams)))
    if len(late) != streams * count:
        raise SystemExit(f"{streams * count} tokens were to come, and {len(late)} came whole")
    return sorted(late)


async def hold(gateway: Gateway, path: str, streams: int) -> float:
    """Return the KB that each of so many streams takes that have had a token and wait."""
    asked = request_of(path, 1, 1, 120_000)
    held: list[asyncio.StreamWriter] = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        held.append(writer)
        writer.write(asked)
        await asyncio.wait_for(reader.readuntil(b"tok0"), READ_S)

    async def some(number: int) -> float:
        for _ in range(number // 50):
            await asyncio.gather(*(one() for _ in range(50)))
        await asyncio.sleep(0.3)
        return gateway.resident_kb()

    before = await some(100)
    taken = (await some(streams) - before) / streams
    for writer in held:
        writer.close()
    await asyncio.sleep(1)
    return taken


# -- tables -----------------------------------------------------------------------------------------------------------


def cpu_of(gateway: Gateway, path: str, each: int, count: int) -> float:
    """Return the microseconds of CPU per request."""
    before = gateway.cpu_s()
    asyncio.run(load(gateway.port, path, 64, each, count, 1))
    return (gateway.cpu_s() - before) / (64 * each) * 1e6


def paced(gateway: Gateway, path: str) -> dict[str, float]:
    before = gateway.cpu_s()
    late = asyncio.run(lateness(gateway.port, path, 16, 50))
    return {
        "us per token, paced": (gateway.cpu_s() - before) / len(late) * 1e6,
        "late p50 ms": late[len(late) // 2] * 1e3,
        "late p99 ms": late[len(late) * 99 // 100] * 1e3,
    }


def measure(
    gateways: list[Gateway], paths: list[str], rounds: int, scale: float, rows: list[str], engine_port: int
) -> dict[str, object]:
    found: dict[tuple[str, str, str], list[float]] = {}
    for number in range(rounds + 1):  # the first warms up
        if "paced" in rows and number:
            late = asyncio.run(lateness(engine_port, CHAT, 16, 50))
            for row, at in (("late p50 ms", 50), ("late p99 ms", 99)):
                found.setdefault((row, CHAT, "straight"), []).append(late[len(late) * at // 100] * 1e3)
        for gateway in gateways:
            for path in paths:
                if path == TASKS and gateway.name in PEERS:
                    continue
                slow = 0.1 if gateway.name == "LiteLLM" else 1.0
                figures: dict[str, float] = {}
                if "request" in rows:
                    figures["us per request of 2"] = cpu_of(gateway, path, max(1, round(30 * scale * slow)), 2)
                if "token" in rows:
                    figures["us per token of 100"] = cpu_of(gateway, path, max(1, round(4 * scale * slow)), 100) / 100
                if "paced" in rows:
                    figures |= paced(gateway, path)
                for row, value in figures.items() if number else ():
                    found.setdefault((row, path, gateway.name), []).append(value)
    if "memory" in rows:
        for gateway in gateways:
            path = CHAT if gateway.name in PEERS else paths[0]
            found["KB per open stream", path, gateway.name] = [asyncio.run(hold(gateway, path, 1000))]
    return {
        " | ".join(key): {"middle": statistics.median(values), "least": min(values), "most": max(values)}
        for key, values in sorted(found.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", action="append", default=[], metavar="[NAME=]CHECKOUT", help="a checkout of ours")
    parser.add_argument("--smg", metavar="PROGRAM")
    parser.add_argument("--litellm", metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="how much is asked in a round")
    parser.add_argument("--face", choices=("chat", "tasks", "both"), default="both")
    parser.add_argument("--only", action="append", choices=("request", "token", "paced", "memory"))
    parser.add_argument("--log-level", default="info", help="of our hosts")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8000)), hard))
    paths = {"chat": [CHAT], "tasks": [TASKS], "both": [CHAT, TASKS]}[arguments.face]
    with ExitStack() as stack:
        url = stack.enter_context(engine())
        gateways = [
            stack.enter_context(our_host(each, url, log_level=arguments.log_level))
            for each in arguments.host or [str(HERE.parent)]
        ]
        if arguments.smg:
            gateways.append(stack.enter_context(smg(arguments.smg, url)))
        if arguments.litellm:
            gateways.append(stack.enter_context(litellm(arguments.litellm, url)))
        rows = arguments.only or ["request", "token", "paced", "memory"]
        engine_port = int(url.rpartition(":")[2])
        found = measure(gateways, paths, arguments.rounds, arguments.scale, rows, engine_port)
    if arguments.json:
        print(json.dumps(found))
        return
    for row, figures in found.items():
        assert isinstance(figures, dict)
        print(f"{row:60} {figures['middle']:9.2f}  ({figures['least']:.2f} to {figures['most']:.2f})")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()

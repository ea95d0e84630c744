"""How soon the engine knows that a client of a Dynamo cluster left: tritonclient or HTTP → frontend → worker → Triton.

From the moment at which the client cancels, or closes its connection, to the one at which the model in Triton sees the
cancel, both by the machine's monotonic clock. The model looks every 10 ms, which is part of the figure. It is measured
for a stream of tensors, a unary call, one that is cancelled as soon as the model has begun, and a dropped HTTP
connection.
"""

from __future__ import annotations

import argparse
import json
import queue
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from dynamo_cost import fast_repository
from dynamo_parts import KSERVE, OPENAI, ROOT, cluster, enter_network, triton_address, wait_for

_WAIT_S, _PAUSE_S = 20.0, 0.002
_LONG = {"max_tokens": 100_000, "delay_ms": 20}
_SILENT = {"hang_after": 0}
"""A unary call that got a second answer would end by itself."""


class Probe:
    """Asks the model itself, past Dynamo."""

    def __init__(self, address: str) -> None:
        import tritonclient.grpc as grpcclient

        self._answers: queue.Queue[Any] = queue.Queue()
        self._told = grpcclient.InferenceServerClient(address)
        self._told.start_stream(lambda result, error: self._answers.put((result, error)))

    def counts(self) -> dict[str, Any]:
        self._told.async_stream_infer("slow", [text()], parameters={"probe": True})
        result, error = self._answers.get(timeout=_WAIT_S)
        if error is not None:
            raise error
        found: dict[str, Any] = json.loads(result.as_numpy("text_output")[0])
        return found

    def until(self, name: str, above: int) -> dict[str, Any]:
        """Return the counts once the one of that name is above a number."""
        ends = time.monotonic() + _WAIT_S
        while (found := self.counts())[name] <= above:
            if time.monotonic() > ends:
                raise RuntimeError(f"the engine did not get above {above} {name} within {_WAIT_S:g} s: {found}")
            time.sleep(_PAUSE_S)
        return found


def text() -> Any:
    import numpy as np
    import tritonclient.grpc as grpcclient

    given = grpcclient.InferInput("text_input", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"tick"], dtype=object))
    return given


def stream(probe: Probe) -> float:
    """Cancel a stream of tensors after its second answer; return when, by the monotonic clock."""
    import tritonclient.grpc as grpcclient

    told = grpcclient.InferenceServerClient(f"127.0.0.1:{KSERVE}")
    arrived: queue.Queue[Any] = queue.Queue()
    told.start_stream(lambda result, error: arrived.put((result, error)))
    told.async_stream_infer("slow", [text()], parameters=_LONG)
    for _ in range(2):
        _, error = arrived.get(timeout=_WAIT_S)
        if error is not None:
            raise error
    began = time.monotonic()
    told.stop_stream(cancel_requests=True)
    return began


def unary(probe: Probe, wait_s: float = 0.2) -> float:
    """Cancel a unary call that the model has begun."""
    import tritonclient.grpc as grpcclient

    told = grpcclient.InferenceServerClient(f"127.0.0.1:{KSERVE}")
    before = probe.counts()["started"]
    call = told.async_infer("slow", [text()], lambda result, error: None, parameters=_SILENT)
    probe.until("started", before)
    time.sleep(wait_s)
    began = time.monotonic()
    call.cancel()
    return began


def early(probe: Probe) -> float:
    """Cancel a unary call as soon as the model has begun."""
    return unary(probe, 0.0)


def dropped(probe: Probe) -> float:
    """Close the connection of a streamed completion after its first event."""
    body = json.dumps({"model": "slow", "prompt": "tick", "stream": True, "max_tokens": 100_000}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection(("127.0.0.1", OPENAI), timeout=_WAIT_S) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        read = b""
        while b"data: " not in read:
            more = connection.recv(1 << 16)
            if not more:
                raise RuntimeError(f"the connection ended: {read!r}")
            read += more
        began = time.monotonic()
    return began


WAYS: dict[str, Callable[[Probe], float]] = {
    "stream of tensors": stream, "unary call": unary, "unary call, at once": early, "dropped HTTP connection": dropped,
}  # fmt: skip


def measure(times: int) -> dict[str, dict[str, float]]:
    """Return milliseconds from the client to the model, for each way of leaving."""
    with tempfile.TemporaryDirectory() as folder:
        repository = fast_repository(Path(folder), delay_ms=20)
        with cluster("frontends", "triton_worker", triton=repository):
            probe = Probe(triton_address())
            found: dict[str, list[float]] = {name: [] for name in WAYS}
            for way in WAYS.values():
                wait_for(lambda way=way: way(probe))
            wait_for(lambda: probe.counts()["running"] == 0 or 1 / 0)
            for _ in range(times):
                for name, way in WAYS.items():
                    before = probe.counts()["cancelled"]
                    began = way(probe)
                    found[name].append((probe.until("cancelled", before)["cancelled_at"] - began) * 1e3)
    return {
        name: {"p50_ms": median(took), "p95_ms": sorted(took)[int(len(took) * 0.95)], "max_ms": max(took)}
        for name, took in found.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if (code := enter_network()) is not None:
        return code
    sys.path.insert(0, str(ROOT))
    found = measure(given.times)
    if given.json:
        print(json.dumps(found))
        return 0
    print(f"{'client to model, ms':26} {'p50':>7} {'p95':>7} {'max':>7}")
    for name, row in found.items():
        print(f"{name:26} {row['p50_ms']:7.1f} {row['p95_ms']:7.1f} {row['max_ms']:7.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a server may leave behind, read from the machine itself."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from triton_adapter.embedded import EmbeddedTriton

GONE_WITHIN_S = 20.0


@dataclass(frozen=True)
class Traces:
    """The processes, files and ports of one running server."""

    pids: tuple[int, ...]
    shm_prefix: str
    work_dir: Path
    ports: tuple[int, ...]

    @classmethod
    def of(cls, triton: EmbeddedTriton) -> Traces:
        urls = (triton.grpc_url, triton.http_url, triton.metrics_url)
        return cls.of_pid(triton.pid, tuple(int(re.search(r":(\d+)", url)[1]) for url in urls))  # type: ignore[index]

    @classmethod
    def of_pid(cls, pid: int, ports: tuple[int, ...] = ()) -> Traces:
        command = Path(f"/proc/{pid}/cmdline").read_text()
        backends = re.search(r"--backend-directory=([^\0]+)/backends\0", command)
        prefix = re.search(r"shm-region-prefix-name=([^\0]+)", command)
        assert backends
        assert prefix
        return cls((pid, *children(pid), parent(pid)), prefix[1], Path(backends[1]), ports)

    def left(self) -> dict[str, list[object]]:
        """Return what is still there; empty lists if nothing is."""
        return {
            "processes": [pid for pid in self.pids if alive(pid)],
            "shared memory": [path.name for path in Path("/dev/shm").glob(f"{self.shm_prefix}*")],
            "files": [path for path in [self.work_dir] if path.exists()],
            "ports": [port for port in self.ports if listens(port)],
        }

    def all_gone(self) -> bool:
        """Wait for everything to go, up to a deadline."""
        give_up_at = time.monotonic() + GONE_WITHIN_S
        while any(self.left().values()):
            if time.monotonic() > give_up_at:
                raise AssertionError(f"still there after {GONE_WITHIN_S:g} s: {self.left()}")
            time.sleep(0.05)
        return True


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie that waits for whoever adopted it."""
    return _stat(pid)[:1] not in ([], ["Z"])


def parent(pid: int) -> int:
    return int(_stat(pid)[1])


def children(pid: int) -> list[int]:
    listings = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for listing in listings for child in listing.read_text().split()]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []

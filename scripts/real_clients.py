"""Make the environments of the programs that the long tests run against the OpenAI face: `real_clients.py [NAME ...]`.

They are others' programs, at the versions below, each in a folder of its own under `~/.cache/worker-adapter/clients`
(`XDG_CACHE_HOME` moves it), outside the checkout, and made once. Without a name all are made: a minute or two,
and seven gigabytes, of which guidellm takes five. The tests install nothing: what is not there is skipped with the
command that makes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from whole_runs import run_whole


@dataclass(frozen=True)
class Client:
    """What one environment has. `light` ones take seconds and little: continuous integration makes those."""

    kind: Literal["python", "node"]
    packages: tuple[str, ...]
    light: bool = False

    @property
    def version(self) -> str:
        name, _, version = self.packages[0].rpartition("==" if self.kind == "python" else "@")
        assert name, self.packages
        return version


CLIENTS = {
    "openai": Client("python", ("openai==3.57.0",), light=True),
    "openai-node": Client("node", ("openai@7.59.0", "esbuild@0.28.2"), light=True),
    "ai-sdk": Client(
        "node", ("ai@7.0.173", "@ai-sdk/openai-compatible@3.0.92", "@ai-sdk/openai@4.0.118", "zod@4.6.7"), light=True
    ),
    "langchain": Client("python", ("langchain-openai==1.7.4", "langchain==1.5.2"), light=True),
    "litellm": Client("python", ("litellm==1.110.2",)),
    # Its proxy is to be had: that of 1.110.1 and 1.110.2 wants a package that PyPI has not.
    "litellm-proxy": Client("python", ("litellm[proxy]==1.105.0",)),
    "pydantic-ai": Client("python", ("pydantic-ai-slim[openai]==2.66.0",), light=True),
    "instructor": Client("python", ("instructor==1.17.0",), light=True),
    "llm": Client("python", ("llm==0.36",), light=True),
    "openai-agents": Client("python", ("openai-agents==0.24.0",), light=True),
    "smolagents": Client("python", ("smolagents[openai]==1.26.0",), light=True),
    "haystack": Client("python", ("haystack-ai==3.4.1",)),
    "llama-index": Client("python", ("llama-index-llms-openai-like==0.8.1",)),
    "autogen": Client("python", ("autogen-ext[openai]==0.7.5", "autogen-agentchat==0.7.5")),
    "aiperf": Client("python", ("aiperf==0.13.0",)),
    "guidellm": Client("python", ("guidellm==0.8.1",)),
    "smg": Client("python", ("smg==1.13.0",)),
}
_UV = "uv==0.13.9"
_INSTALL_S = 300.0


def environment_of(name: str) -> Path:
    """Return the folder of a client's environment, whether it is there or not."""
    client = CLIENTS[name]
    python = f"-py{sys.version_info.major}.{sys.version_info.minor}" if client.kind == "python" else ""
    return _cache() / f"{name}-{client.version}{python}"


def is_made(name: str) -> bool:
    return (environment_of(name) / "complete").exists()


def make(name: str) -> Path:
    """Return the folder of a client's environment, made if it is not there.

    Raises:
        RuntimeError: It cannot be installed; the message has the installer's last words.
    """
    client, folder = CLIENTS[name], environment_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            if client.kind == "python":
                _make_python(folder, client)
            else:
                _make_node(folder, client)
            (folder / "complete").touch()
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "worker-adapter" / "clients"


def _make_python(folder: Path, client: Client) -> None:
    _run(sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder / "venv"))
    _run(str(_uv()), "pip", "install", "--quiet", "--python", str(folder / "venv" / "bin" / "python"), *client.packages)


def _uv() -> Path:
    """pip takes minutes where uv takes seconds."""
    if found := shutil.which("uv"):
        return Path(found)
    folder = _cache() / "uv"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _run(sys.executable, "-m", "venv", str(folder / "venv"))
            _run(str(folder / "venv" / "bin" / "python"), "-m", "pip", "install", "--quiet", _UV)
            (folder / "complete").touch()
    return folder / "venv" / "bin" / "uv"


def _make_node(folder: Path, client: Client) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("needs npm on PATH: apt-get install npm")
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
    # Where its registry does not answer it says so at once: by itself it tries for an hour.
    quick = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
    _run(
        npm, "install", "--loglevel=error", "--no-audit", "--no-fund", *quick, "--prefix", str(folder), *client.packages
    )


def _run(*command: str) -> None:
    run_whole(command, limit_s=_INSTALL_S)


def main(names: list[str]) -> int:
    if names == ["--light"]:
        names = [name for name, client in CLIENTS.items() if client.light]
    unknown = [name for name in names if name not in CLIENTS]
    if unknown:
        print(f"there is no {', '.join(unknown)}; there are {', '.join(CLIENTS)}, and --light", file=sys.stderr)
        return 2
    failed = 0
    for name in names or CLIENTS:
        try:
            print(f"{name}: {make(name)}", flush=True)
        except RuntimeError as exc:
            failed += 1
            print(f"{name}: not installed: {exc}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Read the server's log: how far its start is, and why it failed. No I/O but reading the file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from adapter_api.errors import AdapterError, ConfigurationError, EngineFailed

_TAIL_BYTES = 64 * 1024

_LOADED = re.compile(r"successfully loaded '(?P<model>[^']+)'")
_LOADING = re.compile(r"loading: (?P<model>[^:\"]+):\d+\"")
_MODEL_FAILURES = (
    re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)"),
    re.compile(r"failed to load model '(?P<model>[^']+)': (?P<reason>.*)"),
    re.compile(r"Poll failed for model directory '(?P<model>[^']+)': (?P<reason>.*)"),
    re.compile(r"(?P<reason>Failed to preinitialize Python stub: .*/(?P<model>[^/\n]+)/\d+/[^/\n]*)"),
    re.compile(r"(?P<reason>failed to load '(?P<model>[^']+)', failed to poll from model repository)"),
)
_PORT_LOST = re.compile(r"failed to start (?P<service>\w+) service: .*Socket '[^']*:(?P<port>\d+)' already in use")
_CONFIG_SYNTAX = re.compile(r"Error parsing text-format inference\.ModelConfig: (?P<detail>.*)")
_NO_BACKEND = re.compile(r"unable to find backend library for backend '(?P<backend>[^']+)'")
_STUB_UNABLE = re.compile(r"error while loading shared libraries: .*")
_FATAL = re.compile(
    r"^(?:.*unrecognized option.*|error: (?!creating server: Internal - failed to load).*)$", re.MULTILINE
)
# In every log of a machine without a GPU, and never the reason for anything.
_NOISE = re.compile(r"CUDA|Cuda|NVML|DCGM|pinned_memory_manager|^[+|]|^\s*$")


class LostPort(ConfigurationError):
    """Another program took the port between our choosing it and the server's opening it."""

    def __init__(self, service: str, port: int) -> None:
        super().__init__(
            f"the {service} port {port} is taken by another program; stop what listens there, give another port, "
            "or give none to have a free one chosen"
        )
        self.port = port


@dataclass(frozen=True)
class StartupLog:
    """What the server has written since it was started."""

    text: str

    @classmethod
    def read(cls, path: Path, start: int = 0) -> StartupLog:
        """Return the log from byte `start` on; an empty one when there is no file yet."""
        try:
            with open(path, "rb") as file:
                file.seek(start)
                return cls(file.read().decode("utf-8", "replace"))
        except FileNotFoundError:
            return cls("")

    @property
    def loaded(self) -> set[str]:
        return {match["model"] for match in _LOADED.finditer(self.text)}

    @property
    def loading(self) -> list[str]:
        """Models whose load has begun and not ended, sorted."""
        begun = {match["model"] for match in _LOADING.finditer(self.text)}
        return sorted(begun - self.loaded - self.model_failures.keys())

    @property
    def lost_port(self) -> LostPort | None:
        match = _PORT_LOST.search(self.text)
        return LostPort(match["service"], int(match["port"])) if match else None

    @property
    def model_failures(self) -> dict[str, str]:
        """The reason of each model that failed to load."""
        failures: dict[str, str] = {}
        for pattern in _MODEL_FAILURES:
            for match in pattern.finditer(self.text):
                failures.setdefault(match["model"], _readable(match["reason"]))
        return failures

    def failure(self, kept_log: Path) -> AdapterError | None:
        """Return what went wrong, as far as the log says so plainly; `kept_log` is where it can be read in full."""
        if self.lost_port:
            return self.lost_port
        failures = self.model_failures
        wrong_numpy = [reason for reason in failures.values() if "needs numpy<2" in reason]
        if wrong_numpy:
            return ConfigurationError(
                f"the embedded Triton did not start: {wrong_numpy[0]}; give the Python of that folder a numpy 1, with "
                "`python -m pip install 'numpy<2'`, or name a Python that has one with --python"
            )
        missing = sorted({match["backend"] for match in _NO_BACKEND.finditer(self.text)})
        if missing:
            return ConfigurationError(
                f"the embedded Triton did not start: a model needs the backend {', '.join(map(repr, missing))}, and "
                "this server has only the Python backend unless it is given others: name the folder that holds "
                f"{missing[0]}/ with --backend-directory (`backend_directory`). A backend that is a model.py needs no "
                "more than that; others need libraries that fit this Triton"
            )
        if failures:
            reasons = "; ".join(f"model '{model}' failed to load: {reason}" for model, reason in failures.items())
            syntax = "".join(f" (config.pbtxt {match['detail']})" for match in _CONFIG_SYNTAX.finditer(self.text))
            return EngineFailed(f"the embedded Triton did not start: {reasons}{syntax} (log: {kept_log})")
        fatal = _STUB_UNABLE.search(self.text) or _FATAL.search(self.text)
        if fatal:
            return EngineFailed(f"the embedded Triton did not start: {fatal[0].strip()} (log: {kept_log})")
        return None

    def last_lines(self, count: int = 8) -> str:
        """Return the last lines that say something, indented, for the end of a message."""
        telling = [line for line in self.text.splitlines() if not _NOISE.search(line)]
        return "".join(f"\n    {line[:300]}" for line in telling[-count:]) or "\n    (nothing)"


def log_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def tail(path: Path, lines: int) -> str:
    """Return the last lines of the file."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def _readable(reason: str) -> str:
    """Cut the traceback down to the place in the model's own file, and put the rest on one line."""
    text = reason.strip().rstrip('"').replace("\\n", "\n")
    message, _, traceback = text.partition("\n\nAt:\n")
    message = message.removeprefix("Internal: ").removeprefix("Failed to preinitialize Python stub: ")
    place = re.search(r"^\s*(/.+?)\((\d+)\): ", traceback, re.MULTILINE)
    return " ".join(message.split()) + (f" (at {place[1]}:{place[2]})" if place else "")

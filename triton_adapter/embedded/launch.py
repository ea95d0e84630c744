"""Start one server: choose ports, put its command line together, wait until it is ready."""

from __future__ import annotations

import os
import shlex
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from adapter_api.errors import ConfigurationError, EngineFailed

from .demo import demo_repository
from .diagnose import LostPort, log_size
from .layout import Layout, lay_out
from .one_core import keep_to_one_core
from .ports import LOOPBACK, choose_ports
from .process import ServerProcess
from .startup import Startup

ModelControlMode = Literal["none", "explicit", "poll"]
_PORT_ATTEMPTS = 3
_ABORTED = 128 + signal.SIGABRT


@dataclass(frozen=True)
class Order:
    """What to start. `ports` maps gRPC, HTTP and metrics to a port, or to `None` for a free one."""

    repository: Path
    ports: Mapping[str, int | None]
    control_mode: ModelControlMode
    load_models: Sequence[str]
    startup_timeout_s: float
    shutdown_timeout_s: float
    extra_args: Sequence[str]
    python: Path | None
    server_binary: Path | None
    backends: Path | None
    all_cores: bool
    progress: Callable[[str], None]

    @property
    def models(self) -> list[str]:
        """Names of the models that are loaded at start, as far as the folder tells."""
        if self.control_mode == "explicit" and "*" not in self.load_models:
            return list(self.load_models)
        return sorted(folder.name for folder in self.repository.iterdir() if folder.is_dir())

    def check(self) -> None:
        """Raise `ConfigurationError` when the repository is missing or empty, or lacks a model that is to be loaded."""
        if not self.repository.is_dir():
            raise ConfigurationError(f"the model repository {self.repository} does not exist or is no folder")
        if not any(folder.is_dir() for folder in self.repository.iterdir()):
            raise ConfigurationError(
                f"the model repository {self.repository} has no models: each is a folder with a config.pbtxt and a "
                "version folder, such as mymodel/1/model.py"
            )
        missing = [name for name in self.load_models if name != "*" and not (self.repository / name).is_dir()]
        if missing and not any(argument.startswith("--model-repository") for argument in self.extra_args):
            raise ConfigurationError(
                f"the model repository {self.repository} has no model {', '.join(map(repr, missing))}; it has "
                + ", ".join(sorted(folder.name for folder in self.repository.iterdir() if folder.is_dir()))
            )


class Launch:
    """One attempt to have the server run; `process` is set as soon as there is one, whatever becomes of it."""

    def __init__(self, order: Order, *, work_dir: Path, log_file: Path, kept_log: Path, abort: Event) -> None:
        self.process: ServerProcess | None = None
        self.ports: dict[str, int] = {}
        self.version = ""
        self._order = order
        self._work_dir = work_dir
        self._log_file = log_file
        self._kept_log = kept_log
        self._abort = abort

    def run(self) -> None:
        """Return when the server is ready. Errors as `EmbeddedTriton.start` has them."""
        order = self._order
        layout = lay_out(
            self._work_dir,
            server_binary=order.server_binary,
            python=order.python,
            backends=order.backends,
            progress=order.progress,
        )
        deadline = time.monotonic() + order.startup_timeout_s
        has_aborted = False
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self.ports = choose_ports(order.ports)
            try:
                self.version = self._start(layout, deadline)
            except LostPort as error:
                if self.process is not None:
                    self.process.kill()
                if attempt == _PORT_ATTEMPTS or error.port in order.ports.values():
                    raise
            except EngineFailed:
                # Triton 2.51 aborts now and then while several models of the Python backend begin on a busy machine
                # (boost::interprocess::lock_exception). Whoever aborts twice has a reason of their own.
                if self.process is None or self.process.exit_code != _ABORTED or has_aborted:
                    raise
                has_aborted = True
                order.progress("tritonserver aborted while it started; starting it once more")
                self.process.kill()
            else:
                return

    def _start(self, layout: Layout, deadline: float) -> str:
        order = self._order
        log_start = log_size(self._log_file)
        shm_prefix = f"worker_adapter_{uuid.uuid4().hex[:12]}_"
        self.process = ServerProcess(
            [str(layout.program), *layout.arguments, *self._arguments(shm_prefix), *order.extra_args],
            env=os.environ | layout.environment,
            cwd=layout.run_dir,
            log_file=self._log_file,
            grace_s=order.shutdown_timeout_s,
            shm_prefix=shm_prefix,
            work_dir=self._work_dir,
            python_only=layout.python_only,
        )
        metrics_off = any(argument.startswith("--allow-metrics") for argument in order.extra_args)
        version = Startup(
            process=self.process,
            http_port=self.ports["HTTP"],
            metrics_port=None if metrics_off else self.ports["metrics"],
            log_file=self._log_file,
            log_start=log_start,
            aliases={str(self._repository()): str(order.repository)},
            kept_log=self._kept_log,
            models=order.models,
            all_must_load=not any(argument.startswith("--exit-on-error") for argument in order.extra_args),
            deadline=deadline,
            timeout_s=order.startup_timeout_s,
            abort=self._abort,
            progress=order.progress,
        ).wait()
        # Not before, because loading models in parallel is faster; and other backends compute in the server itself.
        if layout.python_only and not order.all_cores:
            keep_to_one_core(self.process.pid)
        return version

    def _repository(self) -> Path:
        repository, link = self._order.repository, self._work_dir / "models"
        # Triton puts the models' paths into a shell command without quotes: a blank in one would end it.
        if shlex.quote(str(repository)) == str(repository):
            return repository
        if not link.is_symlink():
            link.symlink_to(repository)
        return link

    def _arguments(self, shm_prefix: str) -> list[str]:
        order = self._order
        arguments = [
            f"--model-repository={self._repository()}",
            f"--model-control-mode={order.control_mode}",
            *(f"--load-model={name}" for name in order.load_models),
            f"--grpc-address={LOOPBACK}",
            f"--http-address={LOOPBACK}",
            f"--metrics-address={LOOPBACK}",
            f"--grpc-port={self.ports['gRPC']}",
            f"--http-port={self.ports['HTTP']}",
            f"--metrics-port={self.ports['metrics']}",
            f"--exit-timeout-secs={max(1, round(order.shutdown_timeout_s))}",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        ]
        if order.repository == demo_repository():
            # Their configurations are complete, and completing one costs a process start per model.
            arguments.append("--disable-auto-complete-config")
        return arguments

"""`EmbeddedTriton`: a real Triton server of one's own, for as long as a `with` block lasts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from adapter_api.errors import AdapterClosed, ConfigurationError

from .demo import demo_repository
from .diagnose import LostPort, Startup, tail
from .layout import Layout, lay_out
from .ports import LOOPBACK, choose_ports
from .process import ServerProcess
from .readiness import ready_models, server_version

_PORT_ATTEMPTS = 3


class EmbeddedTriton:
    """Run tritonserver on the loopback interface, as a context manager, `with` or `async with`.

    Entering returns when every model is ready. Leaving stops the server and removes what it left: processes, ports,
    `/dev/shm` files and temporary files. The server also ends when the program that started it dies, however it dies.
    It can be started again after a stop. Calls from several threads are put in line.

    Args:
        model_repository: Folder of models; the demo models if `None`.
        grpc_port, http_port, metrics_port: A free port is chosen for `None`.
        model_control_mode: Triton's; with "explicit" the `load_models` are loaded at start, and more on request.
        load_models: Names, or "*" for all; only with "explicit".
        startup_timeout_s: Seconds from the start of the server until every model is ready.
        shutdown_timeout_s: Seconds that running requests get at a stop; then the server is killed.
        log_file: Where the server's output is appended to. Without it, it goes to a temporary file that is kept only
            when the start fails.
        extra_args: Passed to tritonserver after ours.
        python: Interpreter whose packages the models may use; the running one if `None`.
        server_binary: A `tritonserver` to run instead of the wheel's; else `$TRITON_SERVER_BINARY`, else the wheel's,
            else the one on `PATH`.
        on_progress: Called with a line of text while the server starts.
    """

    def __init__(
        self,
        model_repository: Path | None = None,
        *,
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        model_control_mode: Literal["none", "explicit", "poll"] = "none",
        load_models: Sequence[str] = (),
        startup_timeout_s: float = 60.0,
        shutdown_timeout_s: float = 10.0,
        log_file: Path | None = None,
        extra_args: Sequence[str] = (),
        python: Path | None = None,
        server_binary: Path | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self._repository = Path(model_repository or demo_repository()).absolute()
        self._wanted_ports = {"gRPC": grpc_port, "HTTP": http_port, "metrics": metrics_port}
        self._control_mode = model_control_mode
        self._load_models = tuple(load_models)
        self._startup_timeout_s = startup_timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._log_file = log_file.absolute() if log_file else None
        self._extra_args = tuple(extra_args)
        self._python = python
        self._server_binary = server_binary
        self._progress = on_progress or (lambda line: None)
        # Guards everything below; `_abort` is how a stop reaches a start that holds it.
        self._lock = threading.RLock()
        self._abort = threading.Event()
        self._process: ServerProcess | None = None
        self._work_dir: Path | None = None
        self._ports: dict[str, int] = {}
        self._version = ""
        self._last_log = ""

    def start(self) -> Self:
        """Start the server and return when all its models are ready. Nothing happens when it runs already.

        Raises:
            ConfigurationError: No server, no models, a port is taken, or the platform cannot run it.
            EngineFailed: The server ended, or a model failed to load; the message has its reason.
            DeadlineExceeded: It was not ready in time (stage "connect").
        """
        with self._lock:
            if self.is_running:
                return self
            self._clean_up()
            self._abort.clear()
            _check_repository(self._repository)
            self._work_dir = Path(tempfile.mkdtemp(prefix="worker-adapter-triton-"))
            try:
                self._launch(
                    lay_out(
                        self._work_dir, server_binary=self._server_binary, python=self._python, progress=self._progress
                    )
                )
            except BaseException:
                self._keep_log()
                self._clean_up()
                raise
            return self

    def stop(self) -> None:
        """Stop the server and remove what it left behind. Nothing happens when it does not run.

        Running requests get `shutdown_timeout_s` to end. A start under way in another thread is given up.
        """
        self._abort.set()
        with self._lock:
            self._clean_up()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL), and remove what it left behind."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
            self._clean_up()

    def pause(self) -> None:
        """Freeze the server and its models (SIGSTOP): connections stay open and nothing answers."""
        self._running().signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._running().signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.exit_code is None

    @property
    def grpc_url(self) -> str:
        """As `grpc://127.0.0.1:PORT`. The URLs stay readable after a stop."""
        return f"grpc://{LOOPBACK}:{self._port('gRPC')}"

    @property
    def http_url(self) -> str:
        return f"http://{LOOPBACK}:{self._port('HTTP')}"

    @property
    def metrics_url(self) -> str:
        return f"http://{LOOPBACK}:{self._port('metrics')}/metrics"

    @property
    def pid(self) -> int:
        """The process id of tritonserver itself."""
        return self._running().pid

    @property
    def version(self) -> str:
        """Triton's version, such as "2.51.0"."""
        self._port("HTTP")
        return self._version

    @property
    def models(self) -> list[str]:
        """Names of the models that are ready now, asked of the server."""
        self._running()
        return ready_models(self._port("HTTP"))

    @property
    def log_path(self) -> Path:
        """Where the server's output goes."""
        if self._log_file is not None:
            return self._log_file
        if self._work_dir is None:
            raise AdapterClosed("the embedded Triton does not run, so it has no log; give log_file to keep one")
        return self._work_dir / "server.log"

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the server's output, also after a stop."""
        with contextlib.suppress(AdapterClosed, OSError):
            return tail(self.log_path, lines)
        return "\n".join(self._last_log.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        import anyio.to_thread

        try:
            await anyio.to_thread.run_sync(self.start, abandon_on_cancel=True)
        except BaseException:
            # Cancelled: the thread may still be starting the server. Stop it there and wait until it is gone.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.stop)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import anyio.to_thread

        # Bounded: the grace period and a few seconds.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def _launch(self, layout: Layout) -> None:
        started = time.monotonic()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._ports = choose_ports(self._wanted_ports)
            self._process = process = self._spawn(layout)
            startup = Startup(
                process=process,
                http_port=self._ports["HTTP"],
                log_file=self.log_path,
                models=self._models_to_load(),
                deadline=started + self._startup_timeout_s,
                timeout_s=self._startup_timeout_s,
                abort=self._abort,
                progress=self._progress,
            )
            try:
                startup.wait()
            except LostPort as error:
                process.kill()
                free = [name for name, port in self._ports.items() if port == error.port]
                if attempt == _PORT_ATTEMPTS or any(self._wanted_ports[name] is not None for name in free):
                    raise
                continue
            self._version = server_version(self._ports["HTTP"])
            return

    def _spawn(self, layout: Layout) -> ServerProcess:
        assert self._work_dir is not None
        shm_prefix = f"worker_adapter_{uuid.uuid4().hex[:12]}_"
        run_dir = self._work_dir / "run"
        run_dir.mkdir(exist_ok=True)
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        return ServerProcess(
            [str(layout.program), *layout.arguments, *self._arguments(shm_prefix), *self._extra_args],
            env=os.environ | layout.environment,
            # An empty folder: the stub's interpreter looks for modules in the working directory first.
            cwd=run_dir,
            log_file=self.log_path,
            grace_s=self._shutdown_timeout_s,
            shm_prefix=shm_prefix,
            work_dir=self._work_dir,
        )

    def _arguments(self, shm_prefix: str) -> list[str]:
        arguments = [
            f"--model-repository={self._repository}",
            f"--model-control-mode={self._control_mode}",
            *(f"--load-model={name}" for name in self._load_models),
            f"--grpc-address={LOOPBACK}",
            f"--http-address={LOOPBACK}",
            f"--metrics-address={LOOPBACK}",
            f"--grpc-port={self._ports['gRPC']}",
            f"--http-port={self._ports['HTTP']}",
            f"--metrics-port={self._ports['metrics']}",
            f"--exit-timeout-secs={max(1, round(self._shutdown_timeout_s))}",
            f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        ]
        if self._repository == demo_repository():
            # Their configurations are complete, and completing one costs a process start per model.
            arguments.append("--disable-auto-complete-config")
        return arguments

    def _models_to_load(self) -> list[str]:
        if self._control_mode == "explicit" and "*" not in self._load_models:
            return list(self._load_models)
        return sorted(folder.name for folder in self._repository.iterdir() if folder.is_dir())

    def _clean_up(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._last_log = self.log_tail(200)
            self._process = None
        if self._work_dir is not None:
            shutil.rmtree(self._work_dir, ignore_errors=True)
            self._work_dir = None

    def _keep_log(self) -> None:
        if self._log_file is None and self._work_dir is not None and (self._work_dir / "server.log").exists():
            shutil.move(self._work_dir / "server.log", f"{self._work_dir}.log")

    def _running(self) -> ServerProcess:
        process = self._process
        if process is None or process.exit_code is not None:
            raise AdapterClosed("the embedded Triton does not run; start it first")
        return process

    def _port(self, name: str) -> int:
        if not self._ports:
            raise AdapterClosed("the embedded Triton was not started yet, so it has no address")
        return self._ports[name]


def _check_repository(repository: Path) -> None:
    if not repository.is_dir():
        raise ConfigurationError(f"the model repository {repository} does not exist or is no folder")
    if not any(folder.is_dir() for folder in repository.iterdir()):
        raise ConfigurationError(
            f"the model repository {repository} has no models: each is a folder with a config.pbtxt and a version "
            "folder, such as mymodel/1/model.py"
        )

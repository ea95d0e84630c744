"""`EmbeddedTriton`: a real Triton server of one's own, for as long as a `with` block lasts."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adapter_api.errors import AdapterClosed, ConfigurationError, DeadlineExceeded, EngineFailed

from .demo import LANGUAGE_MODELS, demo_options, demo_repository
from .diagnose import log_size, tail
from .launch import Launch, ModelControlMode, Order
from .layout import choose_server
from .ports import LOOPBACK
from .process import ServerProcess
from .readiness import ready_models


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
        python: Interpreter that runs the models, 3.11 or 3.12, with the server's wheel and numpy<2; it need not be the
            running one. If `None`: `$TRITON_SERVER_PYTHON`, else the running one, else the one that the set-up made.
        server_binary: A `tritonserver` to run instead of the wheel's; else `$TRITON_SERVER_BINARY`, else the wheel's,
            else the one on `PATH`.
        backend_directory: Folder of more backends, one folder each (`vllm/`); without it the wheel's server has only
            the Python backend. Backends of the form `model.py` get the copy of `libtriton_python.so` that they need.
        all_cores: Let the wheel's server and its models use every core. They are kept to one because Triton 2.51 can
            freeze for good, or crash, when streams are cancelled while it has several. Other servers always use all.
        on_progress: Called with a line of text while the server starts.
    """

    def __init__(
        self,
        model_repository: Path | None = None,
        *,
        grpc_port: int | None = None,
        http_port: int | None = None,
        metrics_port: int | None = None,
        model_control_mode: ModelControlMode = "none",
        load_models: Sequence[str] = (),
        startup_timeout_s: float = 60.0,
        shutdown_timeout_s: float = 10.0,
        log_file: Path | None = None,
        extra_args: Sequence[str] = (),
        python: Path | None = None,
        server_binary: Path | None = None,
        backend_directory: Path | None = None,
        all_cores: bool = False,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        self._order = Order(
            repository=Path(model_repository or demo_repository()).absolute(),
            ports={"gRPC": grpc_port, "HTTP": http_port, "metrics": metrics_port},
            control_mode=model_control_mode,
            load_models=tuple(load_models),
            startup_timeout_s=startup_timeout_s,
            shutdown_timeout_s=shutdown_timeout_s,
            extra_args=tuple(extra_args),
            python=python,
            server_binary=server_binary,
            backends=backend_directory,
            all_cores=all_cores,
            progress=on_progress or (lambda line: None),
        )
        self._log_file = log_file.absolute() if log_file else None
        # Guards everything below; `_abort` is how a stop reaches a start that holds it.
        self._lock = threading.RLock()
        self._abort = threading.Event()
        self._launch: Launch | None = None
        self._work_dir: Path | None = None
        self._last_log = ""

    @staticmethod
    def obstacle() -> str | None:
        """Return why no server can be started on this machine, and what to do; `None` if one can."""
        try:
            choose_server()
        except ConfigurationError as error:
            return error.message
        return None

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
            self._order.check()
            # Triton names files below it to a shell without quotes.
            parent = tempfile.gettempdir() if _is_plain(tempfile.gettempdir()) else "/tmp"
            self._work_dir = Path(tempfile.mkdtemp(prefix="worker-adapter-triton-", dir=parent))
            # At the interpreter's exit these run backwards: the server, which is newer, ends before its folder goes.
            self._remove_work_dir = weakref.finalize(self, _remove, self._work_dir, os.getpid())
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            self._launch = Launch(
                self._order,
                work_dir=self._work_dir,
                log_file=self.log_path,
                kept_log=self._kept_log(),
                abort=self._abort,
            )
            try:
                self._launch.run()
            except BaseException as error:
                if self._process is not None:
                    # It need not be asked: nobody has used it yet.
                    self._process.kill()
                if isinstance(error, (EngineFailed, DeadlineExceeded)):
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
        self._running().pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self._running().signal(signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """The status that the server's process ended with, 128 + N if signal N ended it; `None` while it runs, and
        before a start."""
        return self._process.exit_code if self._process is not None else None

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
        return self._launched().version

    @property
    def models(self) -> list[str]:
        """Names of the models that are ready now, asked of the server."""
        self._running()
        return ready_models(self._port("HTTP"))

    @property
    def options(self) -> dict[str, Any]:
        """What to tell an adapter about the models, beside the URL: its options as in a settings file."""
        return demo_options() if self._has_demo_models else {}

    @property
    def language_models(self) -> tuple[str, ...]:
        """Those of the demo models that write something to read; none of a repository of yours."""
        return LANGUAGE_MODELS if self._has_demo_models else ()

    @property
    def _has_demo_models(self) -> bool:
        return self._order.repository == demo_repository().absolute()

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

    @property
    def _process(self) -> ServerProcess | None:
        return self._launch.process if self._launch else None

    def _clean_up(self) -> None:
        if self._process is not None:
            self._process.stop()
        if self._work_dir is not None:
            self._last_log = self.log_tail(200)
            self._remove_work_dir()
            self._work_dir = None

    def _kept_log(self) -> Path:
        """Where the log will be found after a start that failed."""
        return self._log_file or Path(f"{self._work_dir}.log")

    def _keep_log(self) -> None:
        if self._log_file is None and log_size(self.log_path):
            shutil.copyfile(self.log_path, self._kept_log())

    def _running(self) -> ServerProcess:
        if self._process is None or self._process.exit_code is not None:
            raise AdapterClosed("the embedded Triton does not run; start it first")
        return self._process

    def _port(self, name: str) -> int:
        return self._launched().ports[name]

    def _launched(self) -> Launch:
        if self._launch is None or not self._launch.ports:
            raise AdapterClosed("the embedded Triton was not started yet, so it has no address")
        return self._launch


def _is_plain(path: str) -> bool:
    return shlex.quote(path) == path


def _remove(work_dir: Path, owner: int) -> None:
    # A fork of the owner holds a copy of everything and must leave the owner's folder alone.
    if os.getpid() == owner:
        shutil.rmtree(work_dir, ignore_errors=True)

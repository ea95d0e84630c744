"""Where the server's program and its Python backend come from, and how they are put together to run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapter_api.errors import ConfigurationError
from adapter_kit.installing import install

from .backends import add_backends
from .fetched import numpy1_folder, with_wheel
from .interpreter import (
    PYTHON_VARIABLE,
    REQUIREMENTS,
    SUPPORTED_VERSIONS,
    Interpreter,
    asked_python,
    check_platform,
    server_python,
)
from .libpython import find_libpython

BINARY_VARIABLE = "TRITON_SERVER_BINARY"
_GUARD = Path(__file__).parent / "stub" / "triton_python_backend_utils.py"


@dataclass(frozen=True)
class Layout:
    """How to run the server: its program, its working directory, the arguments and environment that belong to it.

    `python_only` says that it has no backend but the Python one.
    """

    program: Path
    run_dir: Path
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    python_only: bool = False


def lay_out(
    work_dir: Path,
    *,
    server_binary: Path | None,
    python: Path | None,
    backends: Path | None = None,
    progress: Callable[[str], None],
) -> Layout:
    """Choose a server and prepare `work_dir` for it, with the backends in a folder beside its own.

    Errors as `choose_server` has them, and `ConfigurationError` when there is no backend in that folder.
    """
    chosen = choose_server(server_binary, python)
    if isinstance(chosen, Path):
        return _installed(chosen, _run_dir(work_dir), backends)
    laid_out = _from_wheel(work_dir, with_wheel(chosen, progress), progress)
    if backends is None:
        return laid_out
    add_backends(backends, work_dir / "backends", laid_out.program)
    return replace(laid_out, python_only=False)


def choose_server(server_binary: Path | None = None, python: Path | None = None) -> Path | Interpreter:
    """Return the program of an installed server, or the interpreter of one from the wheel.

    `server_binary` first, then `$TRITON_SERVER_BINARY`, then the wheel `nvidia-pytriton`, then `PATH`. An interpreter
    that was named may lack the wheel, which can be fetched for it; none is fetched for one that nobody named.

    Raises:
        ConfigurationError: There is none, or it cannot run here; the message says what to install.
    """
    asked = server_binary or os.environ.get(BINARY_VARIABLE)
    if asked:
        return _program(str(asked))
    interpreter = server_python(python)
    if interpreter.pytriton is None:
        on_path = shutil.which("tritonserver")
        if on_path:
            return Path(on_path)
    check_platform()
    _check_version(interpreter)
    if interpreter.pytriton is None and asked_python(python) is None:
        raise ConfigurationError(
            f"there is no Triton server to embed: {interpreter.name} lacks the package nvidia-pytriton (our extra "
            "`embedded`) and no tritonserver is on PATH; run "
            f"`{install(*REQUIREMENTS, python=str(interpreter.executable))}`"
        )
    find_libpython(interpreter)
    return interpreter


def check_supported() -> None:
    """Raise `ConfigurationError` when this platform or Python can have no server; a missing wheel does not count."""
    if os.environ.get(BINARY_VARIABLE) or shutil.which("tritonserver"):
        return
    check_platform()
    _check_version(server_python())


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(f"{name} is no executable Triton server; give the path of `tritonserver`")
    return Path(found).absolute()


def _run_dir(work_dir: Path) -> Path:
    """Return an empty folder: the models' interpreter looks for modules in the server's working directory first."""
    run_dir = work_dir / "run"
    run_dir.mkdir()
    return run_dir


def _installed(program: Path, run_dir: Path, given: Path | None) -> Layout:
    """Run a server that was installed whole, as in NVIDIA's container: it knows its own backends."""
    backends = given.absolute() if given is not None else program.resolve().parent.parent / "backends"
    return Layout(program, run_dir, [f"--backend-directory={backends}"] if backends.is_dir() else [])


def _from_wheel(work_dir: Path, interpreter: Interpreter, progress: Callable[[str], None]) -> Layout:
    assert interpreter.pytriton is not None
    wheel = interpreter.pytriton / "tritonserver"
    libpython = find_libpython(interpreter)
    numpy1 = numpy1_folder(interpreter, progress)
    run_dir = _run_dir(work_dir)
    if numpy1 is not None:
        # First on the path even of an isolated interpreter, which PYTHONPATH does not reach.
        for package in numpy1.glob("numpy*"):
            (run_dir / package.name).symlink_to(package)
    _link_backend(work_dir / "backends" / "python", wheel, interpreter)
    # Only this one library: the rest of its folder (think of conda) must not come before the wheel's own.
    (work_dir / "lib").mkdir()
    (work_dir / "lib" / libpython.name).symlink_to(libpython)

    library_path = os.environ.get("LD_LIBRARY_PATH")
    environment = {
        # The stub's interpreter takes its packages from the environment whose python3 is first on PATH.
        "PATH": os.pathsep.join([str(interpreter.executable.parent), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(work_dir / "lib"), library_path])),
    }
    arguments = [f"--backend-directory={work_dir / 'backends'}"]
    return Layout(wheel / "bin" / "tritonserver", run_dir, arguments, environment, python_only=True)


def _check_version(interpreter: Interpreter) -> None:
    if interpreter.version not in SUPPORTED_VERSIONS:
        supported = " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED_VERSIONS)
        raise ConfigurationError(
            f"the embedded Triton cannot run with {interpreter.name}: its Python backend needs numpy<2, which is not "
            f"made for that version; name a Python {supported} that has {' and '.join(REQUIREMENTS)} with --python or "
            f"{PYTHON_VARIABLE}, or put a tritonserver on PATH"
        )


def _link_backend(folder: Path, wheel: Path, interpreter: Interpreter) -> None:
    """Link, not copy: the wheel's programs find their libraries relative to where they really are."""
    folder.mkdir(parents=True)
    stubs = wheel / "python_backend_stubs" / f"{interpreter.version[0]}.{interpreter.version[1]}"
    backend = wheel / "backends" / "python"
    links = {
        "libtriton_python.so": backend / "libtriton_python.so",
        "triton_python_backend_stub": stubs / "triton_python_backend_stub",
        "triton_python_backend_utils.py": _GUARD,
        "wheel_backend_utils.py": backend / "triton_python_backend_utils.py",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)

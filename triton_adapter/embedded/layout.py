"""Where the server's program and its Python backend come from, and how they are put together to run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from adapter_api.errors import ConfigurationError

from .interpreter import SUPPORTED_VERSIONS, Interpreter, check_platform, inspect
from .libpython import find_libpython
from .numpy1 import numpy1_folder

BINARY_VARIABLE = "TRITON_SERVER_BINARY"
_GUARD = Path(__file__).parent / "stub" / "triton_python_backend_utils.py"


@dataclass(frozen=True)
class Layout:
    """How to run the server: its program, arguments that belong to it, and its environment variables.

    `python_only` says that it has no backend but the Python one.
    """

    program: Path
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    python_only: bool = False


def lay_out(
    work_dir: Path, *, server_binary: Path | None, python: Path | None, progress: Callable[[str], None]
) -> Layout:
    """Choose a server and prepare `work_dir` for it.

    `server_binary` first, then `$TRITON_SERVER_BINARY`, then the wheel `nvidia-pytriton`, then `PATH`.

    Raises:
        ConfigurationError: There is none, or it cannot run here; the message says what to install.
    """
    asked = server_binary or os.environ.get(BINARY_VARIABLE)
    if asked:
        return _installed(_program(str(asked)))
    interpreter = inspect(python)
    if interpreter.pytriton is None:
        on_path = shutil.which("tritonserver")
        if on_path:
            return _installed(Path(on_path))
        check_platform()
        _check_version(interpreter)
        raise ConfigurationError(
            f"there is no Triton server to embed: {interpreter.name} lacks the package nvidia-pytriton and no "
            "tritonserver is on PATH; pip install 'worker-adapter[embedded]'"
        )
    check_platform()
    return _from_wheel(work_dir, interpreter, interpreter.pytriton / "tritonserver", progress)


def _program(name: str) -> Path:
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(f"{name} is no executable Triton server; give the path of `tritonserver`")
    return Path(found).absolute()


def _installed(program: Path) -> Layout:
    """Run a server that was installed whole, as in NVIDIA's container: it knows its own backends."""
    backends = program.resolve().parent.parent / "backends"
    return Layout(program, [f"--backend-directory={backends}"] if backends.is_dir() else [])


def _from_wheel(work_dir: Path, interpreter: Interpreter, wheel: Path, progress: Callable[[str], None]) -> Layout:
    _check_version(interpreter)
    libpython = find_libpython(interpreter)
    numpy1 = numpy1_folder(interpreter, progress)
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
    if numpy1 is not None:
        environment["WORKER_ADAPTER_NUMPY1"] = str(numpy1)
    arguments = [f"--backend-directory={work_dir / 'backends'}"]
    return Layout(wheel / "bin" / "tritonserver", arguments, environment, python_only=True)


def _check_version(interpreter: Interpreter) -> None:
    if interpreter.version not in SUPPORTED_VERSIONS:
        supported = " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED_VERSIONS)
        raise ConfigurationError(
            f"the embedded Triton cannot run with {interpreter.name}: its Python backend needs numpy<2, which is not "
            f"made for that version; use Python {supported}, or put a tritonserver on PATH"
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

"""Make `.venv` ready: `python3 scripts/setup.py demo` or `… dev`.

Runs under any Python 3.7 or newer, with the standard library only, so that it can say what is missing. `PYTHON` in the
environment names the interpreter to use; otherwise the best one on PATH is taken. A second run does nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from interpreters import Interpreter, best_interpreter, inspect
from libpython import fetch_libpython
from server_environment import SetupError, is_settled, needs_own_python
from server_environment import make as make_server_environment

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
LOG = VENV / "setup.log"
# A slow line takes minutes for the wheels; one that says nothing for an hour is dead.
_COMMAND_TIMEOUT_S = 3600

EXTRAS = {"demo": "embedded,server,vision", "dev": "dev"}
"""What each level installs; `dev` has everything that `demo` has."""


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in EXTRAS:
        print(f"usage: python3 scripts/setup.py {'|'.join(EXTRAS)}", file=sys.stderr)
        return 2
    level = arguments[0]
    wanted = os.environ.get("PYTHON", "")
    try:
        if not is_ready(level, wanted):
            set_up(level, wanted)
        provide_server()
    except SetupError as exc:
        print(f"set-up: {exc}", file=sys.stderr)
        return 1
    return 0


def is_ready(level: str, wanted: str) -> bool:
    """Whether `.venv` holds what this `pyproject.toml` asks for, made by the interpreter that is asked for."""
    levels = [name for name in EXTRAS if name in (level, "dev")]
    if not VENV_PYTHON.exists() or not any(_read(_stamp(name)) == _key() for name in levels):
        return False
    if not wanted:
        return True
    asked, present = inspect(wanted), inspect(str(VENV_PYTHON))
    return asked is not None and present is not None and asked.identity == present.identity


def set_up(level: str, wanted: str) -> None:
    try:
        interpreter = best_interpreter(wanted, present=VENV_PYTHON, for_embedded=not shutil.which("tritonserver"))
    except LookupError as exc:
        raise SetupError(str(exc)) from None
    make_environment(interpreter)
    install(level)
    if interpreter.has_embedded_server and not shutil.which("tritonserver"):
        problem = fetch_libpython(VENV, VENV_PYTHON, interpreter.version)
        if problem:
            raise SetupError(problem)
    # Recorded last: a set-up that was interrupted is taken up again.
    _stamp(level).write_text(_key())


def provide_server() -> None:
    """Give the embedded server a Python that it runs with, where that of `.venv` is too new for it.

    Without one everything works but that server: the demo runs on a stand-in and says so, and tests of the real server
    are skipped.
    """
    product = inspect(str(VENV_PYTHON))
    requirements = [*re.findall(r"nvidia-pytriton==[\d.]+", _read(ROOT / "pyproject.toml"))[:1], "numpy<2"]
    key = " ".join(requirements)
    if product is None or not needs_own_python(product) or is_settled(VENV, key):
        return
    try:
        make_server_environment(VENV, key, requirements, run=_run, say=say)
    except SetupError as exc:
        say(f"{product} is too new for the embedded Triton, and no other Python could be had for it:")
        print("\n".join(f"    {line.strip()}" for line in str(exc).splitlines()[-6:]), file=sys.stderr)
        say(
            "the demo runs on a fake server, and tests of the real one are skipped; for the real one install Python "
            "3.11 or 3.12, or name one with TRITON_SERVER_PYTHON=PATH, and run the same again"
        )


def make_environment(interpreter: Interpreter) -> None:
    """Create `.venv` with pip in it, unless a usable one of the same interpreter is there."""
    present = inspect(str(VENV_PYTHON))
    if present is not None and present.identity == interpreter.identity and _works(VENV_PYTHON, "import pip"):
        return
    if VENV.exists():
        say(f"making .venv anew with {interpreter}")
        shutil.rmtree(VENV)
    else:
        say(f"making .venv with {interpreter}")
    # Debian and Ubuntu keep `ensurepip` in a package of its own; then any pip can be unpacked into the environment.
    has_ensurepip = _works(interpreter.path, "import ensurepip, venv")
    _run([interpreter.path, "-m", "venv", *([] if has_ensurepip else ["--without-pip"]), str(VENV)])
    if not has_ensurepip:
        _borrow_pip(interpreter)


def _borrow_pip(interpreter: Interpreter) -> None:
    site_packages = _output([str(VENV_PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    for python in (interpreter.path, sys.executable):
        if _works(python, "import pip"):
            # `--target` is allowed in interpreters that are managed by the distribution (PEP 668).
            return _run([python, "-m", "pip", "install", "--quiet", "--target", site_packages, "pip"])
    major, minor = interpreter.version
    raise SetupError(f"{interpreter} has no pip: run `apt-get install python3-pip python{major}.{minor}-venv`")


def install(level: str) -> None:
    say(f"installing worker-adapter[{EXTRAS[level]}] into .venv (a minute or two the first time)")
    began = time.monotonic()
    _run([str(VENV_PYTHON), "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{EXTRAS[level]}]"])
    say(f"installed in {time.monotonic() - began:.0f} s")


def say(text: str) -> None:
    print(f"set-up: {text}", file=sys.stderr, flush=True)


def _run(command: list[str]) -> None:
    """Run `command` with its output in the log; a failure shows the end of it."""
    log = LOG if LOG.parent.exists() else Path(os.devnull)
    with log.open("ab") as sink:
        try:
            ran = subprocess.run(
                command, stdout=sink, stderr=subprocess.STDOUT, env=_environment(), timeout=_COMMAND_TIMEOUT_S
            )
            failed = ran.returncode != 0
        except subprocess.TimeoutExpired:
            sink.write(f"given up after {_COMMAND_TIMEOUT_S} s\n".encode())
            failed = True
    if failed:
        lines = [line for line in _read(LOG).splitlines() if line.strip() and not line.startswith("WARNING")]
        raise SetupError("\n".join([f"`{' '.join(command)}` failed:", *lines[-15:], f"(all of it: {LOG})"]))


def _environment() -> dict[str, str]:
    # A caller's PYTHONPATH or `pip install --user` default would leak into the environment, or stop pip.
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_REQUIRE_VIRTUALENV": "0"}


def _works(python: str | Path, code: str) -> bool:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": _environment()}
    try:
        return subprocess.run([str(python), "-c", code], **quiet).returncode == 0  # type: ignore[call-overload,no-any-return]
    except OSError:
        return False


def _output(command: list[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, env=_environment()).stdout.decode().strip()


def _stamp(level: str) -> Path:
    return VENV / f"ready-{level}"


def _key() -> str:
    """What the environment depends on: the requirements, and where the checkout lies."""
    return hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

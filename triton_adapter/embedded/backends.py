"""Backends that a user has, beside the Python backend of the wheel, which is all that the wheel brings."""

from __future__ import annotations

import shutil
from pathlib import Path

from adapter_api.errors import ConfigurationError

_PYTHON_LIBRARY = "libtriton_python.so"
_OWN = "python"


def add_backends(folder: Path, into: Path, program: Path) -> None:
    """Put the backends in `folder`, one folder each, among those of the server that `program` is.

    A backend that is a `model.py`, as vLLM's is, runs in the Python backend's library and has to have a copy of it:
    Triton 2.51 refuses a link.

    Raises:
        ConfigurationError: There is no backend in the folder.
    """
    try:
        found = sorted(each for each in folder.absolute().iterdir() if each.is_dir())
    except OSError as exc:
        raise ConfigurationError(f"the backend directory {folder} cannot be read: {exc.strerror}") from exc
    if not found:
        raise ConfigurationError(f"there is no backend in {folder}: it needs a folder for each, as in {folder}/vllm")
    library = program.parent.parent / "backends" / _OWN / _PYTHON_LIBRARY
    for backend in found:
        if backend.name == _OWN:
            continue  # the wheel's is there already, and is that of its own server
        place = into / backend.name
        place.mkdir()
        for entry in backend.iterdir():
            if entry.name != _PYTHON_LIBRARY:
                (place / entry.name).symlink_to(entry)
        if (backend / "model.py").exists():
            shutil.copy(library, place / _PYTHON_LIBRARY)

"""Pictures by path, folders of them, and where what is drawn goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_api import ConfigurationError, InvalidRequest

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_WRITTEN = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are meant: each as it is named, and of a folder the pictures in it, by name.

    Raises:
        InvalidRequest: A folder has no pictures.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
        if not inside:
            raise InvalidRequest(f"there are no pictures in {path} ({', '.join(sorted(SUFFIXES))})")
        found += inside
    return found


class Target:
    """Where drawn pictures go: a file for one picture, a folder for several.

    Raises:
        ConfigurationError: It is no picture's name, or a picture that is read would be overwritten.
    """

    def __init__(self, path: Path, pictures: Sequence[Path], *, several: bool) -> None:
        self._is_folder = several or path.is_dir()
        self._path = path
        if not self._is_folder and path.suffix.lower() not in _WRITTEN:
            raise ConfigurationError(f"--out {path} ends in none of {', '.join(_WRITTEN)}")
        if self._is_folder and path.is_file():
            raise ConfigurationError(f"--out {path} is a file, and there are several pictures: give a folder")
        if len({each.stem for each in pictures}) < len(pictures) and self._is_folder:
            raise ConfigurationError("two pictures have the same name: draw them in calls of their own")
        read = {each.resolve() for each in pictures}
        for picture in pictures:
            if self.file(picture).resolve() in read:
                raise ConfigurationError(f"--out would overwrite {self.file(picture)}, which is read; give another")

    def file(self, picture: Path) -> Path:
        """Return where the drawn `picture` goes."""
        return self._path / f"{picture.stem}.png" if self._is_folder else self._path

    def write(self, picture: Path, drawn: Any) -> Path:
        """Write a Pillow image; raises `ConfigurationError` when it cannot be written."""
        file = self.file(picture)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            drawn.save(file, _WRITTEN[file.suffix.lower()])
        except OSError as exc:
            raise ConfigurationError(f"cannot write {file}: {exc.strerror or exc}") from exc
        return file

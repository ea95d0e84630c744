"""Files that are read again when they change: a token is rotated, a certificate renewed, and nothing is restarted."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from adapter_api import ConfigurationError

_LOOK_EVERY_S = 1.0


class WatchedFiles:
    """Says whether files changed since they were last read; looks at the disk at most once a second."""

    def __init__(self, *paths: Path | None) -> None:
        self._paths = tuple(path for path in paths if path is not None)
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._looked = float("-inf")

    def changed(self) -> bool:
        """Return whether any file is not what it was at the last `mark`."""
        if not self._paths or monotonic() - self._looked < _LOOK_EVERY_S:
            return False
        self._looked = monotonic()
        return self._stamps() != self._seen

    def mark(self) -> None:
        """Remember the files as they are now."""
        self._seen = self._stamps()
        self._looked = monotonic()

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        stamps = []
        for path in self._paths:
            try:
                status = path.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(stamps)


class SecretFile:
    """A secret that stands in a file: one line of ASCII, as tokens and API keys are.

    Args:
        path: The file; it is read at once.
        setting: The name of the setting that names the file, for messages.

    Raises:
        ConfigurationError: The file cannot be read now. Later the last secret that was good stays until the file can.
    """

    def __init__(self, path: Path, *, setting: str) -> None:
        self._path = path
        self._setting = setting
        self._watch = WatchedFiles(path)
        self._value: str | None = None
        self._read()

    def value(self) -> str | None:
        """Return the secret as it is now; `None` as long as the file is empty."""
        if self._watch.changed():
            self._read()
        return self._value

    def _read(self) -> None:
        self._watch.mark()
        try:
            text = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as exc:
            if self._value is not None:
                return  # the file is being replaced: the old secret is good until the new one is there
            raise ConfigurationError(f"cannot read {self._setting} {str(self._path)!r}: {type(exc).__name__}") from exc
        if text:
            self._value = text

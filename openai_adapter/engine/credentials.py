"""Who we are to the engine: the headers that say so, with keys that may be replaced while we run."""

from __future__ import annotations

from adapter_kit.secret_file import SecretFile
from openai_adapter.settings import OpenAISettings


class Credentials:
    """The headers that go with every request.

    Raises:
        ConfigurationError: The file with the key cannot be read.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings = settings
        self._file = (
            None if settings.api_key_file is None else SecretFile(settings.api_key_file, setting="api_key_file")
        )

    def headers(self) -> list[tuple[str, str]]:
        """Return them as they are now."""
        settings = self._settings
        found = [("User-Agent", "worker-adapter")]
        key = self._key()
        if key:
            found.append(("Authorization", f"Bearer {key}"))
        for name, value in (("OpenAI-Organization", settings.organization), ("OpenAI-Project", settings.project)):
            if value is not None:
                found.append((name, value))
        return found + [(name, secret.get_secret_value()) for name, secret in settings.headers.items()]

    def secrets(self) -> list[str]:
        """Return what no message may show."""
        own = [secret.get_secret_value() for secret in self._settings.headers.values()]
        key = self._key()
        return [*own, key] if key else own

    @property
    def known(self) -> bool:
        """Whether there is a key."""
        return bool(self._key())

    def _key(self) -> str | None:
        if self._file is not None:
            return self._file.value()
        return None if self._settings.api_key is None else self._settings.api_key.get_secret_value()

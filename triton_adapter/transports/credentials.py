"""What every call carries to be let in: the restricted-protocol key and the bearer token, as metadata or headers."""

from __future__ import annotations

from adapter_kit.secret_file import SecretFile
from triton_adapter.settings import TritonSettings

Entries = tuple[tuple[str, str], ...]


class Metadata:
    """What goes with every call; a token file is read again when it changes.

    Args:
        settings: Who we are.
        restricted_prefix: What stands before the key of a restricted protocol: over gRPC Triton wants one.
    """

    def __init__(self, settings: TritonSettings, *, restricted_prefix: str = "triton-grpc-protocol-") -> None:
        restricted, bearer, path = settings.restricted_token, settings.bearer_token, settings.bearer_token_file
        self._fixed: Entries = ()
        if restricted is not None:
            self._fixed = ((f"{restricted_prefix}{restricted.key.lower()}", restricted.value.get_secret_value()),)
        self._file = SecretFile(path, setting="bearer_token_file") if bearer is None and path is not None else None
        self._token = bearer.get_secret_value() if bearer is not None else None
        self._entries = self._joined()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the tokens by themselves."""
        return tuple(value.removeprefix("Bearer ") for _, value in self._entries)

    def entries(self) -> Entries:
        """Return the metadata as it is now."""
        if self._file is not None and self._file.value() != self._token:
            self._entries = self._joined()
        return self._entries

    def _joined(self) -> Entries:
        if self._file is not None:
            self._token = self._file.value()
        return self._fixed if self._token is None else (*self._fixed, ("authorization", f"Bearer {self._token}"))

"""Who may come in: API keys, what each may use, and how much of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from functools import lru_cache
from time import monotonic

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from orchestrator.config import ApiKeySettings, ServerSettings
from orchestrator.config.server import is_loopback
from orchestrator.http.header import header_of
from orchestrator.http.problems import Refused

OPEN_PATHS = frozenset({
    "/livez", "/readyz", "/health", "/health/ready", "/ping", "/v2/health", "/v2/health/live", "/v2/health/ready",
    "/docs", "/openapi.json",
})  # fmt: skip
"""Served without a key: they tell nothing but that the host is there."""


_LONGEST_SHOWN = 64
_SHOWN_OF_DIGEST = 8
"""Tells one key from another, and not what either is."""


class Bucket:
    """Lets `per_minute` units through per minute, a minute's worth at once at most. No I/O."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._then = clock()

    @property
    def most(self) -> int:
        """What it lets through at once at most."""
        return self._per_minute

    def wait_s(self, units: int = 1) -> float:
        """Return how long to wait before so much is left; 0 when it is."""
        now = self._clock()
        self._left = min(float(self._per_minute), self._left + (now - self._then) * self._per_minute / 60)
        self._then = now
        return 0.0 if self._left >= units else (units - self._left) * 60 / self._per_minute

    def take(self, units: float) -> None:
        """Count units that went through, more than there are if need be: the next ones wait longer then."""
        self.wait_s()
        self._left -= units


class Client:
    """Whoever sends a request: the owner of a key, or anybody on a host without keys."""

    def __init__(self, settings: ApiKeySettings | None, clock: Callable[[], float] = monotonic) -> None:
        self.name = settings.name if settings else None
        self.is_admin = settings is None or settings.admin
        self.may_watch = self.is_admin or (settings is not None and settings.watch)
        self._models = frozenset(settings.models) if settings else frozenset()
        requests = settings.requests_per_minute if settings else None
        tokens = settings.tokens_per_minute if settings else None
        self._requests = Bucket(requests, clock) if requests else None
        self._tokens = Bucket(tokens, clock) if tokens else None

    def may_use(self, model: str) -> bool:
        return not self._models or model in self._models

    def require_model(self, model: str) -> None:
        if not self.may_use(model):
            raise Refused("forbidden", f"this API key may not use model {model!r}; it may use {self._list_models()}")

    def require_admin(self) -> None:
        if not self.is_admin:
            raise Refused("forbidden", "this takes an API key with admin = true")

    def require_watch(self) -> None:
        """Raise `Refused` when the client may not see what the host and everybody's models are doing."""
        if not self.may_watch:
            raise Refused("forbidden", "this takes an API key with watch = true or admin = true")

    def count_request(self) -> None:
        """Count one task; raises `Refused` when the key has had its share of requests or tokens."""
        for bucket, what in ((self._requests, "requests"), (self._tokens, "tokens")):
            if bucket is not None and (wait_s := bucket.wait_s()) > 0:
                raise Refused(
                    "rate_limited",
                    f"this API key has used its {bucket.most} {what} per minute; wait {wait_s:.0f} s",
                    retry_after_s=wait_s,
                )
        if self._requests is not None:
            self._requests.take(1)

    def count_more(self, tasks: int, what: str = "answers") -> None:
        """Count further tasks of a request that was counted: all of them, or none; raises `Refused`, which says `what`
        they are."""
        bucket = self._requests
        if bucket is None or not tasks:
            return
        if tasks >= bucket.most:
            raise Refused(
                "rate_limited",
                f"this asks for {tasks + 1} {what}, each of which counts as a request, and this API key has "
                f"{bucket.most} per minute; ask for less at a time",
            )
        if bucket.wait_s(tasks) > 0:
            # Whoever comes again is counted again.
            raise Refused(
                "rate_limited",
                f"this asks for {tasks + 1} {what}, each of which counts as a request, and this API key has less left "
                "of its requests per minute; wait, or ask for less at a time",
                retry_after_s=bucket.wait_s(tasks + 1),
            )
        bucket.take(tasks)

    def count_tokens(self, tokens: int) -> None:
        if self._tokens is not None:
            self._tokens.take(tokens)

    def may_see(self, owner: str | None) -> bool:
        """Whether a task of that owner is this client's business."""
        return self.is_admin or owner == self.name

    def _list_models(self) -> str:
        return ", ".join(sorted(self._models))


class Guard:
    """Knows the keys, as digests only, and the names by which a host that has none may be called."""

    def __init__(self, settings: ServerSettings) -> None:
        self._clients = [(bytes.fromhex(key.sha256), Client(key)) for key in settings.api_keys]
        self._anybody = Client(None)
        # Where no key is needed, loopback is the only guard, and a page whose name was made to mean this machine
        # (https://en.wikipedia.org/wiki/DNS_rebinding) would come through it.
        is_guarded = bool(settings.api_keys) or not settings.is_loopback or settings.allow_anonymous
        is_open = is_guarded or "*" in settings.allowed_hosts
        self._hosts = None if is_open else frozenset(name.lower() for name in settings.allowed_hosts)

    def require_known_host(self, connection: HTTPConnection) -> None:
        """Raise `Refused` when the request calls the host by a name that is not its own."""
        if self._hosts is None or connection.scope["path"] in OPEN_PATHS:
            return
        named = header_of(connection.scope, b"host", "localhost")
        if not _means_loopback(named) and _host_of(named) not in self._hosts:
            raise Refused(
                "misdirected",
                f"this host is not called {named[:_LONGEST_SHOWN]!r}: without API keys it answers to localhost and "
                "addresses of this machine only; server.allowed_hosts lists more names",
            )

    def client_of(self, connection: HTTPConnection) -> Client:
        """Return who asks; raises `Refused` when a key is needed and missing, or is none of ours."""
        if not self._clients or connection.scope["path"] in OPEN_PATHS:
            return self._anybody
        key = _key_of(connection.headers)
        if key is None:
            raise Refused("api_key_missing", "send an API key, as in 'Authorization: Bearer <key>'")
        digest = hashlib.sha256(key).digest()
        found: Client | None = None
        for known, client in self._clients:  # all of them, each in constant time
            if hmac.compare_digest(known, digest):
                found = client
        if found is None:
            raise Refused(
                "api_key_unknown",
                "this API key is not known here",
                untold=f"its API key is not known here; the key's sha256 begins with {digest.hex()[:_SHOWN_OF_DIGEST]}",
            )
        return found


@lru_cache(maxsize=64)
def _means_loopback(header: str) -> bool:
    """Whether a `Host` header names this machine. Most requests of a host have the same one."""
    return is_loopback(_host_of(header))


def _host_of(header: str) -> str:
    """Return the name in a `Host` header, without its port and brackets, in lower case."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    name, _, port = name.partition(":")
    return name.removesuffix(".") if not port or port.isdigit() else ""


def _key_of(headers: Headers) -> bytes | None:
    if (key := headers.get("x-api-key")) is not None:
        return key.encode("latin-1")  # the bytes as they came
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":  # what a browser asks a person for; the password is the key
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2] or None
        except ValueError:  # binascii.Error is one; characters beyond ASCII raise it too
            return None
    return None

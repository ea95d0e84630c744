"""What a worker is told: by its caller, and by the variables that Dynamo's own workers read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from adapter_api import ConfigurationError

DISCOVERIES = ("etcd", "file", "mem", "kubernetes")
PLANES = ("tcp", "nats")
FACES = ("both", "tensor", "text")
_TRUE = frozenset({"1", "true", "yes", "on"})
_SLUG = re.compile(r"^[a-z0-9][a-z0-9_-]*$")


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker joins a cluster. What else Dynamo reads, such as `ETCD_ENDPOINTS`, `NATS_SERVER`, `DYN_LOG`,
    `DYN_FILE_KV` and `DYN_SYSTEM_PORT`, its runtime takes from the environment itself.

    models: the models to serve; all that the engine calls ready when empty.
    face: `both`, `tensor` or `text`: what models are registered for. To KServe clients a model with both is its
        tensors; one registered for text alone has the text tensors that Dynamo's frontend makes up.
    canary: whether Dynamo itself asks each endpoint how it is, when it was quiet (`DYN_HEALTH_CHECK_ENABLED`).
    interval_s: seconds between two looks at the engine.
    drain_s: seconds that what runs gets at the end.
    """

    namespace: str = "dynamo"
    component: str = "worker-adapter"
    discovery: str = "etcd"
    request_plane: str = "tcp"
    models: tuple[str, ...] = ()
    face: str = "both"
    canary: bool = False
    interval_s: float = 1.0
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("discovery", self.discovery, DISCOVERIES), ("request plane", self.request_plane, PLANES),
            ("face", self.face, FACES),
        ):  # fmt: skip
            if value not in known:
                raise ConfigurationError(f"the {name} is {value!r}; it must be one of {', '.join(known)}")
        for name, value in (("namespace", self.namespace), ("component", self.component)):
            if not _SLUG.match(value):
                raise ConfigurationError(f"the {name} is {value!r}; use lower-case letters, digits, - and _")
        if self.interval_s <= 0 or self.drain_s < 0:
            raise ConfigurationError("the interval must be above 0 seconds, and the time to drain not below")

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **given: Any) -> Self:
        """Return the settings in Dynamo's variables; what is given and not `None` wins.

        Raises:
            ConfigurationError: One is none of Dynamo's.
        """
        found: dict[str, Any] = {}
        for field, variables in (
            ("namespace", ("DYN_NAMESPACE",)),
            ("discovery", ("DYN_DISCOVERY_BACKEND", "DYN_STORE_KV")),
            ("request_plane", ("DYN_REQUEST_PLANE",)),
        ):
            value = next((environ[name] for name in variables if environ.get(name)), None)
            if value is not None:
                found[field] = value
        found["canary"] = environ.get("DYN_HEALTH_CHECK_ENABLED", "").lower() in _TRUE
        return cls(**{**found, **{name: value for name, value in given.items() if value is not None}})

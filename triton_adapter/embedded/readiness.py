"""Ask a Triton server over plain HTTP how it is; every question has a deadline."""

from __future__ import annotations

import http.client
import json
from typing import Any

from .ports import LOOPBACK


def is_ready(port: int, *, timeout_s: float = 2.0) -> bool:
    """Return whether the server on this port says that it and all its models are ready."""
    try:
        status, _ = _request("GET", port, "/v2/health/ready", timeout_s=timeout_s)
    except (OSError, http.client.HTTPException):
        return False
    return status == 200


def serves_metrics(port: int, *, timeout_s: float = 2.0) -> bool:
    """Return whether what listens on this port answers with Triton's metrics."""
    try:
        status, body = _request("GET", port, "/metrics", timeout_s=timeout_s)
    except (OSError, http.client.HTTPException):
        return False
    return status == 200 and b"nv_" in body


def version_if_ready(port: int) -> str | None:
    """Return the version of a server that is ready, as `is_ready` has it; `None` while it is not, or no more."""
    if not is_ready(port):
        return None
    try:
        _, body = _request("GET", port, "/v2", timeout_s=5.0)
    except (OSError, http.client.HTTPException):
        return None
    return str(json.loads(body)["version"])


def ready_models(port: int, *, timeout_s: float = 5.0) -> list[str]:
    """Return the names of the models that are loaded, sorted."""
    _, body = _request("POST", port, "/v2/repository/index", body='{"ready": true}', timeout_s=timeout_s)
    index: list[dict[str, Any]] = json.loads(body)
    return sorted({str(entry["name"]) for entry in index if entry.get("state") == "READY"})


def _request(method: str, port: int, path: str, *, timeout_s: float, body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()

"""Every control call as HTTP has it: method, path and JSON, for the messages that gRPC has. No I/O."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import msgspec
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from adapter_api import ProtocolViolation
from triton_adapter.transports.http.json_text import decode
from triton_adapter.wire import rpcs
from triton_adapter.wire import v2_pb2 as v2
from triton_adapter.wire.rpcs import RequestT, ResponseT, Rpc

_LISTS = frozenset({"trace_level"})
"""Trace settings that are a list of words, however many."""


@dataclass(frozen=True, slots=True)
class Question:
    """A control call, ready to go."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Route:
    ask: Callable[[Any], tuple[str, str, Any]]
    """Makes method, path and JSON of a message; no JSON for `None`."""
    read: Callable[[Any, type[Message]], Message]
    """Makes a message of JSON; what cannot be one is a `ParseError`, `TypeError` or `ValueError`."""
    flag: str = ""
    """The field that a success sets, and a 400 does not: the JSON says nothing."""


def model_path(model: str, version: str = "", then: str = "") -> str:
    """Return the path of a model, or of one of its versions, and of what is asked of it."""
    versioned = f"/versions/{quote(version, safe='')}" if version else ""
    return f"/v2/models/{quote(model, safe='')}{versioned}{then}"


def question(rpc: Rpc[RequestT, ResponseT], request: RequestT) -> Question:
    """Return the call that asks what `request` does."""
    method, path, value = _ROUTES[rpc.name].ask(request)
    return Question(method, path, b"" if value is None else msgspec.json.encode(value))


def is_flag(rpc: Rpc[RequestT, ResponseT]) -> bool:
    """Return whether the call asks for yes or no, which the status answers: 200 or 400."""
    return bool(_ROUTES[rpc.name].flag)


def answer(rpc: Rpc[RequestT, ResponseT], status: int, content_type: str, body: bytes | bytearray) -> ResponseT:
    """Return what a server answered, in gRPC's terms.

    Raises:
        ProtocolViolation: It is no answer to that question; the words lack whose it was.
    """
    route = _ROUTES[rpc.name]
    if content_type.startswith("text/html"):
        raise ProtocolViolation("a web page comes back; is it a server of the v2 protocol, or a proxy in front of it?")
    if route.flag:
        return rpc.response(**{route.flag: status < 300})
    try:
        value = decode(body) if body.strip() else {}
        return cast(ResponseT, route.read(value, rpc.response))
    except (ParseError, TypeError, ValueError, AttributeError, RecursionError):
        raise ProtocolViolation(
            f"the answer to {rpc.name} does not parse; is it a server of the v2 protocol?"
        ) from None


# -- what the messages look like in JSON ------------------------------------------------------------------------------


def _as_it_is(value: Any, kind: type[Message]) -> Message:
    return ParseDict(value, kind(), ignore_unknown_fields=True)


def _nothing(value: Any, kind: type[Message]) -> Message:
    return kind()


def _config(value: Any, kind: type[Message]) -> Message:
    return v2.ModelConfigResponse(config=ParseDict(value, v2.ModelConfig(), ignore_unknown_fields=True))


def _index(value: Any, kind: type[Message]) -> Message:
    return ParseDict({"models": value}, kind(), ignore_unknown_fields=True)


def _regions(value: Any, kind: type[Message]) -> Message:
    return ParseDict({"regions": {each["name"]: each for each in value}}, kind(), ignore_unknown_fields=True)


def _trace_settings(value: Any, kind: type[Message]) -> Message:
    made = v2.TraceSettingResponse()
    for key, said in value.items():
        made.settings[key].value.extend([str(each) for each in said] if isinstance(said, list) else [str(said)])
    return made


def _log_settings(value: Any, kind: type[Message]) -> Message:
    made = v2.LogSettingsResponse()
    for key, said in value.items():
        field = "bool_param" if isinstance(said, bool) else "uint32_param" if isinstance(said, int) else "string_param"
        setattr(made.settings[key], field, said)
    return made


def _of_server(path: str) -> Callable[[Message], tuple[str, str, Any]]:
    return lambda request: ("GET", path, None)


def _of_model(then: str = "") -> Callable[[Any], tuple[str, str, Any]]:
    return lambda request: ("GET", model_path(request.name, request.version, then), None)


def _statistics(request: v2.ModelStatisticsRequest) -> tuple[str, str, Any]:
    path = model_path(request.name, request.version, "/stats") if request.name else "/v2/models/stats"
    return "GET", path, None


def _list(request: v2.RepositoryIndexRequest) -> tuple[str, str, Any]:
    return "POST", "/v2/repository/index", {"ready": True} if request.ready else {}


def _load(request: v2.RepositoryModelLoadRequest) -> tuple[str, str, Any]:
    return "POST", _in_repository(request.model_name, "load"), _with_parameters(request)


def _unload(request: v2.RepositoryModelUnloadRequest) -> tuple[str, str, Any]:
    return "POST", _in_repository(request.model_name, "unload"), _with_parameters(request)


def _in_repository(model: str, then: str) -> str:
    return f"/v2/repository/models/{quote(model, safe='')}/{then}"


def _with_parameters(request: v2.RepositoryModelLoadRequest | v2.RepositoryModelUnloadRequest) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for key, parameter in request.parameters.items():
        value = getattr(parameter, parameter.WhichOneof("choice") or "string_param")
        parameters[key] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    return {"parameters": parameters} if parameters else {}


def _register(request: v2.SystemSharedMemoryRegisterRequest) -> tuple[str, str, Any]:
    fields = {"key": request.key, "offset": request.offset, "byte_size": request.byte_size}
    return "POST", _region(request.name, "register"), fields


def _unregister(request: v2.SystemSharedMemoryUnregisterRequest) -> tuple[str, str, Any]:
    return "POST", _region(request.name, "unregister"), {}


def _region(name: str, then: str) -> str:
    named = f"/region/{quote(name, safe='')}" if name else ""
    return f"/v2/systemsharedmemory{named}/{then}"


def _trace(request: v2.TraceSettingRequest) -> tuple[str, str, Any]:
    path = f"{model_path(request.model_name) if request.model_name else '/v2'}/trace/setting"
    changes = {key: _trace_value(key, list(entry.value)) for key, entry in request.settings.items()}
    return ("POST", path, changes) if changes else ("GET", path, None)


def _trace_value(key: str, values: list[str]) -> list[str] | str | None:
    if not values:
        return None  # back to what it was
    return values if key in _LISTS or len(values) > 1 else values[0]


def _log(request: v2.LogSettingsRequest) -> tuple[str, str, Any]:
    changes = {
        key: getattr(entry, choice)
        for key, entry in request.settings.items()
        if (choice := entry.WhichOneof("choice")) is not None
    }
    return ("POST", "/v2/logging", changes) if changes else ("GET", "/v2/logging", None)


_ROUTES: dict[str, _Route] = {
    rpcs.SERVER_LIVE.name: _Route(_of_server("/v2/health/live"), _nothing, "live"),
    rpcs.SERVER_READY.name: _Route(_of_server("/v2/health/ready"), _nothing, "ready"),
    rpcs.SERVER_METADATA.name: _Route(_of_server("/v2"), _as_it_is),
    rpcs.MODEL_READY.name: _Route(_of_model("/ready"), _nothing, "ready"),
    rpcs.MODEL_METADATA.name: _Route(_of_model(), _as_it_is),
    rpcs.MODEL_CONFIG.name: _Route(_of_model("/config"), _config),
    rpcs.MODEL_STATISTICS.name: _Route(_statistics, _as_it_is),
    rpcs.REPOSITORY_INDEX.name: _Route(_list, _index),
    rpcs.MODEL_LOAD.name: _Route(_load, _nothing),
    rpcs.MODEL_UNLOAD.name: _Route(_unload, _nothing),
    rpcs.SHM_STATUS.name: _Route(_of_server("/v2/systemsharedmemory/status"), _regions),
    rpcs.SHM_REGISTER.name: _Route(_register, _nothing),
    rpcs.SHM_UNREGISTER.name: _Route(_unregister, _nothing),
    rpcs.TRACE_SETTING.name: _Route(_trace, _trace_settings),
    rpcs.LOG_SETTINGS.name: _Route(_log, _log_settings),
}

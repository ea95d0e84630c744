"""What the server tells about itself and its models, as protocol messages."""

from __future__ import annotations

from triton_adapter.wire import v2_pb2 as v2

from .admission import datatype_name
from .core import Core
from .failure import TritonFailure
from .incoming import requested_version
from .serving import Serving

LOG_SETTINGS: dict[str, bool | int | str] = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
TRACE_SETTINGS: dict[str, list[str]] = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "log_frequency": ["0"],
    "trace_file": [""],
    "trace_mode": ["triton"],
}


def server_metadata(core: Core) -> v2.ServerMetadataResponse:
    return v2.ServerMetadataResponse(name=core.name, version=core.version, extensions=core.extensions)


def model_metadata(core: Core, name: str, version: str) -> v2.ModelMetadataResponse:
    serving, _ = core.find(name, requested_version(version))
    config = serving.config
    made = v2.ModelMetadataResponse(
        name=name, versions=[str(known) for known in serving.versions], platform=config.platform or config.backend
    )
    for declared, into in ((config.input, made.inputs), (config.output, made.outputs)):
        for tensor in declared:
            shape = [*([-1] if config.max_batch_size else []), *tensor.dims]
            into.add(name=tensor.name, datatype=datatype_name(tensor.data_type), shape=shape)
    return made


def model_config(core: Core, name: str, version: str) -> v2.ModelConfigResponse:
    serving, _ = core.find(name, requested_version(version))
    return v2.ModelConfigResponse(config=serving.config)


def repository_index(core: Core, *, ready: bool) -> v2.RepositoryIndexResponse:
    made = v2.RepositoryIndexResponse()
    if not core.lists_models:
        return made
    for name, serving in sorted(core.servings.items()):
        state, reason = serving.shown_state
        if ready and state != "READY":
            continue
        for version in serving.versions if state else ("",):
            made.models.add(name=name, version=str(version), state=state, reason=reason)
    return made


def model_statistics(core: Core, name: str, version: str) -> v2.ModelStatisticsResponse:
    asked = requested_version(version)
    if not name:
        servings = [serving for _, serving in sorted(core.servings.items()) if serving.state == "READY"]
    else:
        found = core.servings.get(name)
        if found is None or found.state != "READY":
            raise TritonFailure("INVALID_ARGUMENT", f"requested model '{name}' is not available")
        if asked is not None and asked not in found.versions:
            raise TritonFailure("INVALID_ARGUMENT", f"requested model version is not available for model '{name}'")
        servings = [found]
    made = v2.ModelStatisticsResponse()
    for serving in servings:
        for known in serving.versions:
            if asked is None or asked == known:
                made.model_stats.append(_statistics(serving, known))
    return made


def _statistics(serving: Serving, version: int) -> v2.ModelStatistics:
    made = v2.ModelStatistics(name=serving.name, version=str(version))
    for field in v2.InferStatistics.DESCRIPTOR.fields:
        # Present, although nothing is timed here.
        getattr(made.inference_stats, field.name).SetInParent()
    if version == serving.versions[-1]:
        made.last_inference = serving.last_inference_ms
        made.inference_count = made.execution_count = serving.succeeded
        made.inference_stats.success.count = serving.succeeded
        made.inference_stats.fail.count = serving.failed
    return made

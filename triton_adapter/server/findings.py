"""What is wrong with a server or a model, or will surprise somebody, told from what they declare.

Versions are the server's own: its container 26.01 is 2.65, and so on by the month.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import inf

from adapter_api import CancelMode, Capability, Finding
from adapter_api.tensors import ITEM_SIZE
from adapter_kit.told_apart import calls_told
from triton_adapter.schema import ModelSchema, Version, parse_version
from triton_adapter.settings import ModelOverride, TritonSettings
from triton_adapter.transports.base import Traits

_NO_OVERRIDE = ModelOverride()
_CANCELS_ARE_SAFE: Version = (2, 59)
_READERS_SLOW_MODELS_DOWN: Version = (2, 56)
_MODELS_NOTICE_DEAD_PROCESSES: Version = (2, 65)
_SHARED_MEMORY_IS_OFF: Version = (2, 69)
_CERTIFICATE_WARNING_S = 14 * 86400
_IN_A_PROCESS_OF_THEIR_OWN = frozenset({"python", "vllm"})


def server_findings(
    name: str,
    version: str,
    settings: TritonSettings,
    *,
    refusal: str = "",
    certificate_expires_at: float | None = None,
    carried_by: str = "h2",
) -> tuple[Finding, ...]:
    """Return what there is to say of a server: who it is, how old, and how it is reached.

    Args:
        name: What it calls itself.
        version: As it tells it.
        settings: How it is reached.
        refusal: Why it does not say who it is, when it refuses to.
        certificate_expires_at: When our certificate ends, if there is one; seconds since the epoch.
        carried_by: What carries the calls, and why.
    """
    return (
        *_of_certificate(certificate_expires_at),
        *_of_server(name, version, settings, refusal),
        *_of_transport(carried_by),
    )


def listing_findings(why_not: str, *, empty: bool, asked: int, described: int) -> tuple[Finding, ...]:
    """Return what there is to say of the list of models: that there is none, or that it is long.

    Args:
        why_not: Why the server does not tell which models it has; empty when it does.
        empty: It tells, and tells of none.
        asked: How many models are known.
        described: How many of them were asked what they declare.
    """
    found = []
    if why_not:
        found.append(Finding(
            severity="hint", topic="model",
            message=f"it does not tell which models it has: {why_not}",
            advice="" if asked else
            "name the model you want: `-o model=NAME` here, `models = [\"NAME\"]` in a pool"
            + ("; or load one, if there should be some" if empty else ""),
        ))  # fmt: skip
    if described < asked:
        found.append(Finding(
            severity="hint", topic="model",
            message=f"it has {asked} models: {described} were asked what they take, the others are listed by name",
            advice="name the one you want with `-o model=NAME`: it is asked first",
        ))  # fmt: skip
    return tuple(found)


def model_findings(
    schema: ModelSchema,
    capabilities: frozenset[Capability],
    server_version: str,
    *,
    reason: str,
    failure: str | None,
    mode: CancelMode,
    traits: Traits,
    shares_memory: bool = False,
    override: ModelOverride = _NO_OVERRIDE,
) -> tuple[Finding, ...]:
    """Return what there is to say of a model.

    Args:
        schema: What it declares.
        capabilities: What it can do.
        server_version: As the server tells it.
        reason: Why it speaks its dialect, or none.
        failure: What its last request came to, when that makes it untrustworthy.
        mode: What cancelling a call to it does.
        traits: What the way to it can do.
        shares_memory: Whether shared memory is asked for.
        override: What the settings say of it.
    """
    return (
        *_of_failure(failure),
        *_of_text(schema, capabilities, reason),
        *_of_calls(override),
        *_of_cancels(schema, mode, traits),
        *_of_way(schema, capabilities, traits),
        *_of_determinism(schema),
        *_of_queue(schema),
        *(_of_open_outputs(schema) if shares_memory else ()),
        *_of_process(schema, parse_version(server_version)),
    )


def _of_calls(override: ModelOverride) -> Iterator[Finding]:
    if override.chat_template is None or not override.template.takes_tools:
        return
    told = calls_told(override.tool_parser, override.template)
    yield Finding(
        severity="hint" if told.advice is None else "warning",
        topic="model",
        message=f"tool calls in its text are read as {told.name or 'none'}: {told.why}",
        advice=told.advice or "",
    )


def _of_certificate(ends: float | None) -> Iterator[Finding]:
    left_s = inf if ends is None else ends - time.time()
    if ends is None or left_s > _CERTIFICATE_WARNING_S:
        return
    over = left_s <= 0
    yield Finding(
        severity="error" if over else "warning", topic="security",
        message=f"our certificate (`tls.cert_file`) {'ended' if over else 'ends'} on "
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(ends))}",
        advice="renew it: new files are taken as soon as they are there, without a restart",
    )  # fmt: skip


def _of_transport(carried_by: str) -> Iterator[Finding]:
    if carried_by.startswith("grpcio"):
        yield Finding(
            severity="hint", topic="health",
            message=f"gRPC goes by {carried_by}, not by our own HTTP/2: a token costs several times as much CPU",
            advice="name the engine's host in no_proxy if the proxy is not needed"
            if "proxy" in carried_by else "leave `transport` at `auto` unless something speaks against it",
        )  # fmt: skip


def _of_server(name: str, version: str, settings: TritonSettings, refusal: str) -> Iterator[Finding]:
    address = settings.address
    if not address.tls and not address.loopback:
        secrets = settings.bearer_token or settings.bearer_token_file or settings.restricted_token
        yield Finding(
            severity="warning", topic="security",
            message=f"{address} is plaintext and not on this machine: prompts, answers"
            f"{' and the token' if secrets else ''} travel in the clear",
            advice="start the server with --grpc-use-ssl=true and use grpcs://, or put a TLS proxy in front of it"
            if address.way == "grpc"
            else "put a TLS proxy in front of the server, whose HTTP has none, and use https+v2://",
        )  # fmt: skip
    if refusal:
        yield Finding(severity="hint", topic="version", message=f"the server refuses to say who it is: {refusal}")
        return
    if name != "triton":
        yield Finding(
            severity="hint", topic="version",
            message=f"the server calls itself {name}, not triton" if name else "the server does not say who it is",
            advice="what only Triton has, such as streams and model control, may be missing",
        )  # fmt: skip
        return
    numbers = parse_version(version)
    if numbers is None:
        return
    if numbers < _CANCELS_ARE_SAFE:
        yield Finding(
            severity="hint", topic="version",
            message=f"a burst of cancels or very short timeouts can crash a server before 2.59; this one is {version}",
            advice="update to 25.06 or later; until then `max_concurrent_cancels` bounds how many go out at once",
        )  # fmt: skip
    if numbers < _READERS_SLOW_MODELS_DOWN:
        yield Finding(
            severity="hint", topic="version",
            message=f"a slow reader makes a server before 2.56 keep what it did not read in memory; this is {version}",
            advice="update to 25.03 or later and set --grpc-max-response-pool-size, or read streams promptly",
        )  # fmt: skip
    if numbers >= _SHARED_MEMORY_IS_OFF and settings.shared_memory:
        yield Finding(
            severity="hint", topic="version",
            message=f"shared memory is asked for, and servers from 2.69 on refuse it by default; this one is {version}",
            advice="start the server with --allow-client-shm=true; tensors go over the wire otherwise",
        )  # fmt: skip


def _of_failure(failure: str | None) -> Iterator[Finding]:
    if failure is not None:
        yield Finding(
            severity="error", topic="health",
            message=f"the server calls it ready, but its last request failed: {failure}",
            advice="unload and load the model, or restart the server: a model's process that died stays dead",
        )  # fmt: skip


def _of_text(schema: ModelSchema, capabilities: frozenset[Capability], reason: str) -> Iterator[Finding]:
    if Capability.TEXT not in capabilities:
        # The reason says what to do as well.
        yield Finding(severity="hint", topic="model", message=reason)
        return
    if not schema.decoupled and Capability.STREAMING not in capabilities:
        yield Finding(
            severity="hint", topic="model",
            message="its text comes in one piece at the end, because the model is not decoupled"
            if schema.configured else "its text comes in one piece at the end, because this server answers once",
            advice="set `model_transaction_policy { decoupled: true }` if the model can stream"
            if schema.configured else "",
        )  # fmt: skip
    if not capabilities & {Capability.FINISH_REASON, Capability.USAGE}:
        old = "sampling_parameters" in schema.inputs
        yield Finding(
            severity="hint", topic="model",
            message="it tells neither why it stopped nor how many tokens that took: finish_reason is `unknown`",
            advice="the vLLM backend tells from 24.12 on" if old else "",
        )  # fmt: skip


def _of_cancels(schema: ModelSchema, mode: CancelMode, traits: Traits) -> Iterator[Finding]:
    if mode != "client_only":
        return
    if schema.scheduling == "ensemble":
        why = f"an ensemble does not hand a cancel to its members ({', '.join(schema.ensemble_steps)})"
    elif schema.is_bls:
        why = "a BLS model's child requests do not see that their parent was cancelled"
    elif not traits.stops_single_answers and not schema.decoupled:
        why = f"over {traits.called} a server does not look whether anybody still waits for a single answer"
    elif not schema.backend:
        why = "the server does not tell what runs the model, so nothing is promised"
    else:
        why = f"the {schema.backend} backend finishes what it has begun"
    yield Finding(
        severity="warning" if schema.decoupled else "hint", topic="cancel",
        message=f"a cancel may not reach what computes: {why}",
        advice="bound the work with max_tokens; the slot counts as busy until the engine is done"
        if schema.decoupled else "",
    )  # fmt: skip


def _of_way(schema: ModelSchema, capabilities: frozenset[Capability], traits: Traits) -> Iterator[Finding]:
    why = traits.lacks.get(Capability.TENSOR_STREAM)
    if why is not None and schema.decoupled and Capability.TEXT not in capabilities:
        yield Finding(
            severity="warning", topic="model",
            message=f"its responses stream, and cannot be read over {traits.called}: {why}",
            advice="use gRPC (grpc://, Triton's port 8001)",
        )  # fmt: skip


def _of_determinism(schema: ModelSchema) -> Iterator[Finding]:
    if schema.scheduling == "dynamic_batching" and schema.max_batch_size > 1:
        yield Finding(
            severity="hint", topic="determinism",
            message="dynamic batching puts requests together as they come, and a batch's size can change results",
            advice="set max_batch_size to 1 or leave out dynamic_batching where results must repeat to the bit",
        )  # fmt: skip
    if schema.instance_count > 1:
        yield Finding(
            severity="hint", topic="determinism",
            message=f"{schema.instance_count} instances take turns, and each may have state and a seed of its own",
            advice="set instance_group count to 1 where results must repeat to the bit",
        )  # fmt: skip


def _of_queue(schema: ModelSchema) -> Iterator[Finding]:
    if schema.scheduling == "dynamic_batching" and not schema.max_queue_size:
        yield Finding(
            severity="hint", topic="overload",
            message="its queue has no bound: what is too much waits instead of being refused",
            advice="set dynamic_batching.default_queue_policy.max_queue_size",
        )  # fmt: skip


def _of_open_outputs(schema: ModelSchema) -> Iterator[Finding]:
    sized = [spec for spec in schema.outputs.values() if spec.datatype in ITEM_SIZE]
    names = [spec.name for spec in sized if min(spec.dims, default=0) < 0]
    if names:
        yield Finding(
            severity="hint", topic="model",
            message=f"the size of {', '.join(names)} is not known before the answer, which shared memory needs",
            advice="state it in the request, as in RequestedOutput(name, shape=…); else it goes over the wire",
        )  # fmt: skip


def _of_process(schema: ModelSchema, version: Version | None) -> Iterator[Finding]:
    runs_apart = schema.backend in _IN_A_PROCESS_OF_THEIR_OWN
    if runs_apart and version is not None and version < _MODELS_NOTICE_DEAD_PROCESSES:
        yield Finding(
            severity="hint", topic="health",
            message="the server goes on calling it ready if its Python process dies, and streams then hang",
            advice="update to 26.01 or later; the adapter's stall deadline and a canary notice it meanwhile",
        )  # fmt: skip

"""What an engine tells of itself beside its models: version, what its API takes, how much it works on at once.

Every question is optional; each engine answers some. Nothing here is known by an engine's name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from adapter_api import Capability
from openai_adapter.engine.questions import Answer, Questions
from openai_adapter.wire.request import Kind, Takes, is_llama_cpp

_SERVER = re.compile(r"^[A-Za-z][\w.+ -]{0,40}(?:/[\w.+-]{1,40})?")
_GENERIC = re.compile(
    r"uvicorn|hypercorn|granian|gunicorn|nginx|envoy|cloudflare|caddy|apache|openresty|haproxy|traefik|werkzeug|h11"
    r"|python|tornado|aiohttp|awselb|kestrel|istio",
    re.IGNORECASE,
)
_COUNTERS = {
    "running": (
        "vllm:num_requests_running", "sglang:num_running_reqs", "tgi_batch_current_size",
        "llamacpp:requests_processing",
    ),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "tgi_queue_size", "llamacpp:requests_deferred"),
}  # fmt: skip
_TOTALS = ("total_slots", "max_concurrent_requests", "max_running_requests", "max_num_seqs")
_VERSION_LENGTH = 100
_FIELD_OF = {
    Capability.TOKEN_IDS: "return_token_ids", Capability.CONTINUE_FINAL_MESSAGE: "continue_final_message",
    Capability.PROMPT_LOGPROBS: "prompt_logprobs",
}  # fmt: skip


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the engine; `None` and nothing where it does not say."""

    name: str = ""
    version: str | None = None
    takes: Takes = Takes()
    paths: frozenset[str] | None = None
    """Paths of its API, where it describes that."""
    slots_total: int | None = None
    sees_images: bool | None = None

    def tells(self, capability: Capability, kind: Kind | None = None) -> bool | None:
        """Return whether the engine can do something by what its API takes, for one kind of request or for any; `None`
        where it does not tell.

        What engines drop in silence when they do not know it has to be in their own description.
        """
        if capability in (Capability.IMAGES, Capability.IMAGE_URLS):
            return self.sees_images
        if capability is Capability.PROMPT_TOKEN_IDS:
            return self.takes.prompt_ids
        field = _FIELD_OF.get(capability)
        if field is None:
            return None
        kinds: tuple[Kind, ...] = ("chat", "completion") if kind is None else (kind,)
        return any(field in (self.takes.fields(each) or ()) for each in kinds)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How much it works on now."""

    running: int | None = None
    waiting: int | None = None
    free: int | None = None


async def ask_facts(questions: Questions, root: str, api: str) -> Facts:
    """Ask the engine who it is. Raises nothing: what it does not answer is not known."""
    version, props, info, server_info, description = await asyncio.gather(
        *(
            questions.ask_optional(root + path)
            for path in ("/version", "/props", "/info", "/get_server_info", "/openapi.json")
        )
    )
    told = [answer.record() for answer in (version, props, info, server_info) if answer is not None]
    schema = {} if description is None else description.record()
    paths = _paths(schema)
    sampling = _sampling(told)
    prompt_ids = True if is_llama_cpp(sampling) else _takes_ids(schema, f"{api}/completions")
    takes = Takes(
        _fields(schema, f"{api}/chat/completions"), _fields(schema, f"{api}/completions"), sampling, prompt_ids
    )
    heads = [answer.headers.get("server", "") for answer in (version, props, info, description) if answer is not None]
    return Facts(
        name=next((name for head in heads if (name := _engine_name(head))), ""),
        version=_version(told),
        takes=takes,
        paths=paths,
        slots_total=next((value for record in told for name in _TOTALS if (value := _count(record.get(name)))), None),
        sees_images=_sees_images(told),
    )


async def ask_load(questions: Questions, root: str, *, timeout_s: float) -> Load:
    """Ask the engine what it works on now; raises nothing."""
    slots, metrics = await asyncio.gather(
        questions.ask_optional(f"{root}/slots", timeout_s=timeout_s),
        questions.ask_optional(f"{root}/metrics", timeout_s=timeout_s),
    )
    busy = _busy_slots(slots)
    counters = {} if metrics is None else _read_counters(bytes(metrics.body).decode(errors="replace"))
    if busy is None:
        return Load(running=counters.get("running"), waiting=counters.get("waiting"))
    return Load(running=sum(busy), waiting=counters.get("waiting"), free=busy.count(False))


def _busy_slots(answer: Answer | None) -> list[bool] | None:
    slots = None if answer is None else answer.json()
    if not isinstance(slots, list) or not slots:
        return None
    found = [slot.get("is_processing") for slot in slots if isinstance(slot, dict)]
    return [bool(each) for each in found] if len(found) == len(slots) and None not in found else None


def _read_counters(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in text.splitlines():
        name = re.split(r"[\s{]", line, maxsplit=1)[0]
        for what, names in _COUNTERS.items():
            if name in names:
                try:
                    value = int(float(line.rsplit("}", 1)[-1].removeprefix(name).split()[0]))
                except (ValueError, IndexError, OverflowError):
                    continue
                found[what] = found.get(what, 0) + max(value, 0)
    return found


def _version(told: list[dict[str, Any]]) -> str | None:
    for record in told:
        for name in ("version", "build_info"):
            value = record.get(name)
            if isinstance(value, str) and 0 < len(value) <= _VERSION_LENGTH and value.isprintable():
                return value
    return None


def _engine_name(head: str) -> str:
    found = _SERVER.match(head)
    return found[0].strip() if found and not _GENERIC.search(head) else ""


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 10**9 else None


def _sees_images(told: list[dict[str, Any]]) -> bool | None:
    for record in told:
        modalities = record.get("modalities")
        if isinstance(modalities, dict) and isinstance(sees := modalities.get("vision"), bool):
            return sees
    return None


def _sampling(told: list[dict[str, Any]]) -> frozenset[str] | None:
    """Return the names of the sampling parameters that the engine shows with its defaults."""
    for record in told:
        defaults = record.get("default_generation_settings")
        if isinstance(defaults, dict):
            shown = defaults.get("params", defaults)
            if isinstance(shown, dict) and "temperature" in shown:
                return frozenset(str(name) for name in shown)
    return None


def _paths(schema: dict[str, Any]) -> frozenset[str] | None:
    paths = schema.get("paths")
    return frozenset(str(path) for path in paths) if isinstance(paths, dict) and paths else None


def _fields(schema: dict[str, Any], path: str) -> frozenset[str] | None:
    """Return the fields that a description in OpenAPI gives the body of a request to `path`; `None` without them."""
    fields = frozenset(name for node in _body(schema, path) for name in _properties(node))
    return fields if "model" in fields and fields & {"messages", "prompt"} else None


def _takes_ids(schema: dict[str, Any], path: str) -> bool | None:
    """Return whether a prompt may be a list of whole numbers, as a description says it; `None` where it does not."""
    forms = [
        form
        for node in _body(schema, path)
        if "prompt" in (fields := _properties(node))
        for form in _alternatives(schema, fields["prompt"], 8)
        if "type" in form
    ]
    lists = [form.get("items") for form in forms if form["type"] == "array"]
    return any(isinstance(each, dict) and each.get("type") == "integer" for each in lists) if forms else None


def _body(schema: dict[str, Any], path: str) -> list[dict[str, Any]]:
    node: Any = schema
    for step in ("paths", path, "post", "requestBody", "content", "application/json", "schema"):
        node = node.get(step) if isinstance(node, dict) else None
    return list(_alternatives(schema, node, 8))


def _properties(node: dict[str, Any]) -> dict[str, Any]:
    properties = node.get("properties")
    return {str(name): each for name, each in properties.items()} if isinstance(properties, dict) else {}


def _alternatives(schema: dict[str, Any], node: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield what a schema is made of: itself, what it refers to, and each form that it may have."""
    if not isinstance(node, dict) or depth == 0:
        return
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        target: Any = schema
        for step in reference[2:].split("/"):
            target = target.get(step) if isinstance(target, dict) else None
        yield from _alternatives(schema, target, depth - 1)
        return
    yield node
    for name in ("allOf", "anyOf", "oneOf"):
        inner = node.get(name)
        for each in inner[:16] if isinstance(inner, list) else ():
            yield from _alternatives(schema, each, depth - 1)

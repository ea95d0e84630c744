"""What the engine is: its version, its models, what each of them can do as far as anybody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from adapter_api import Capability, EngineProps, ModelProps, TensorSpec
from openai_adapter.engine.engine import FACE_OF, Engine
from openai_adapter.engine.facts import Facts, ask_load
from openai_adapter.engine.listing import Card
from openai_adapter.server.findings import engine_findings, model_findings
from openai_adapter.wire.request import Kind

_ALWAYS = frozenset({Capability.STREAMING, Capability.STOP, Capability.USAGE, Capability.FINISH_REASON})
"""What the API itself brings, unless the server says otherwise; a stop string is cut here where the engine lets it
through."""
_BY_TRY = frozenset({
    Capability.IMAGES, Capability.IMAGE_URLS, Capability.TOOLS, Capability.REASONING, Capability.SEED,
    Capability.LOGPROBS,
    Capability.RESPONSE_FORMAT, Capability.CHAT_TEMPLATE_KWARGS, Capability.TENSORS, Capability.PROMPT_TOKEN_IDS,
    Capability.TOKEN_IDS, Capability.CONTINUE_FINAL_MESSAGE, Capability.PROMPT_LOGPROBS,
})  # fmt: skip
"""What depends on model and server, and what many take without heeding it."""
INPUT, INPUT_IDS, OUTPUT = "input", "input_ids", "embedding"
"""The tensors of an embedding: texts, or their tokens, and the vectors."""
_EMBEDDED = (TensorSpec(INPUT, "BYTES", (-1,), None), TensorSpec(INPUT_IDS, "INT64", (-1, -1), None))
_SHARE = 0.4


async def describe(engine: Engine) -> EngineProps:
    """Return the engine's properties; raises what its control calls raise."""
    listing, facts = await asyncio.gather(engine.listing(), engine.facts())
    load = await ask_load(engine.questions, engine.address.root, timeout_s=engine.settings.control_timeout_s * _SHARE)
    names = dict.fromkeys((*listing.names, *sorted(engine.wanted_models)))
    models = tuple(describe_model(engine, listing.card(name) or Card(name), facts) for name in names)
    total = engine.settings.slots or facts.slots_total
    free = load.free
    if free is None and total is not None:
        free = max(0, total - (engine.in_flight if load.running is None else load.running))
    return EngineProps(
        engine="openai",
        engine_version=await engine.version(),
        # Of models that nobody named, at least what the API itself brings.
        capabilities=_united(model.capabilities for model in models or (describe_model(engine, Card(""), facts),)),
        models=models,
        models_listed=listing.known and engine.settings.unlisted_models == "refuse",
        slots_total=total,
        slots_free=free,
        findings=engine_findings(engine, listing, facts),
        certificate_expires_at=engine.client.certificate_expires_at,
    )


async def describe_one(engine: Engine, model: str) -> ModelProps:
    """Return what is known of one model, asked for by name; raises `ModelNotFound` when it is not there."""
    await engine.require_model(model)
    listing, facts = await asyncio.gather(engine.listing(), engine.facts())
    return describe_model(engine, listing.card(model) or Card(model), facts)


def describe_model(engine: Engine, card: Card, facts: Facts) -> ModelProps:
    """Return what is known of one model."""
    told = None if card.capabilities is None else card.capabilities | card.uncertain
    if told is not None and told.isdisjoint(FACE_OF.values()):
        return _without_text(card)
    capabilities, uncertain = set(_ALWAYS), set[Capability]()
    if card.capabilities is not None:
        # A host has them from its engine, which may not say why it stopped, or not count.
        capabilities &= card.capabilities
        uncertain |= _ALWAYS & card.uncertain - capabilities
    for kind in FACE_OF:
        if told is not None and FACE_OF[kind] not in told:
            continue
        if _has_face(engine, facts, kind) and engine.learnt(card.name, FACE_OF[kind]) is not False:
            capabilities.add(FACE_OF[kind])
    for capability in _BY_TRY:
        has = _has(engine, card, facts, capability)
        if has:
            capabilities.add(capability)
        elif has is None:
            uncertain.add(capability)
    embeds = Capability.TENSORS in capabilities | uncertain
    return ModelProps(
        name=card.name,
        ready=card.ready,
        dialect="openai",
        dialect_reason="the engine speaks OpenAI's API",
        capabilities=frozenset(capabilities),
        uncertain=frozenset(uncertain),
        cancel_mode="on_next_chunk",
        max_tokens=card.context,
        inputs=_EMBEDDED if embeds else (),
        outputs=(TensorSpec(OUTPUT, "FP32", (-1, -1), None),) if embeds else (),
        findings=model_findings(frozenset(uncertain)),
    )


def _without_text(card: Card) -> ModelProps:
    return ModelProps(
        name=card.name,
        ready=card.ready,
        dialect_reason="its server lists it as a model of tensors",
        # Of text in, at best, as an embedding.
        uncertain=frozenset({Capability.TENSORS}),
        max_tokens=card.context,
    )


def _has_face(engine: Engine, facts: Facts, kind: Kind) -> bool:
    return _offers(engine, facts, "/chat/completions" if kind == "chat" else "/completions") is not False


def _offers(engine: Engine, facts: Facts, path: str) -> bool | None:
    """Return whether the API has a path; `None` where the engine does not describe it."""
    if facts.paths is None or f"{engine.address.api}/chat/completions" not in facts.paths:
        return None
    return engine.address.api + path in facts.paths


def _has(engine: Engine, card: Card, facts: Facts, capability: Capability) -> bool | None:
    """Return whether a model can do something; `None` where only a try can tell."""
    if capability in engine.settings.honours:
        return True
    learnt = engine.learnt(card.name, capability)
    if learnt is not None:
        return learnt
    if card.capabilities is not None and capability not in card.uncertain and capability is not Capability.TENSORS:
        return capability in card.capabilities
    if (told := facts.tells(capability)) is not None:
        return told
    if capability is Capability.PROMPT_TOKEN_IDS and not _has_face(engine, facts, "completion"):
        return False
    if capability is Capability.TENSORS and _offers(engine, facts, "/embeddings") is False:
        return False
    declared = facts.takes.chat
    # That an API has a field does not say that it is heeded; that it lacks one of another API than OpenAI's is certain.
    if (
        capability is Capability.CHAT_TEMPLATE_KWARGS
        and declared is not None
        and "chat_template_kwargs" not in declared
    ):
        return False
    return None


def _united(sets: Iterable[frozenset[Capability]]) -> frozenset[Capability]:
    return frozenset[Capability]().union(*sets)

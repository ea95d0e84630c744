"""A call to try on a host that has just started: one that a model of it can answer."""

from __future__ import annotations

import json
from urllib.parse import quote

from adapter_api import AdapterError, Capability
from orchestrator.host import Orchestrator
from orchestrator.pools.embedding import plan_of


def first_call(orchestrator: Orchestrator, url: str) -> str:
    """Return a command for a shell: a task for the first model that writes text, else what the first model there is
    can be asked for."""
    models = orchestrator.models()
    told = {name: found for name in models if (found := orchestrator.model_props(name)) is not None}
    for name, (_, props) in told.items():
        if Capability.TEXT in props.capabilities:
            return _post(f"{url}/v2/tasks", {"model": name, "prompt": "Hello", "max_tokens": 20}, "-N ")
    for name, (_, props) in told.items():
        if Capability.MESSAGES in props.capabilities:
            messages = [{"role": "user", "content": "Hello"}]
            return _post(f"{url}/v1/chat/completions", {"model": name, "messages": messages})
    for name, (pool, props) in told.items():
        try:
            plan_of(props, pool.embeddings, name)
        except AdapterError:
            continue
        return _post(f"{url}/v1/embeddings", {"model": name, "input": "Hello"})
    if models:  # of tensors, a detector for one: what it takes, which `infer` beside it wants
        return f"curl {url}/v2/models/{quote(models[0], safe='/')}"
    return f"curl {url}/v1/models"


def _post(url: str, body: dict[str, object], options: str = "") -> str:
    # Within single quotes a shell changes nothing; a quote itself is written as JSON has it.
    text = json.dumps(body).replace("'", "\\u0027")
    return f"curl {options}{url} -d '{text}'"

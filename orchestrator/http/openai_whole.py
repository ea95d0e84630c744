"""The answers of the OpenAI face that come whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from adapter_api import End, Output, TokenEvent
from orchestrator.http.openai_answers import Kind, ids_of, prompt_logprobs_of, scores_of, usage_of, whole_choice
from orchestrator.http.openai_choices import usage_of_all
from orchestrator.http.openai_requests import Asked

_NOT_TOLD = {"service_tier": None, "system_fingerprint": None}
"""What clients look for in an answer, and no engine's is known here."""
_OBJECT = {"chat": "chat.completion", "text": "text_completion"}


def whole_body(
    kind: Kind, name: str, asked: Asked, events: Sequence[Sequence[TokenEvent]], ends: Sequence[End]
) -> dict[str, Any]:
    """Return the answer with the `name`, of the events and the end of each choice."""
    body: dict[str, Any] = {
        "id": name,
        "object": _OBJECT[kind],
        "created": int(time.time()),
        "model": asked.task.model,
        "choices": [_choice(kind, asked, *each) for each in zip(range(len(ends)), events, ends, strict=True)],
        "usage": usage_of(usage_of_all([end.usage for end in ends], asked.n)),
        **_NOT_TOLD,
    }
    if kind == "chat":  # the prompt is all choices'
        if asked.task.return_token_ids:
            body["prompt_token_ids"] = ids_of(events[0])[0]
        if asked.shows_scores:
            body["prompt_logprobs"] = scores_of(prompt_logprobs_of(events[0]))
    return body


def _choice(kind: Kind, asked: Asked, index: int, events: Sequence[TokenEvent], end: End) -> dict[str, Any]:
    task, scored = asked.tasks[index], prompt_logprobs_of(events)
    shown = [event for event in events if not isinstance(event, Output)] if asked.only_prompt else events
    choice = whole_choice(
        kind, shown, end, logprobs=task.logprobs is not None, index=index,
        echo=asked.echo_of(task, scored), prompt=scored if asked.echo else (), role=asked.role,
    )  # fmt: skip
    if task.return_token_ids:
        prompt, choice["token_ids"] = ids_of(events)
        if kind == "text":
            choice["prompt_token_ids"] = prompt
    if kind == "text" and asked.shows_scores:
        choice["prompt_logprobs"] = scores_of(scored)
    return choice

"""What a client sees of an answer, and where two of them differ. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx

_OF_ONE_ANSWER = frozenset({"id", "created", "created_at", "completed_at", "system_fingerprint", "item_id"})
_OURS = frozenset({"reasoning_content"})
"""Said beside vLLM's own word for it."""


def seen(answer: httpx.Response) -> dict[str, Any]:
    """Return what a client sees: status and body, without what is of this one answer only.

    A stream is what clients make of it: text, calls and end of each choice, and how it began and ended. Keys with null
    are left out: they are vLLM's way to say nothing.
    """
    found: dict[str, Any] = {"status": answer.status_code}
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if answer.status_code >= 400:
        return found | {"param": _param(answer)}
    if kind == "text/event-stream":
        return found | _stream(answer.text)
    return found | {"body": _plain(answer.json())} if kind == "application/json" and answer.content else found


def differences(theirs: Any, ours: Any, place: str = "") -> Iterator[str]:
    """Yield where two differ, vLLM's first."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in [*theirs, *(name for name in ours if name not in theirs)]:
            yield from differences(theirs.get(name), ours.get(name), f"{place}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, (left, right) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(left, right, f"{place}[{number}]")
    elif place == ".param" and theirs is None:
        return  # who names the field at fault says more
    elif isinstance(theirs, float) and isinstance(ours, float):
        if abs(theirs - ours) > 0.02:
            yield f"{place}: {theirs} / {ours}"
    elif theirs != ours:
        yield f"{place}: {json.dumps(theirs)[:300]} / {json.dumps(ours)[:300]}"


def _param(answer: httpx.Response) -> str | None:
    try:
        found = answer.json()["error"]["param"]
    except (ValueError, KeyError, TypeError):
        return None
    return None if found is None else str(found).removeprefix("body.").partition(".")[0]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _plain(each)
            for name, each in value.items()
            if each is not None and name not in _OF_ONE_ANSWER and name not in _OURS
        }
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _stream(text: str) -> dict[str, Any]:
    frames = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame.startswith("data: ")]
    chunks = [json.loads(frame) for frame in frames if frame != "[DONE]"]
    choices: dict[int, dict[str, Any]] = {}
    usages = []
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            piece = choice.get("delta", choice)
            so_far = choices.setdefault(choice["index"], {"text": "", "calls": "", "roles": [], "tokens": 0})
            so_far["text"] += piece.get("content") or piece.get("text") or ""
            so_far["calls"] += "".join(
                each["function"].get("name", "") + each["function"].get("arguments", "")
                for each in piece.get("tool_calls") or ()
            )
            so_far["roles"] += [piece["role"]] if "role" in piece else []
            scored = choice.get("logprobs") or {}
            so_far["tokens"] += len(scored.get("content") or scored.get("tokens") or ())
            if choice.get("finish_reason"):
                so_far["end"] = choice["finish_reason"]
        if chunk.get("usage") is not None:
            usages.append(_plain(chunk["usage"]))
    errors = sum("error" in chunk for chunk in chunks)
    return {
        "choices": [choices[index] for index in sorted(choices)],
        "usages": usages,
        "objects": sorted({chunk.get("object", "") for chunk in chunks if "error" not in chunk}),
        "errors": errors,
        "done": bool(frames) and frames[-1] == "[DONE]" and not errors,
    }

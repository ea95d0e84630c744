"""A whole answer that tells how likely its prompt is, as vLLM's server writes it."""

from __future__ import annotations

from typing import Any

from openai_adapter.testing.models import Said, id_of, ids_of, text_of

_VOCABULARY = 6
"""Tokens that are told where all are asked for, as by vLLM with `--max-logprobs -1`."""


def whole_answer(body: dict[str, Any], said: Said) -> dict[str, Any]:
    """Return the answer to a request with `prompt_logprobs`. A word is a token; the first of a prompt has no
    probability. Beside `return_token_ids` an echo repeats the prompt's tokens, and not its text."""
    ids, chat = ids_of(body), "messages" in body
    words = [str(word) for word in body["prompt"]] if isinstance(body.get("prompt"), list) else text_of(body).split()
    texts = [word if place == 0 else f" {word}" for place, word in enumerate(words)]
    most = _VOCABULARY if body["prompt_logprobs"] < 0 else body["prompt_logprobs"]
    scores = [None, *(_place(id, text, most) for id, text in zip(ids[1:], texts[1:], strict=True))]
    answer = "".join(said.pieces)
    choice: dict[str, Any] = {"index": 0, "finish_reason": said.finish}
    told: dict[str, Any] = {"prompt_logprobs": scores}
    if body.get("return_token_ids"):
        choice["token_ids"] = list(map(id_of, said.pieces))
        told["prompt_token_ids"] = ids
    if chat:
        choice["message"] = {"role": "assistant", "content": answer}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": piece, "logprob": -0.1} for piece in said.pieces]}
    else:
        echo = texts if body.get("echo") else []
        choice["text"] = ("" if body.get("return_token_ids") else "".join(echo)) + answer
        if body.get("logprobs") is not None:
            tokens = [*echo, *said.pieces]
            choice["logprobs"] = {
                "tokens": tokens,
                "token_logprobs": [None if echo and place == 0 else -0.1 for place in range(len(tokens))],
                "top_logprobs": [None if echo and place == 0 else {token: -0.1} for place, token in enumerate(tokens)],
                "text_offset": [0] * len(tokens),
            }
        choice |= told
    usage = {"prompt_tokens": len(ids), "completion_tokens": len(said.pieces)}
    usage["total_tokens"] = sum(usage.values())
    head = {"id": "1", "created": 1, "model": body["model"], "choices": [choice], "usage": usage}
    return {**head, **told} if chat else head


def _place(id: int, text: str, most: int) -> dict[str, Any]:
    """Return what was likely in a place: the prompt's own token is always the second."""
    place = {str(id): {"logprob": -1.5, "rank": 2, "decoded_token": text}}
    for rank in range(1, most + 1):
        if rank != 2:
            place[str(id + rank)] = {"logprob": -rank * 0.75, "rank": rank, "decoded_token": f"{text}{rank}"}
    return place

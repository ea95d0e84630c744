"""The frames of a stream, as a family writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from openai_adapter.testing.families import Family
from openai_adapter.testing.models import Said, id_of, ids_of


class Frames:
    """Makes the frames of one answer; each is what a server writes at once."""

    def __init__(self, family: Family, body: dict[str, Any], *, chat: bool) -> None:
        self._family = family
        self._chat = chat
        self._most = body.get("top_logprobs") if chat else body.get("logprobs")
        self._asks_logprobs = bool(body.get("logprobs")) and family.gives_logprobs
        options = body.get("stream_options") or {}
        self._include_usage = bool(options.get("include_usage"))
        counts_on = family.name == "vllm" and self._include_usage and options.get("continuous_usage_stats")
        self._counts_each = family.usage == "each" or bool(counts_on)
        self._tells_ids = "return_token_ids" in (family.fields or ()) and bool(body.get("return_token_ids"))
        self._prompt_ids: dict[str, Any] = {"prompt_token_ids": ids_of(body)} if self._tells_ids else {}
        self._head: dict[str, Any] = {
            "id": "chatcmpl-1" if chat else "cmpl-1",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1,
            "model": body["model"],
        }
        if family.fingerprint is not None:
            self._head["system_fingerprint"] = family.fingerprint

    def of(self, said: Said) -> Iterator[bytes]:
        """Yield the frames of a whole answer."""
        family = self._family
        if self._chat and family.first is not None:
            yield self.frame(delta=family.first, **self._prompt_ids)
        for thought in said.thinking if self._chat else ():
            yield self.frame(delta={family.reasoning: thought})
        for place, call in enumerate(said.calls[:1] if self._family.named_pieces else said.calls):
            yield from self._call(place, *call)
        last = len(said.pieces) - 1
        ended = False
        for place, piece in enumerate(said.pieces):
            ended = family.finish == "last" and place == last
            yield self.text(piece, finish=said.finish if ended else None, count=place + 1, tokens_in=said.tokens_in)
        usage = {"prompt_tokens": said.tokens_in, "completion_tokens": len(said.pieces) + len(said.thinking)}
        usage["total_tokens"] = sum(usage.values())
        if not ended:
            tail = {"usage": usage} if family.usage == "finish" else {}
            yield self.frame(delta={}, text="", finish=said.finish, **tail)
        if self._include_usage and family.usage == "asked":
            yield self.data({**self._head, "choices": [], "usage": usage})
        if family.done:
            yield b"data: [DONE]\n\n"

    def text(self, piece: str, *, finish: str | None = None, count: int = 1, tokens_in: int = 0) -> bytes:
        """Return the frame of a piece of text."""
        more: dict[str, Any] = {}
        if self._asks_logprobs:
            more["logprobs"] = self._logprobs(piece)
        if self._tells_ids:
            more["token_ids"] = [id_of(piece)]
            if not self._chat:
                more |= self._prompt_ids
                self._prompt_ids = {}
        if self._counts_each:
            return self.frame(
                delta={"content": piece}, text=piece, finish=finish, more=more,
                usage={"prompt_tokens": tokens_in, "completion_tokens": count},
            )  # fmt: skip
        return self.frame(delta={"content": piece}, text=piece, finish=finish, more=more)

    def frame(
        self,
        *,
        delta: dict[str, Any],
        text: str = "",
        finish: str | None = None,
        more: dict[str, Any] | None = None,
        **top: Any,
    ) -> bytes:
        """Return a frame with one choice."""
        choice: dict[str, Any] = {"index": 0, **({"delta": delta} if self._chat else {"text": text}), **(more or {})}
        if finish is not None or self._family.null_finish:
            choice["finish_reason"] = finish
        return self.data({**self._head, "choices": [choice], **top})

    def data(self, value: Any) -> bytes:
        """Return the frame of a JSON value."""
        return f"data: {json.dumps(value)}{self._family.separator}".encode()

    def _call(self, place: int, name: str, arguments: str) -> Iterator[bytes]:
        pieces = [arguments[at : at + 9] for at in range(0, len(arguments), 9)]
        if self._family.named_pieces:
            for piece in pieces:
                yield self.frame(
                    delta={"tool_calls": [{"index": place, "function": {"name": name, "arguments": piece}}]}
                )
            return
        begin = {"index": place, "id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": ""}}
        yield self.frame(delta={"tool_calls": [begin]})
        for piece in pieces:
            yield self.frame(delta={"tool_calls": [{"index": place, "function": {"arguments": piece}}]})

    def _logprobs(self, piece: str) -> dict[str, Any]:
        others = [{"token": text, "logprob": value} for text, value in ((piece, -0.1), ("x", -2.5), ("y", -3.5))]
        top = others[: self._most or 0]
        if self._chat:
            entry = {"token": piece, "logprob": -0.1, "bytes": list(piece.encode()), "top_logprobs": top}
            return {"content": [entry]}
        chosen = {other["token"]: other["logprob"] for other in top}
        return {"tokens": [piece], "token_logprobs": [-0.1], "top_logprobs": [chosen], "text_offset": [0]}

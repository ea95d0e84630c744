"""What the models of the scripted engine say."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any
from zlib import crc32

KNOWN_TEXT = "The river  is long,\nand naïve 日本 🙂 boats go by."
THINKING = ("I ", "think ", "so.")
MODELS = ("tiny", "known", "echo", "thinker", "embedder", "splitter")
ROOM = 512
"""Tokens of prompt and answer together."""
_MOST = 4096


@dataclass(kw_only=True)
class Said:
    """What a model says: pieces of text, one per token, and what goes with them."""

    pieces: list[str]
    finish: str = "stop"
    tokens_in: int = 0
    thinking: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Names and arguments of tool calls."""


def calls_of(name: str) -> tuple[tuple[str, str], ...]:
    """Return the tool calls that a model makes of its first tool, blank for blank."""
    return (name, '{"city": "Bonn",  "days": 3}'), (name, '{"days":1, "city": "Köln"}')


def text_of(body: dict[str, Any]) -> str:
    """Return the prompt of a request as text."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list):
        return " ".join(map(str, prompt))
    found = []
    for message in body.get("messages") or ():
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content or ""}]
        found.append(f"{message['role']}: " + "".join(part.get("text", "<image>") for part in parts))
    return "\n".join(found)


def ids_of(body: dict[str, Any]) -> list[int]:
    """Return the token ids of a request's prompt: those that it has, or one for each word."""
    prompt = body.get("prompt")
    return prompt if isinstance(prompt, list) else [id_of(word) for word in text_of(body).split()]


def id_of(piece: str) -> int:
    """Return the token id of a piece of text."""
    return crc32(piece.encode(errors="surrogatepass")) >> 1


def answer(body: dict[str, Any], *, heeds_seed: bool, cuts_stops: bool) -> Said:
    """Return what the model of a request says."""
    model, prompt = body["model"], text_of(body)
    tokens_in = len(prompt.split())
    if model == "echo":
        return Said(pieces=[json.dumps(body)], tokens_in=tokens_in)
    if body.get("tools") and body.get("tool_choice") != "none":
        name = body["tools"][0]["function"]["name"]
        return Said(pieces=[], finish="tool_calls", tokens_in=tokens_in, calls=list(calls_of(name)))
    most = body.get("max_tokens") or body.get("max_completion_tokens") or 64
    pieces, finish = _pieces(model, body, prompt, most, heeds_seed=heeds_seed)
    pieces, stopped = _stopped(pieces, body.get("stop"), cuts=cuts_stops)
    thinking = list(THINKING) if model == "thinker" else []
    return Said(pieces=pieces, finish="stop" if stopped else finish, tokens_in=tokens_in, thinking=thinking)


def _pieces(model: str, body: dict[str, Any], prompt: str, most: int, *, heeds_seed: bool) -> tuple[list[str], str]:
    wanted = body.get("response_format") or {}
    if wanted.get("type") in ("json_schema", "json_object"):
        return ['{"', "ok", '": ', "true", "}"], "stop"
    if model in ("known", "splitter", "thinker"):
        whole = prompt if model == "splitter" else KNOWN_TEXT
        pieces = _halves(whole) if model == "splitter" else _cut(whole)
        return pieces[:most], "stop" if len(pieces) <= most else "length"
    words = prompt.split() or ["well"]
    if heeds_seed and body.get("seed") is not None:
        random.Random(body["seed"]).shuffle(words)
    elif body.get("temperature") != 0:
        random.shuffle(words)
    return [f"{word} " for word in islice(cycle(words), min(most, _MOST))], "length"


def _halves(text: str) -> list[str]:
    """Return a text's characters, those of two UTF-16 units in two halves: servers cut their escapes there."""
    units = text.encode("utf-16-be")
    return [units[at : at + 2].decode("utf-16-be", "surrogatepass") for at in range(0, len(units), 2)]


def _cut(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def _stopped(pieces: list[str], stop: Any, *, cuts: bool) -> tuple[list[str], bool]:
    stops = [stop] if isinstance(stop, str) else stop or []
    said: list[str] = []
    for piece in pieces:
        said.append(piece)
        text = "".join(said)
        places = [at for each in stops if (at := text.find(each)) >= 0]
        if places:
            if cuts:
                said = [*said[:-1], piece[: max(len(piece) - (len(text) - min(places)), 0)]]
                surplus = sum(map(len, said)) - min(places)
                while surplus > 0:
                    last = said.pop()
                    said += [last[: len(last) - surplus]] if len(last) > surplus else []
                    surplus -= len(last)
            return [piece for piece in said if piece], True
    return said, False


def embedding(text: object) -> list[float]:
    """Return eight numbers that are a text's own, or that of a list of tokens."""
    digest = hashlib.sha256(str(text).encode()).digest()
    return [int.from_bytes(digest[at : at + 2], "big") / 65536 for at in range(0, 16, 2)]

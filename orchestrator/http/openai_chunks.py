"""The streamed answers of the OpenAI face: a choice's events as chunks, and the chunks of all choices as one stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from adapter_api import (
    End,
    Error,
    Metrics,
    Output,
    PromptToken,
    Reasoning,
    TaskRequest,
    Token,
    TokenEvent,
    TokenIds,
    ToolCallDelta,
    Usage,
)
from orchestrator.config import ServerSettings
from orchestrator.http.answers import StreamingAnswer
from orchestrator.http.openai_answers import (
    Kind,
    end_of,
    finish_reason_of,
    logprobs_of,
    no_piece,
    piece_of_text,
    piece_of_thought,
    piece_of_tool_call,
    prompt_logprobs_of,
    usage_of,
)
from orchestrator.http.openai_choices import Choices, usage_of_all
from orchestrator.http.openai_requests import Asked
from orchestrator.http.problems import openai_body
from orchestrator.http.sse import data_frame

ID_PREFIX = {"chat": "chatcmpl-", "text": "cmpl-"}
_DONE = data_frame(b"[DONE]")


class Chunks(StreamingAnswer):
    """`data:` frames of chunks, `data: [DONE]` at the end, also after an error. One before the first chunk has a status
    of its own."""

    starts_at_once = False

    def __init__(
        self,
        kind: Kind,
        name: str,
        asked: Asked,
        accepted: Choices,
        settings: ServerSettings,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(accepted.batches, accepted.close, settings, {**accepted.headers, **headers})
        self._include_usage = asked.include_usage
        self._accepted = accepted
        self._n = asked.n
        self._head = {
            "id": name,
            "object": "chat.completion.chunk" if kind == "chat" else "text_completion",
            "created": int(time.time()),
            "model": asked.task.model,
        }
        self._choices = [
            ChoiceChunks(
                kind,
                index,
                self._head,
                logprobs=task.logprobs is not None,
                echo=partial(asked.echo_of, task) if asked.echo else None,
                only_echo=asked.only_prompt,
                reasoning=asked.reasoning,
                beside=Beside(kind, task) if task.return_token_ids or task.running_usage else None,
                role=asked.role,
            )
            for index, task in enumerate(asked.tasks)
        ]
        self._open = len(self._choices)

    def encode(self, batch: list[TokenEvent]) -> bytes:
        frames = self._choices[self._accepted.index].encode(batch)
        last = batch[-1]
        if isinstance(last, End):
            self._open -= 1
            if not self._open:
                frames += self._end()
        elif isinstance(last, Error):  # nothing follows it, of no choice
            self._open = 0
            frames += [data_frame(msgspec.json.encode(openai_body(last))), _DONE]
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def is_last(self, batch: list[TokenEvent]) -> bool:
        return not self._open

    def refusal(self, error: Error) -> dict[str, Any]:
        return openai_body(error)

    def _end(self) -> list[bytes]:
        frames = [_DONE]
        if self._include_usage:
            usage = usage_of(usage_of_all([choice.usage for choice in self._choices], self._n))
            frames.insert(0, data_frame(msgspec.json.encode({**self._head, "choices": [], "usage": usage})))
        return frames


class Beside:
    """What a choice's chunks tell beside its text, where that is asked for: token ids, and the usage so far."""

    def __init__(self, kind: Kind, task: TaskRequest) -> None:
        self._kind = kind
        self._ids = task.return_token_ids
        self._running = task.running_usage
        self._prompt: list[int] = []
        self._output: list[int] = []
        self._usage = Usage()

    def take_beginning(self, batch: list[TokenEvent]) -> list[TokenEvent]:
        """Take what comes before any output, and return the rest."""
        for place, event in enumerate(batch):
            if isinstance(event, Output | End | Error):
                return batch[place:]
            self.take(event)
        return []

    def take(self, event: TokenEvent) -> None:
        """Take what an event tells that is no output."""
        if isinstance(event, TokenIds):
            self._prompt += event.prompt
            self._output += event.output
        elif isinstance(event, Metrics) and event.tokens_out is not None:
            self._usage = Usage(tokens_in=event.tokens_in, tokens_out=event.tokens_out)
        elif isinstance(event, End):
            self._usage = event.usage

    def put(self, chunk: dict[str, Any], *, greeting: bool = False) -> None:
        """Add what was told since the last chunk."""
        if self._ids:
            if self._prompt:
                where = chunk if self._kind == "chat" else chunk["choices"][0]
                where["prompt_token_ids"], self._prompt = self._prompt, []
            if not greeting:
                chunk["choices"][0]["token_ids"], self._output = self._output, []
        if self._running and (told := usage_of(self._usage)) is not None:
            if greeting:
                told |= {"completion_tokens": 0, "total_tokens": told["prompt_tokens"]}
            chunk["usage"] = told


class ChoiceChunks:
    """The frames of one choice. `usage` is what its end tells.

    Args:
        kind: Of the answer.
        index: Of the choice.
        head: What all chunks of the answer begin with.
        logprobs: Whether tokens are told with their scores.
        echo: Makes the prompt of its tokens as the engine scored them, where the answer is to begin with it.
        only_echo: Whether nothing follows it.
        reasoning: Whether thoughts are shown.
        beside: What each chunk tells beside its text; `None` for nothing, which most ask for.
        role: Whose turn the answer of a chat is.
    """

    __slots__ = (
        "_beside", "_calls", "_choice", "_echo", "_greeted", "_head", "_kind", "_logprobs", "_offset", "_only_echo",
        "_prompt", "_reasoning", "_role", "_thought_head", "_token_head", "_token_tail", "usage",
    )  # fmt: skip

    def __init__(
        self,
        kind: Kind,
        index: int,
        head: dict[str, Any],
        *,
        logprobs: bool,
        echo: Callable[[Sequence[PromptToken]], str] | None,
        only_echo: bool = False,
        reasoning: bool,
        beside: Beside | None = None,
        role: str = "assistant",
    ) -> None:
        self._beside = beside
        self._role = role
        self._kind = kind
        self._head = head
        self._choice = {"index": index}
        self._logprobs = logprobs
        self._offset = 0
        # A token's chunk, and a thought's, is the same up to its text: it is encoded once.
        open_choice = '"delta":{"content":' if kind == "chat" else '"text":'
        encoded = msgspec.json.encode(head)[:-1].decode()
        self._token_head = f'data: {encoded},"choices":[{{"index":{index},{open_choice}'.encode()
        close_delta = "}" if kind == "chat" else ""
        self._token_tail = f'{close_delta},"logprobs":null,"finish_reason":null}}]}}\n\n'.encode()
        open_thought = '"delta":{' if kind == "chat" else '"text":"",'
        self._thought_head = f'data: {encoded},"choices":[{{"index":{index},{open_thought}"reasoning_content":'.encode()
        self._echo = echo
        self._only_echo = only_echo
        self._prompt: Sequence[PromptToken] = ()
        self._reasoning = reasoning
        self._greeted = False
        self._calls = False
        self.usage = Usage()

    def encode(self, batch: list[TokenEvent]) -> list[bytes]:
        """Return the frames of events that came together; none for an error, which is the answer's and no choice's."""
        frames: list[bytes] = []
        beside = self._beside
        if self._echo is not None:
            self._prompt = prompt_logprobs_of(batch) or self._prompt
            awaited = not self._greeted and not self._prompt
            if awaited and not any(isinstance(event, Output | End | Error) for event in batch):
                return []  # what the answer begins with may still come
            if self._only_echo:
                batch = [event for event in batch if not isinstance(event, Output)]
        if beside is not None and not self._greeted:
            batch = beside.take_beginning(batch)
        if not self._greeted:
            self._greeted = True
            if self._kind == "chat":
                frames.append(self._chunk({"delta": {"role": self._role, "content": ""}}, None, greeting=True))
            elif self._echo is not None:
                text = piece_of_text(self._kind, self._echo(self._prompt))
                frames.append(self._chunk(text, None, self._prompt if self._logprobs else None, greeting=True))
                self._prompt = ()
        encode = msgspec.json.encode
        for event in batch:
            if isinstance(event, Token):
                if self._logprobs or beside is not None:
                    scored = [event] if self._logprobs else None
                    frames.append(self._chunk(piece_of_text(self._kind, event.text), None, scored))
                else:
                    frames.append(b"%b%b%b" % (self._token_head, encode(event.text), self._token_tail))
            elif isinstance(event, Reasoning):
                if not self._reasoning:
                    continue
                if beside is not None:
                    frames.append(self._chunk(piece_of_thought(self._kind, event.text), None))
                    continue
                thought = encode(event.text)
                frames.append(b'%b%b,"reasoning":%b%b' % (self._thought_head, thought, thought, self._token_tail))
            elif isinstance(event, ToolCallDelta):
                self._calls = True
                frames.append(self._chunk(piece_of_tool_call(self._kind, event), None))
            elif isinstance(event, End):
                self.usage = event.usage
                if beside is not None:
                    beside.take(event)
                reason = finish_reason_of(event, calls=self._calls)
                # A text also here, as at vLLM's server: programs add up what each chunk has.
                piece = no_piece(self._kind) if self._calls else piece_of_text(self._kind, "")
                frames.append(self._chunk(piece | end_of(event), reason))
            elif beside is not None:
                beside.take(event)
        return frames

    def _chunk(
        self,
        piece: dict[str, Any],
        finish_reason: str | None,
        tokens: Sequence[Token | PromptToken] | None = None,
        *,
        greeting: bool = False,
    ) -> bytes:
        logprobs = logprobs_of(self._kind, tokens, self._offset) if tokens else None
        if tokens:
            self._offset += sum(len(token.text) for token in tokens)
        choice = {**self._choice, **piece, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = {**self._head, "choices": [choice]}
        if self._beside is not None:
            self._beside.put(chunk, greeting=greeting)
        return data_frame(msgspec.json.encode(chunk))

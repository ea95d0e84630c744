"""The `tensorrt_llm` model by itself: token ids in, token ids out. It needs the model's tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from adapter_api import Capability, End, InvalidRequest, ProtocolViolation, TaskRequest, TokenEvent, TokenIds
from adapter_kit.chat_template import prompt_of
from adapter_kit.stops import StopCutter
from triton_adapter.codec import read_count, read_numbers
from triton_adapter.dialects.base import TaskDecoder
from triton_adapter.dialects.decoding import Outputs, TextDecoder
from triton_adapter.dialects.layout import Asked, Layout, LayoutDialect, Names
from triton_adapter.dialects.request import RequestBuilder
from triton_adapter.dialects.tokenizer import Tokenizer
from triton_adapter.schema import ModelSchema, RawTensor, Reply, Run

_IDS, _LENGTH = "output_ids", "sequence_length"

RAW = Layout(
    prompt=("input_ids",),
    prompt_token_ids=("input_ids",),
    prompt_lengths=("input_lengths",),
    text=(_IDS,),
    fields={
        "max_tokens": ("request_output_len",),
        "min_tokens": ("min_tokens", "min_length"),
        "temperature": ("temperature",),
        "top_p": ("runtime_top_p",),
        "top_k": ("runtime_top_k",),
        "seed": ("seed", "random_seed"),
        "presence_penalty": ("presence_penalty",),
        "frequency_penalty": ("frequency_penalty",),
        "repetition_penalty": ("repetition_penalty",),
    },
    stream=("streaming", "stream"),
    without_echo=("exclude_input_in_output",),
    tokens_in=(Asked("return_num_input_tokens", "num_input_tokens"),),
    tokens_out=(Asked("return_num_output_tokens", "num_output_tokens"),),
    logprobs=(Asked("return_log_probs", "output_log_probs"),),
    guide=("guided_decoding_guide_type", "guided_decoding_guide"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDialect(LayoutDialect):
    """Speaks token ids. Stop strings are cut on our side only: the model's own stop list is one of ids."""

    tokenizer: Tokenizer

    # The backend fails a request that does not ask for both.
    always_asked: ClassVar[Names] = (_LENGTH,)

    def capabilities(self, schema: ModelSchema) -> frozenset[Capability]:
        return LayoutDialect.capabilities(self, schema) | {Capability.TOKEN_IDS}

    def decoder(self, task: TaskRequest, schema: ModelSchema) -> TaskDecoder:
        decoder = TextDecoder(self._reading(task, schema), IdAssembler(self.tokenizer, task.stop))
        return TellingIds(decoder, self._ids_of(task)) if task.return_token_ids else decoder

    def _put_prompt(self, request: RequestBuilder) -> None:
        ids = self._ids_of(request.task)
        if not ids:
            raise InvalidRequest(f"the prompt for model {request.schema.name!r} has no tokens")
        self._put_ids(request, ids)

    def _ids_of(self, task: TaskRequest) -> Sequence[int]:
        return self.tokenizer.encode(prompt_of(task)) if task.prompt_token_ids is None else task.prompt_token_ids


class TellingIds:
    """A `TaskDecoder` that tells the ids of prompt and answer as well."""

    def __init__(self, decoder: TextDecoder, prompt: Sequence[int]) -> None:
        self._decoder = decoder
        self._prompt = tuple(prompt)

    @property
    def done(self) -> bool:
        return self._decoder.done

    def again(self) -> None:
        return None

    def feed(self, reply: Reply, events: list[Any]) -> None:
        if self._prompt:
            events.append(TokenIds(prompt=self._prompt))
            self._prompt = ()
        ids = reply.outputs.get(_IDS) if reply.outputs and not self.done else None
        if ids is not None and (told := _ids_of_first_beam(ids, reply.outputs)):
            events.append(TokenIds(output=tuple(told)))
        self._decoder.feed(reply, events)

    def feed_run(self, run: Run, events: list[Any]) -> None:
        self._decoder.feed_run(run, events)  # of texts, which such a model does not answer with

    def finish(self) -> tuple[Sequence[TokenEvent], End]:
        return self._decoder.finish()


class IdAssembler:
    """An `Assembler` of pieces that are token ids."""

    def __init__(self, tokenizer: Tokenizer, stops: Iterable[str]) -> None:
        self._text = IdsToText(tokenizer)
        self._cutter = StopCutter(stops)

    @property
    def stopped(self) -> bool:
        return self._cutter.stopped

    def take(self, tensor: RawTensor, outputs: Outputs) -> str:
        return self._cutter.feed(self._text.feed(_ids_of_first_beam(tensor, outputs)))

    def finish(self) -> str:
        return self._cutter.feed(self._text.finish()) + self._cutter.finish()


class IdsToText:
    """Turn ids into text as they come.

    What an id looks like depends on its neighbours, so the last few are decoded together again with each new one; text
    that ends in U+FFFD waits for the ids that complete it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._ids: list[int] = []
        """Those whose text was returned last, then those whose text waits."""
        self._returned = 0
        """How many at the front of `_ids` have been returned."""

    def feed(self, ids: Sequence[int]) -> str:
        self._ids += ids
        text = self._new_text()
        if not text or text.endswith("\ufffd"):
            return ""
        self._ids = self._ids[self._returned :]
        self._returned = len(self._ids)
        return text

    def finish(self) -> str:
        return self._new_text()

    def _new_text(self) -> str:
        known = self._decode(self._ids[: self._returned])
        return self._decode(self._ids)[len(known) :]


def _ids_of_first_beam(tensor: RawTensor, outputs: Outputs) -> tuple[int, ...]:
    """Return the ids of `[batch, beam, ids]`, without the padding after `sequence_length`."""
    width = max(tensor.shape[-1], 0) if tensor.shape else 0
    ids = read_numbers(tensor)[:width]
    if not all(isinstance(each, int) and each >= 0 for each in ids):
        raise ProtocolViolation("the engine sent token ids that are none")
    lengths = outputs.get(_LENGTH)
    return ids if lengths is None else ids[: read_count(lengths)]

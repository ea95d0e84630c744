"""What a scripted model answers to one request: content, pace, faults and ending, woven into steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapter_api.errors import ConfigurationError
from triton_adapter.wire import v2_pb2 as v2

from .failure import TritonFailure
from .families import Generation, Message, Token, word
from .records import RecordedRequest
from .script import Ending, Finish, Leave, Send, Step, Wait
from .signatures import Signature
from .tensors import outputs_of

Content = str | Generation | Sequence[Token] | Mapping[str, Any] | Sequence[Mapping[str, Any]] | Sequence[Step]
"""A text; its tokens, with why they ended or without; the outputs of one message; of several; or the very steps."""

_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass
class Answer:
    """One scripted answer, used `times` times, or from now on if that is `None`."""

    content: Content | Callable[[RecordedRequest], Content]
    delay_s: float = 0.0
    finish_reason: str = "stop"
    times: int | None = None
    ending: Ending | None = None
    final_delay_s: float = 0.0
    faults: list[tuple[int | None, Step]] = field(default_factory=list)

    def steps(self, signature: Signature, config: v2.ModelConfig, request: RecordedRequest) -> list[Step]:
        """Return the steps for this request.

        Raises:
            TritonFailure: The model refuses the request, or the test's function raised.
        """
        content = self._content(config, request)
        if not isinstance(content, (str, Generation, Mapping)) and content and isinstance(content[0], Step):
            return list(content)  # type: ignore[arg-type]
        messages, ending = self._messages(content, signature, config, request)
        return self._weave(messages, self.ending or ending, decoupled=config.model_transaction_policy.decoupled)

    def _content(self, config: v2.ModelConfig, request: RecordedRequest) -> Content:
        if not callable(self.content):
            return self.content
        try:
            return self.content(request)
        except TritonFailure as failure:
            raise TritonFailure(failure.code, failure.text, at_run_time=True) from failure
        except Exception as error:
            text = (
                f"Failed to process the request(s) for model '{config.name}_0_0', message: "
                f"{type(error).__name__}: {error}\n\nAt:\n  model.py(1): execute\n"
            )
            raise TritonFailure("INTERNAL", text, at_run_time=True) from error

    def _messages(
        self, content: Content, signature: Signature, config: v2.ModelConfig, request: RecordedRequest
    ) -> tuple[list[Message], Ending]:
        if isinstance(content, Generation):
            return word(signature, config, request, content)
        if isinstance(content, str):
            content = _WORD.findall(content)
        elif isinstance(content, Mapping):
            content = [content]
        if content and isinstance(content[0], Mapping):
            return [outputs_of(config, message) for message in content], "with_last"  # type: ignore[arg-type]
        return word(signature, config, request, Generation(list(content), self.finish_reason))  # type: ignore[arg-type]

    def _weave(self, messages: list[Message], ending: Ending, *, decoupled: bool) -> list[Step]:
        if not decoupled and len(messages) > 1:
            raise ConfigurationError("a model that is not decoupled answers one message; make it decoupled to stream")
        if not decoupled and not messages:
            messages = [{}]
        steps: list[Step] = []
        last_is_final = ending == "with_last" and bool(messages) and not self._faults_from(len(messages))
        for index, message in enumerate(messages):
            steps += self._faults_at(index)
            is_final = last_is_final and index == len(messages) - 1
            delay_s = self.delay_s + (self.final_delay_s if is_final else 0.0)
            steps += [Wait(delay_s)] if delay_s else []
            steps.append(Send(message, final=None if ending == "omitted" else is_final))
        steps += self._faults_from(len(messages))
        if ending == "omitted":
            steps.append(Leave())
        elif ending != "never" and not last_is_final:
            steps += [Wait(self.final_delay_s)] if self.final_delay_s else []
            steps.append(Finish())
        return steps

    def _faults_at(self, index: int) -> list[Step]:
        return [step for after, step in self.faults if after == index]

    def _faults_from(self, index: int) -> list[Step]:
        return [step for after, step in self.faults if after is None or after >= index]

"""`FakeModel`: what one model of a `FakeTriton` is, answers, and gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from google.protobuf import json_format, text_format

from adapter_api.errors import ConfigurationError
from triton_adapter.wire import v2_pb2 as v2

from .answers import Answer, Content
from .expectations import ANYTHING, Expectation
from .failure import Code
from .families import Token
from .frames import ErrorCode
from .records import RecordedRequest
from .script import Abort, Cut, Ending, Fail, Finish, GoAway, Hang, Hold, Leave, Raw, ResetStreams, Send, Step
from .serving import ModelState, Serving
from .signatures import Signature, config_of, family_of, with_defaults
from .tensors import texts


class FakeModel:
    """One scripted model; made by `FakeTriton.model`. Every method that changes it returns it, to be chained.

    It starts as a decoupled model with the signature "vllm" that answers "Hello there!" to everything. Methods that
    say how an answer goes wrong (`fail`, `cut`, `hang`, …) apply to the answer given last. `after` counts messages
    with data: with 0 it happens before the first one, without a number after the last one.
    """

    def __init__(
        self, serving: Serving, ring: Callable[[], None], on_loop: Callable[[Callable[[], None]], None]
    ) -> None:
        self._serving = serving
        self._ring = ring
        self._on_loop = on_loop
        self.signature("vllm")
        self.respond_with_text("Hello there!")

    # ---- what it is

    def signature(
        self, signature: Signature, *, decoupled: bool = True, max_batch_size: int = 0, seed_input: str = "seed"
    ) -> Self:
        """Declare the tensors of a model family, and speak as it does.

        Args:
            signature: "text" is any model with `text_input` and `text_output`.
            decoupled: Whether it streams.
            max_batch_size: For the families that have a choice; those of TensorRT-LLM take at least 1.
            seed_input: How the TensorRT-LLM families call the seed; "random_seed" before they were moved.
        """
        self._serving.signature = signature
        self._serving.config = with_defaults(
            config_of(signature, self.name, decoupled=decoupled, max_batch_size=max_batch_size, seed=seed_input)
        )
        return self

    def config(self, config: str | Mapping[str, Any]) -> Self:
        """Declare the model by a configuration of one's own: the text of a config.pbtxt, or its JSON form.

        It speaks as the family whose tensors these are. If that is none, texts go to `text_output`, or to the first
        output of strings.
        """
        parsed = v2.ModelConfig()
        try:
            if isinstance(config, str):
                text_format.Parse(config, parsed, allow_unknown_field=True)
            else:
                json_format.ParseDict(dict(config), parsed, ignore_unknown_fields=True)
        except (text_format.ParseError, json_format.ParseError) as error:
            raise ConfigurationError(f"the configuration of model {self.name!r} cannot be read: {error}") from error
        parsed.name = self.name
        self._serving.signature = family_of(parsed)
        self._serving.config = with_defaults(parsed)
        return self

    def versions(self, *versions: int) -> Self:
        """Serve these versions; the highest is the default."""
        self._serving.versions = tuple(sorted(versions))
        return self

    def instances(self, count: int | None) -> Self:
        """Work on so many requests at once and queue the others; on all of them if `None`."""
        self._serving.instances.limit = count
        return self

    def ignore_cancels(self, ignore: bool = True) -> Self:
        """Go on after a cancel, as an ensemble or a BLS model does; the slot stays busy until the end."""
        self._serving.ignores_cancel = ignore
        return self

    # ---- what it answers

    def respond_with_text(
        self, text: str, *, delay_s: float = 0.0, finish_reason: str = "stop", times: int | None = None
    ) -> Self:
        """Answer with `text`, word by word where it streams."""
        return self.respond_with(text, delay_s=delay_s, finish_reason=finish_reason, times=times)

    def respond_with_tokens(
        self,
        tokens: Sequence[Token],
        *,
        delay_s: float = 0.0,
        finish_reason: str = "stop",
        times: int | None = None,
    ) -> Self:
        """Answer with these tokens, one per message where it streams.

        Args:
            tokens: Texts, or bytes where a token is to cut a character, or ids for the raw TensorRT-LLM signature, or
                `Silent` for one that is not in the text. A tuple is several that come in one message.
            delay_s: Seconds before each.
            finish_reason: Told where the family tells it and the request asks.
            times: For so many requests; then the answer given before or after holds. From now on if `None`.
        """
        return self.respond_with(tuple(tokens), delay_s=delay_s, finish_reason=finish_reason, times=times)

    def respond_with_tensors(
        self, *messages: Mapping[str, Any], delay_s: float = 0.0, times: int | None = None
    ) -> Self:
        """Answer with these outputs, one mapping per message, in this order.

        A value is a `Tensor`, an array, a list, or a lone value; it gets the datatype that the model declares.
        """
        return self.respond_with(messages, delay_s=delay_s, times=times)

    def respond_with_steps(self, *steps: Step, times: int | None = None) -> Self:
        """Answer by taking exactly these steps; see `triton_adapter.testing.script`."""
        return self.respond_with(steps, times=times)

    def respond_with(
        self,
        content: Content | Callable[[RecordedRequest], Content],
        *,
        delay_s: float = 0.0,
        finish_reason: str = "stop",
        times: int | None = None,
    ) -> Self:
        """Answer with `content`, or with what a function makes of each request.

        What the function raises is answered as an exception in the model; a `TritonFailure` as that failure.
        """
        self._serving.add(Answer(content, delay_s=delay_s, finish_reason=finish_reason, times=times))
        return self

    # ---- how the answer given last goes wrong

    def fail(
        self,
        text: str,
        *,
        code: Code = "INTERNAL",
        after: int | None = None,
        final: bool | None = True,
        then: Literal["flag", "messages", "nothing"] = "flag",
    ) -> Self:
        """Answer an error, in band on a stream, with `code` elsewhere.

        Args:
            text: What it says.
            code: Lost on a stream, as it is with Triton.
            after: See the class.
            final: The final flag on the error; `None` leaves it out altogether, and nothing follows.
            then: What follows an error whose flag is false: the flag on a message of its own, the rest of the
                messages as if nothing had been, or nothing ever.
        """
        self._add(Fail(text, code, final), after)
        if final is None:
            self._add(Leave(), after)
        elif final is False and then != "messages":
            self._add(Finish() if then == "flag" else Hang(), after)
        return self

    def finish(self, ending: Ending, *, delay_s: float = 0.0) -> Self:
        """Put the final flag somewhere else than the family does, or send it `delay_s` late."""
        answer = self._serving.latest
        answer.ending, answer.final_delay_s = ending, delay_s
        return self

    def hold(self, after: int | None = None) -> Self:
        """Wait until `release` is called."""
        self._on_loop(self._serving.gate.shut)
        return self._add(Hold(), after)

    def release(self) -> Self:
        """Let go on what is held, now and until the next `hold`."""
        self._on_loop(self._serving.gate.open)
        return self

    def hang(self, after: int | None = None) -> Self:
        """Send nothing more, ever."""
        return self._add(Hang(), after)

    def abort(self, code: Code, text: str, *, after: int | None = 0) -> Self:
        """End the call itself with a status."""
        return self._add(Abort(code, text), after)

    def cut(self, after: int | None = None, *, reset: bool = True) -> Self:
        """Cut the connection. The client has at most `after` messages by then: what it did not read is lost."""
        return self._add(Cut(reset), after)

    def reset_stream(self, after: int | None = None, *, code: int = ErrorCode.INTERNAL_ERROR) -> Self:
        """End the HTTP/2 streams of the connection with RST_STREAM."""
        return self._add(ResetStreams(code), after)

    def go_away(
        self,
        after: int | None = None,
        *,
        code: int = ErrorCode.NO_ERROR,
        debug: bytes = b"",
        last_stream_id: int | None = None,
    ) -> Self:
        """Send GOAWAY on the connection and go on; streams above `last_stream_id` are lost."""
        return self._add(GoAway(code, debug, last_stream_id), after)

    def send_garbage_bytes(self, after: int | None = None) -> Self:
        """Send a message whose BYTES output promises more than it holds."""
        name = next(output.name for output in self._serving.config.output if output.data_type == v2.TYPE_STRING)
        broken = texts(name, b"x" * 40)
        cut = type(broken)(name, "BYTES", (1,), bytes(broken.data)[:10])
        return self._add(Send({name: cut}), after)

    def send_garbage_message(self, after: int | None = None) -> Self:
        """Send bytes that are no protobuf message."""
        return self._add(Raw(b"\xff\xff\xff\xff\x07"), after)

    def send_oversized(self, size: int, after: int | None = None) -> Self:
        """Send a message of `size` bytes and a little more."""
        name = next(output.name for output in self._serving.config.output if output.data_type == v2.TYPE_STRING)
        return self._add(Send({name: texts(name, b"x" * size)}), after)

    def _add(self, step: Step, after: int | None) -> Self:
        self._serving.latest.faults.append((after, step))
        return self

    # ---- its state in the server

    def set_state(self, state: ModelState, reason: str = "") -> Self:
        """Be READY, LOADING, UNLOADING, UNAVAILABLE (with a reason), or NEVER_LOADED; only READY serves."""
        self._serving.state, self._serving.reason = state, reason
        self._ring()
        return self

    def unload(self) -> Self:
        """Serve no more; running requests go on."""
        self._serving.unload()
        return self

    def load(self) -> Self:
        """Serve again, also after `kill_stub` and `fail_to_load`."""
        self._serving.load_failure = None
        self._serving.state = "UNAVAILABLE"
        self._serving.load()
        return self

    def fail_to_load(self, reason: str) -> Self:
        """Be unavailable, and answer every attempt to load with this reason."""
        self._serving.load_failure = reason
        return self.set_state("UNAVAILABLE", reason)

    def kill_stub(self, *, inside_execute: bool = False, delay_s: float = 0.0, noticed: bool = False) -> Self:
        """Kill the process behind the model, as a crash does.

        Running requests hang for ever, or fail when they are `inside_execute`; later ones fail after `delay_s` (one
        second in reality). The model says all the same that it is ready, as Triton does before 26.01, unless
        `noticed`. Only unload and load bring it back.
        """
        self._on_loop(lambda: self._serving.kill_stub(inside_execute=inside_execute, delay_s=delay_s, noticed=noticed))
        return self

    # ---- what is expected of its requests, and what happened

    def expect(
        self,
        *,
        input: str | None = None,
        parameter: str | None = None,
        metadata: str | None = None,
        equals: Any = ANYTHING,
        contains: str | None = None,
        absent: bool = False,
    ) -> Self:
        """Expect something of every request to the model, and at least one request.

        A request that is not so is answered with an error; `FakeTriton.check` raises, and the fixture calls that.

        Args:
            input, parameter, metadata: Name what is meant, exactly one of them.
            equals: The value: of an input the element itself if there is one, text decoded, else a flat list.
            contains: Text that must be in it.
            absent: It must not be there.
        """
        named = {"input": input, "parameter": parameter, "metadata": metadata}
        chosen = [(where, name) for where, name in named.items() if name is not None]
        if len(chosen) != 1:
            raise ConfigurationError("expect takes exactly one of input, parameter and metadata")
        where, name = chosen[0]
        self._serving.expectations.append(Expectation(where, name, equals, contains, absent))
        return self

    @property
    def name(self) -> str:
        return self._serving.name

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The inference requests to this model, in the order they came, also those that were refused."""
        return tuple(self._serving.requests)

    @property
    def open_sequences(self) -> frozenset[int | str]:
        """The ids of the sequences that were started and not ended; always empty for a model without state."""
        return frozenset(self._serving.sequences.open)

    @property
    def queued(self) -> int:
        """How many requests wait for an instance now."""
        return self._serving.instances.queued

    @property
    def running(self) -> int:
        """How many requests hold a slot now."""
        return self._serving.tally.running

    @property
    def held(self) -> int:
        """How many requests wait for `release` now."""
        return self._serving.tally.held

    @property
    def started(self) -> int:
        """How many requests the model has begun."""
        return self._serving.tally.started

    @property
    def finished(self) -> int:
        """How many requests it has played to the end."""
        return self._serving.tally.finished

    @property
    def cancels(self) -> int:
        """How many unfinished requests were cancelled by their clients, whether the model saw it or not."""
        return self._serving.tally.cancels

    @property
    def cancelled_seen(self) -> int:
        """How many requests it has seen the cancel of."""
        return self._serving.tally.cancelled_seen

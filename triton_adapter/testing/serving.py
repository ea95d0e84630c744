"""What the server knows of one scripted model, and how it takes a request on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from adapter_api.errors import AdapterError
from triton_adapter.wire import v2_pb2 as v2

from .answers import Answer
from .expectations import Expectation
from .failure import TritonFailure
from .incoming import request_tag
from .records import RecordedRequest
from .runs import Gate, Instances, Run, Tally
from .script import Fail, Send, Step, Wait
from .sequences import Sequences
from .signatures import Signature

ModelState = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE", "NEVER_LOADED"]


class Serving:
    """One model inside the fake. A test changes it from its own thread, the server's event loop reads it."""

    def __init__(self, name: str, ring: Callable[[], None]) -> None:
        self.name = name
        self._ring = ring
        self.signature: Signature = "vllm"
        self.config = v2.ModelConfig(name=name)
        self.versions: tuple[int, ...] = (1,)
        self.state: ModelState = "READY"
        self.reason = ""
        self.load_failure: str | None = None
        self.ignores_cancel = False
        self.expectations: list[Expectation] = []
        self.problems: list[str] = []
        self.requests: list[RecordedRequest] = []
        self.instances = Instances(ring)
        self.tally = Tally()
        self.gate = Gate()
        self.sequences = Sequences()
        self.runs: set[Run] = set()
        self.succeeded = 0
        self.failed = 0
        self.last_inference_ms = 0
        self._answers: list[Answer] = []
        self.latest: Answer
        self._dead_stub: tuple[float, bool] | None = None

    @property
    def is_decoupled(self) -> bool:
        return self.config.model_transaction_policy.decoupled

    @property
    def says_ready(self) -> bool:
        noticed = self._dead_stub is not None and self._dead_stub[1]
        return self.state == "READY" and not noticed

    @property
    def shown_state(self) -> tuple[str, str]:
        """State and reason as the repository index shows them."""
        if self.state == "NEVER_LOADED":
            return "", ""
        if self.state == "UNLOADING" and not self.runs:
            return "UNAVAILABLE", "unloaded"
        return self.state, self.reason

    def version(self, asked: int | None) -> int:
        """Return the version that serves the request.

        Raises:
            TritonFailure: There is none, or it is not ready.
        """
        if self.state == "NEVER_LOADED":
            raise not_found(self.name, "is not found")
        if asked is not None and asked not in self.versions:
            raise not_found(self.name, f"version {asked} is not found")
        if self.state != "READY":
            if asked is None:
                raise not_found(self.name, "has no available versions")
            raise TritonFailure(
                "UNAVAILABLE", f"Request for unknown model: '{self.name}' version {asked} is not at ready state"
            )
        return self.versions[-1] if asked is None else asked

    def add(self, answer: Answer) -> None:
        """Use this answer from now on, or for its number of requests before the standing one."""
        if answer.times is None:
            self._answers = [kept for kept in self._answers if kept.times is not None]
        counted = [kept for kept in self._answers if kept.times is not None]
        standing = [kept for kept in self._answers if kept.times is None]
        self._answers = [*counted, *standing, answer] if answer.times is None else [*counted, answer, *standing]
        self.latest = answer

    def unload(self) -> None:
        self.state, self.reason = "UNLOADING", ""
        self._ring()

    def load(self) -> None:
        if self.load_failure is not None:
            raise TritonFailure(
                "INVALID_ARGUMENT",
                f"load failed for model '{self.name}': version {self.versions[-1]} is at UNAVAILABLE state: "
                f"{self.load_failure};\n",
            )
        if self.state != "READY":
            # Loading what is loaded does nothing, not even for a model whose process is dead.
            self._dead_stub = None
        self.state, self.reason = "READY", ""
        self._ring()

    def kill_stub(self, *, inside_execute: bool, delay_s: float, noticed: bool) -> None:
        self._dead_stub = (delay_s, noticed)
        for run in self.runs:
            if inside_execute:
                run.fail(self._unhealthy)
            else:
                run.freeze()
        self._ring()

    def start(self, request: RecordedRequest) -> Run:
        """Take the request on; it was admitted before.

        Raises:
            TritonFailure: The queue is full, the sequence was not started, or the request is not what the test expects.
        """
        problems = [problem for expectation in self.expectations if (problem := expectation.problem(request))]
        if problems:
            self.problems += problems
            raise TritonFailure("INVALID_ARGUMENT", "the request is not what the test expects: " + "; ".join(problems))
        policy = self.config.dynamic_batching.default_queue_policy
        if policy.max_queue_size and self.instances.is_full and self.instances.queued >= policy.max_queue_size:
            raise TritonFailure("UNAVAILABLE", f"{request_tag(request.id)}Exceeds maximum queue size")
        self.sequences.admit(self.config, request.parameters)
        run = Run(
            request,
            self._stop_steps(request) if self._is_stop(request) else self._steps_for(request),
            instances=self.instances,
            tally=self.tally,
            gate=self.gate,
            ring=self._ring,
            ignores_cancel=self.ignores_cancel,
            queue_timeout_s=_queue_timeout_s(policy, request),
            priority=self._priority(request),
        )
        self.runs.add(run)
        run.task.add_done_callback(lambda _: self._let_go(run))
        return run

    def _is_stop(self, request: RecordedRequest) -> bool:
        return self.signature in ("tensorrt_llm", "trtllm_llmapi") and bool(request.value("stop", False))

    def _stop_steps(self, request: RecordedRequest) -> Callable[[], list[Step]]:
        """Stop the request of the same id, as the TensorRT-LLM models do."""

        def steps() -> list[Step]:
            if not request.id:
                return [Fail("A request id must be provided for request cancellation")]
            for run in self.runs:
                if run.request.id == request.id and run.request is not request:
                    run.stop()
            if self.signature == "trtllm_llmapi":
                return [Fail("Request cancelled by client", "CANCELLED")]
            return [Send({}, final=True)]

        return steps

    def _let_go(self, run: Run) -> None:
        self.runs.discard(run)
        self.last_inference_ms = int(time.time() * 1000)
        if run.has_failed:
            self.failed += 1
        else:
            self.succeeded += 1
        self._ring()

    def _steps_for(self, request: RecordedRequest) -> Callable[[], list[Step]]:
        if self._dead_stub is not None:
            delay_s = self._dead_stub[0]
            return lambda: [Wait(delay_s), Fail(self._unhealthy)]
        # The answer is chosen on arrival, so that the order of arrival decides.
        answer = self._next_answer()
        return lambda: self._play(answer, request)

    def _play(self, answer: Answer, request: RecordedRequest) -> list[Step]:
        try:
            return answer.steps(self.signature, self.config, request)
        except AdapterError as error:
            # The script cannot be played: the test is wrong, not the client.
            self.problems.append(str(error))
            raise TritonFailure("INTERNAL", str(error)) from error

    def _next_answer(self) -> Answer:
        answer = self._answers[0]
        if answer.times is not None:
            answer.times -= 1
            if answer.times <= 0:
                self._answers.pop(0)
        return answer

    @property
    def _unhealthy(self) -> str:
        return f"Stub process '{self.name}_0_0' is not healthy."

    def _priority(self, request: RecordedRequest) -> int:
        batching = self.config.dynamic_batching
        asked = int(request.parameters.get("priority", 0))
        if not batching.priority_levels:
            return 0
        return asked if 0 < asked <= batching.priority_levels else int(batching.default_priority_level)


def not_found(model: str, why: str) -> TritonFailure:
    return TritonFailure("NOT_FOUND", f"Request for unknown model: '{model}' {why}")


def _queue_timeout_s(policy: v2.ModelQueuePolicy, request: RecordedRequest) -> float | None:
    default_us = int(policy.default_timeout_microseconds)
    asked_us = int(request.parameters.get("timeout", 0)) if policy.allow_timeout_override else 0
    shorter = asked_us if asked_us and (not default_us or asked_us < default_us) else default_us
    rejects = policy.timeout_action == v2.ModelQueuePolicy.REJECT
    return shorter / 1e6 if shorter and rejects else None

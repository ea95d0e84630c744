"""The conformance harness of this adapter: a real Triton with the demo models, or a server of the user's own.

`python -m conformance_tests --adapter triton` starts a server of its own and breaks it on demand, over gRPC or, with
`--option protocol=http`, over HTTP;
`--option url=grpc://host:8001 --option model=NAME` tries the adapter on another one, which it leaves in peace.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import string
import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.to_thread

from adapter_api import (
    ConfigurationError,
    Datatype,
    ImagePart,
    InferRequest,
    Message,
    TaskRequest,
    Tensor,
    TextPart,
    Tool,
    WorkerAdapter,
)
from conformance_tests import (
    Echo,
    Harness,
    KnownReasoning,
    KnownResponses,
    KnownTensors,
    KnownText,
    KnownToolCalls,
    Skipped,
    echo_tensors,
    sample_tensor,
)
from triton_adapter.adapter import TritonAdapter
from triton_adapter.embedded import EmbeddedTriton
from triton_adapter.embedded.ports import choose_ports
from triton_adapter.settings import TritonSettings
from triton_adapter.testing import FaultProxy
from triton_adapter.transports.ways import WAYS

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

_FAILURES = {
    "engine_failed": "midfail was asked to fail here",
    "overloaded": "Exceeds maximum queue size",
    "not_ready": "Server exiting",
    "invalid_request": "unexpected inference input 'text_output' for model 'midfail'",
    "permission_denied": "This protocol is restricted, expecting header",
}
"""What the model that fails on demand says, in Triton's own words, by the contract's code."""

_QUOTING = "quoting"
"""A failure that repeats the prompt."""

_LATE = "engine_failed"
"""The failure that comes after tokens."""

_REPEATED = "{% if tools %}{% endif %}{{ messages[0].content }}"
"""A chat template that has a model which repeats its prompt say anything."""

_SEED = 7
_MUCH = 32768
"""Bytes of a tensor that are seen to pass, whatever else does."""

_ANSWERS_S = 10.0
"""Seconds in which a server that lives answers a plain question, however busy the machine is."""

_TOKEN = "conformance-bearer-5309"


class TritonHarness(Harness):
    """Tries `TritonAdapter`.

    Args:
        url: A server that runs already; without it a real one is started, with the demo models and a proxy before it.
        model: A model of that server that takes text; needed with `url`.
        prompt: What to ask it.
        protocol: How the adapter speaks to the server, "grpc" or "http"; the scheme of `url` may say so as well.
        transport: What carries gRPC, "h2" or "grpcio"; by itself what the adapter takes by itself.
        kill: "true" lets `stop_engine` kill the server's process and `start_engine` start it again, which takes
            seconds each time; otherwise the proxy refuses connections and cuts those there are.
        server: A running one with the demo models to use instead of one of our own; a test may give it.
    """

    name = "triton"
    plugin = "triton"
    settle_s = 5.0
    echo_versions = ("1", "2")

    def __init__(
        self,
        *,
        url: str = "",
        model: str = "tinylm",
        prompt: str = "The",
        protocol: str = "grpc",
        transport: str = "auto",
        kill: str = "false",
        server: EmbeddedTriton | None = None,
    ) -> None:
        self.model = model
        self.prompt = prompt
        # Without one the language model says something else each time, and now and then nothing at all.
        self.task_seed = None if url else _SEED
        self._url = url
        self._protocol = protocol.lower()
        if self._protocol not in WAYS:
            raise ConfigurationError(f"option protocol: {protocol!r} is none; use {' or '.join(WAYS)}")
        self._transport = transport
        if self._protocol == "http":
            self.name = "triton over HTTP"
        elif transport == "grpcio":
            self.name = "triton over grpcio"
        self._kills = kill.lower() in ("1", "true", "yes")
        self._server = server
        self._proxy: FaultProxy | None = None
        self._stack = ExitStack()
        self._failing: str | None = None
        self._sent_before: int | None = None
        """How many bytes had gone to the server when the tensors that take long were made."""

    # -- around the run -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        if self._url:
            return
        if self._server is None:
            # At ports of our choice, so that it comes back where it was.
            ports = choose_ports({"gRPC": None, "HTTP": None})
            server = EmbeddedTriton(grpc_port=ports["gRPC"], http_port=ports["HTTP"])
            self._server = self._stack.enter_context(server)
        self._proxy = self._stack.enter_context(FaultProxy(self._way(self._server)))

    def stop(self) -> None:
        self._stack.close()

    async def reset(self) -> None:
        self._failing = None
        self._sent_before = None
        if self._proxy is not None:
            self._proxy.heal()

    def adapter(self) -> WorkerAdapter:
        options: dict[str, Any] = {"url": self._url or self._fault_proxy().address}
        if self._protocol != "grpc":
            options["protocol"] = self._protocol
        if self._transport != "auto":
            options["transport"] = self._transport
        if not self._url:
            options["bearer_token"] = _TOKEN
            options["models"] = {"splitter": {"chat_template": _REPEATED, "reasoning_parser": "think"}}
        return TritonAdapter(TritonSettings.model_validate(options))

    # -- known tasks --------------------------------------------------------------------------------------------------

    def task(self, **changes: Any) -> TaskRequest:
        code, self._failing = self._failing, None
        return super().task(**changes) if code is None else _failing_task(code, changes.get("prompt") or self.prompt)

    def long_task(self, **changes: Any) -> TaskRequest:
        if self._server is None:
            return super().long_task(**changes)
        # Twenty seconds: whoever waits for its end has waited more than twice as long as a cancel may take.
        fields = {"model": "slow", "max_tokens": 1000, "parameters": {"triton.delay_ms": 20}}
        return self.task(**(fields | changes))

    def images_task(self) -> TaskRequest:
        parts = (TextPart(text="What is this?"), ImagePart(data=_PIXEL, media_type="image/png"))
        return self.task(prompt=None, messages=(Message(role="user", content=parts),))

    def empty_task(self) -> TaskRequest:
        """The language model stops at any letter, and so before it has said one."""
        return self.task(stop=tuple(string.ascii_letters + string.digits + string.punctuation + " \n"))

    def known_text(self) -> KnownText:
        self._own_server()
        text = "the quick brown fox jumps over the lazy dog"
        return KnownText(task=self.task(model="splitter", prompt=text, max_tokens=None), text=text)

    def split_text(self) -> KnownText:
        self._own_server()
        text = "naïve 日本 🙂 the end…"
        return KnownText(task=self.task(model="splitter", prompt=text, max_tokens=None), text=text)

    def cut_text(self) -> KnownText:
        self._own_server()
        text = "a moon 🙂 and half of another "
        fields = {"model": "splitter", "prompt": f"{text}🌙", "max_tokens": None}
        return KnownText(task=self.task(**fields, parameters={"triton.drop_bytes": 1}), text=text)

    def echo_task(self, **changes: Any) -> TaskRequest:
        self._own_server()
        return self.task(**({"model": "echo"} | changes))

    def echoed(self, answer: str) -> Echo:
        told = json.loads(answer)
        inputs = told["inputs"]
        fields = json.loads(inputs.get("sampling_parameters", "{}"))
        return Echo(text=inputs["text_input"], fields=fields, model_version=told["version"])

    def known_tool_calls(self) -> KnownToolCalls:
        self._own_server()
        calls = (("weather", '{"city":  "Köln", "at": [1,2]}'), ("add", '{"b": 2, "a": 1}'))
        said = "".join(
            f'<tool_call>\n{{"name": "{name}", "arguments": {made}}}\n</tool_call>\n' for name, made in calls
        )
        tools = tuple(Tool(name=name, parameters={"type": "object"}) for name, _ in calls)
        return KnownToolCalls(task=self._repeating(said, tools=tools), calls=calls)

    def known_reasoning(self) -> KnownReasoning:
        self._own_server()
        thought, text = "Two of them 🙂 make more, or less?", "It is four."
        return KnownReasoning(task=self._repeating(f"<think>{thought}</think>{text}"), reasoning=thought, text=text)

    def _repeating(self, text: str, **fields: Any) -> TaskRequest:
        """Return a task with messages that the model answers with that text, cut inside marks and characters."""
        message = Message(role="user", content=text)
        return self.task(model="splitter", prompt=None, messages=(message,), max_tokens=None, **fields)

    def slow_tensors(self) -> InferRequest:
        self._own_server()
        self._sent_before = self._fault_proxy().bytes_to_server
        tensor = Tensor("UINT8_IN", "UINT8", (1, _MUCH), bytes(_MUCH))
        return InferRequest(model="tensors", inputs=(tensor,), parameters={"delay_ms": 2000})

    def known_tensors(self, datatype: Datatype, shape: tuple[int, ...] | None = None) -> KnownTensors:
        self._own_server()
        return echo_tensors(
            "tensors",
            datatype,
            shape=(2, 3) if shape is None else shape,
            input_name=f"{datatype}_IN",
            output_name=f"{datatype}_OUT",
        )

    def stray_tensors(self) -> InferRequest:
        self._own_server()
        return InferRequest(model="tensors", inputs=(sample_tensor("NO_SUCH_TENSOR", "FP32", (1, 2)),))

    def misfit_tensors(self) -> InferRequest:
        self._own_server()
        inputs = (sample_tensor("INPUT0", "INT32", (1, 4)), sample_tensor("INPUT1", "FP32", (1, 4)))
        return InferRequest(model="addsub", inputs=inputs)

    def named_tensors(self) -> KnownTensors:
        self._own_server()
        names = ("INT32", "BYTES")
        inputs = tuple(sample_tensor(f"{name}_IN", name, (1, 4)) for name in names)  # type: ignore[arg-type]
        outputs = tuple(sample_tensor(f"{name}_OUT", name, (1, 4)) for name in names)  # type: ignore[arg-type]
        return KnownTensors(request=InferRequest(model="tensors", inputs=inputs), outputs=outputs)

    def known_stream(self) -> KnownResponses:
        self._own_server()
        text = Tensor.from_bytes_elements("text_input", [b"abc"])
        responses = tuple((Tensor.from_bytes_elements("text_output", [bytes([byte])]),) for byte in b"abc")
        return KnownResponses(request=InferRequest(model="splitter", inputs=(text,)), responses=responses)

    # -- what the engine sees -----------------------------------------------------------------------------------------

    async def in_flight(self) -> int:
        """Ask the model of the long tasks, which counts its generations."""
        request = InferRequest(
            model="slow", inputs=(Tensor.from_bytes_elements("text_input", [b"probe"]),), parameters={"probe": True}
        )
        async with self._observer() as observer, observer.infer_stream(request) as stream:
            async for response in stream:
                return int(json.loads(response["text_output"].elements()[0])["running"]) + self._tensors_sent()
        raise Skipped("the demo model did not answer the probe")

    def _tensors_sent(self) -> int:
        """Whether the tensors that take long, of which the server does not tell, have been passed on to it."""
        before = self._sent_before
        return int(before is not None and self._fault_proxy().bytes_to_server - before > _MUCH)

    async def inferences(self) -> int:
        async with self._observer() as observer:
            statistics = await observer.models.statistics()
        return sum(model.inference_count for model in statistics)

    # -- faults -------------------------------------------------------------------------------------------------------

    async def stop_engine(self) -> None:
        self._fault_proxy().refuse()
        if self._kills:
            await anyio.to_thread.run_sync(self._own_server().kill)
        self._fault_proxy().cut(reset=False)

    async def start_engine(self) -> None:
        if self._kills:
            await anyio.to_thread.run_sync(self._own_server().start)
        self._fault_proxy().accept()

    async def pause_engine(self) -> None:
        self._own_server().pause()

    async def resume_engine(self) -> None:
        self._own_server().resume()
        # What it answers now to calls that were given up belongs into this event loop, not into the next check's.
        await anyio.sleep(0.2)

    async def engine_died(self) -> str | None:
        """Look at the process, and ask it over HTTP; a server that is somebody else's could not be brought back."""
        if self._server is None:
            return None
        return await anyio.to_thread.run_sync(_death_of, self._server)

    async def revive_engine(self) -> None:
        await anyio.to_thread.run_sync(self._revive)

    def _revive(self) -> None:
        server, proxy = self._own_server(), self._fault_proxy()
        server.kill()  # what hangs, and what a dead server has left behind
        server.start()
        # A server that was given may have other ports now, and a proxy keeps to one.
        self._proxy = self._stack.enter_context(FaultProxy(self._way(server)))
        proxy.stop()

    def _way(self, server: EmbeddedTriton) -> str:
        return server.http_url if self._protocol == "http" else server.grpc_url

    async def drop_streams(self) -> None:
        self._fault_proxy().cut()

    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        self._own_server()
        if retry_after_s is not None:
            raise Skipped("Triton does not say how long to wait")
        if code not in _FAILURES and code != "context_length_exceeded":
            raise Skipped(f"a real Triton cannot be made to fail one task with {code}")
        self._failing = code

    async def fail_quoting(self) -> None:
        self._own_server()
        self._failing = _QUOTING

    def secrets(self) -> Iterable[str]:
        self._own_server()
        return (_TOKEN,)

    def _observer(self) -> TritonAdapter:
        """Return an adapter of our own, past the proxy."""
        return TritonAdapter(TritonSettings(url=self._own_server().grpc_url))

    def _own_server(self) -> EmbeddedTriton:
        if self._server is None:
            raise Skipped("the server is somebody else's; without the option `url` the harness starts one of its own")
        return self._server

    def _fault_proxy(self) -> FaultProxy:
        self._own_server()
        assert self._proxy is not None
        return self._proxy


def _death_of(server: EmbeddedTriton) -> str | None:
    """Return how a server died; `None` while it answers. Not by the adapter, which is what is under test."""
    give_up_at = time.monotonic() + _ANSWERS_S
    while server.is_running:
        # Any status is an answer; and one that is asked while it dies is soon known to be dead.
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=_ANSWERS_S / 2)
            with contextlib.closing(ask):
                ask.request("GET", "/v2/health/live")
                ask.getresponse().read()
                return None
        if time.monotonic() >= give_up_at:
            return f"Triton's process runs and answers nothing over HTTP for {_ANSWERS_S:g} s"
        time.sleep(0.05)
    return f"Triton's process ended by itself, with status {server.exit_code}"


def _failing_task(code: str, prompt: str) -> TaskRequest:
    if code == "context_length_exceeded":
        return TaskRequest(model="tinylm", prompt=" ".join([prompt] * 3000), max_tokens=8)
    tokens = 3 if code == _LATE else 0
    message = f"tokenization failed at: {prompt}" if code == _QUOTING else _FAILURES[code]
    # In digits: a text that the task brought is not taken for the engine's own.
    parameters = {"triton.message_hex": message.encode().hex(), "triton.tokens": tokens}
    return TaskRequest(model="midfail", prompt=prompt, parameters=parameters)

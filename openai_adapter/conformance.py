"""The conformance harness of this adapter: a scripted engine, or one of the user's own.

`python -m conformance_tests --adapter openai` runs against a scripted engine, which it breaks on demand; with
`--option family=llama.cpp` that one behaves as llama.cpp's server does. `--option url=http://host:8000` and
`--option model=NAME` try the adapter on a real engine, which is left in peace; `--option honours=seed,logprobs` says
what that one is known to heed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod
from typing import Any

import anyio.to_thread
import numpy as np

from adapter_api import ImagePart, InferRequest, Message, TaskRequest, Tensor, TextPart, Tool, WorkerAdapter
from conformance_tests import Echo, Harness, KnownTensors, KnownText, Skipped
from conformance_tests.harness import KnownReasoning, KnownToolCalls
from openai_adapter.adapter import OpenAIAdapter
from openai_adapter.settings import OpenAISettings
from openai_adapter.testing import FAMILIES, KNOWN_TEXT, FakeOpenAI, Family
from openai_adapter.testing.http import Asked, Connection
from openai_adapter.testing.models import MODELS, THINKING, calls_of, embedding, text_of

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_KEY = "sk-conformance-5309"
_SEED = 7
_NOT_NAMED_ALIKE = {"max_completion_tokens": "max_tokens", "repeat_penalty": "repetition_penalty"}
_CHECKED = "seed,logprobs,response_format,tools,images,reasoning,tensors"


class OpenAIHarness(Harness):
    """Tries `OpenAIAdapter`.

    Args:
        url: An engine that runs already; without it a scripted one is started.
        model: A model of that engine; needed with `url`.
        prompt: What to ask it.
        api_key: What it has to be told, if anything.
        honours: What it is known to heed, separated by commas.
        messages: "true" asks by messages only, for an engine without `/v1/completions`.
        long_tokens: `max_tokens` of a task that goes on for long.
        settle_s: What a cancel may take to show.
        family: How the scripted engine behaves: vllm, llama.cpp, transformers, dynamo, triton, trtllm or openai.
    """

    name = "openai"
    plugin = "openai"
    settle_s = 1.0

    def __init__(
        self,
        *,
        url: str = "",
        model: str = "tiny",
        prompt: str = "the river is long",
        api_key: str = "",
        honours: str | None = None,
        messages: str = "false",
        long_tokens: str = "2000",
        settle_s: str = "1",
        family: str = "vllm",
    ) -> None:
        self.model = model
        self.prompt = prompt
        self._family = _family(family)
        if not url and family != "vllm":
            self.name = f"openai ({family})"
        heeded = _of(self._family) if honours is None and not url else honours or ""
        self._honours = [name.strip() for name in heeded.split(",") if name.strip()]
        self.task_seed = _SEED if "seed" in self._honours else None
        self.long_tokens = int(long_tokens)
        self.settle_s = float(settle_s)
        self._by_messages = messages.lower() in ("1", "true", "yes")
        self._url = url
        self._lists = self._family.lists
        self._key = api_key or ("" if url else _KEY)
        self._engine: FakeOpenAI | None = None

    # -- around the run -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self._url:
            self._engine = FakeOpenAI(self._family, api_key=self._key).__enter__()

    def stop(self) -> None:
        if self._engine is not None:
            self._engine.__exit__(None, None, None)

    def adapter(self) -> WorkerAdapter:
        options: dict[str, Any] = {"url": self._url or self._own_engine().url, "honours": self._honours}
        if self._key:
            options["api_key"] = self._key
        adapter = OpenAIAdapter(OpenAISettings.model_validate(options))
        # As a host does, for an engine that may not list its models.
        adapter.named_models = (
            frozenset({self.model}) if self._url else frozenset() if self._lists else frozenset(MODELS)
        )
        return adapter

    # -- known tasks --------------------------------------------------------------------------------------------------

    def task(self, **changes: Any) -> TaskRequest:
        if self._by_messages and "messages" not in changes:
            prompt = changes.pop("prompt", None) or self.prompt
            changes |= {"prompt": None, "messages": (Message(role="user", content=prompt),)}
        return super().task(**changes)

    def json_task(self) -> TaskRequest:
        return super().json_task().model_copy(update={"prompt": None, "messages": _asks(self.prompt)})

    def images_task(self) -> TaskRequest:
        parts = (TextPart(text="What is this?"), ImagePart(data=_PIXEL, media_type="image/png"))
        return self.task(prompt=None, messages=(Message(role="user", content=parts),))

    def known_tool_calls(self) -> KnownToolCalls:
        self._own_engine()
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        tools = (Tool(name="weather", description="tells the weather", parameters=schema),)
        task = self.task(prompt=None, messages=_asks("the weather in Bonn?"), tools=tools, max_tokens=64)
        # Triton's frontend tells one named call.
        made = calls_of("weather")
        return KnownToolCalls(task=task, calls=made[:1] if self._family.named_pieces else made)

    def known_reasoning(self) -> KnownReasoning:
        self._own_engine()
        task = self.task(model="thinker", prompt=None, messages=_asks(self.prompt), max_tokens=64)
        return KnownReasoning(task=task, reasoning="".join(THINKING), text=KNOWN_TEXT)

    def empty_task(self) -> TaskRequest:
        self._own_engine()
        return self.task(model="known", stop=("The",))

    def known_text(self) -> KnownText:
        self._own_engine()
        return KnownText(task=self.task(model="known", max_tokens=64), text=KNOWN_TEXT, tokens_in=4, tokens_out=16)

    def split_text(self) -> KnownText:
        self._own_engine()
        text = "a boat 🚣 below the moon 🌙"
        return KnownText(task=self.task(model="splitter", prompt=text, max_tokens=None), text=text)

    def cut_text(self) -> KnownText:
        self._own_engine()
        text = "a moon 🙂 and half of another "
        # The last character has two halves, and so has the one in the middle: the answer stops between the last two.
        return KnownText(task=self.task(model="splitter", prompt=f"{text}🌙", max_tokens=len(text) + 2), text=text)

    def slow_tensors(self) -> InferRequest:
        self._own_engine()
        return InferRequest(model="embedder", inputs=(Tensor.from_bytes_elements("input", [b"slow"]),))

    def echo_task(self, **changes: Any) -> TaskRequest:
        self._own_engine()
        return self.task(**({"model": "echo"} | changes))

    def echoed(self, answer: str) -> Echo:
        body = json.loads(answer)
        fields = {_NOT_NAMED_ALIKE.get(name, name): value for name, value in body.items()}
        if isinstance(body.get("prompt"), list):
            fields["prompt_token_ids"] = body["prompt"]
        return Echo(text=text_of(body), fields=fields)

    def known_tensors(self, datatype: Any, shape: tuple[int, ...] | None = None) -> KnownTensors:
        self._own_engine()
        shape = shape or ((2,) if datatype == "BYTES" else (2, 3))
        if datatype not in ("BYTES", "INT32", "INT64") or len(shape) > 2 or 0 in shape:
            raise Skipped("an embedding takes texts, BYTES [n], or their tokens, INT32 or INT64 [n, k]")
        if datatype == "BYTES":
            texts = ["a river", "a boat"]
            given = Tensor.from_bytes_elements("input", [text.encode() for text in texts])
            return _embedded(given, texts)
        ids = np.arange(prod(shape), dtype=datatype.lower()).reshape(shape)
        return _embedded(Tensor.from_numpy("input_ids", ids), ids.tolist())

    def stray_tensors(self) -> InferRequest:
        stray = Tensor.from_bytes_elements("NO_SUCH_TENSOR", [b"a river"])
        return InferRequest(model="embedder" if self._engine else self.model, inputs=(stray,))

    def misfit_tensors(self) -> InferRequest:
        return InferRequest(
            model="embedder" if self._engine else self.model, inputs=(Tensor("input", "FP32", (1,), bytes(4)),)
        )

    # -- what the engine sees -----------------------------------------------------------------------------------------

    async def in_flight(self) -> int:
        return self._own_engine().running

    async def inferences(self) -> int:
        return len(self._own_engine().requests)

    async def emitted(self) -> int:
        return self._own_engine().emitted

    # -- faults -------------------------------------------------------------------------------------------------------

    async def reset(self) -> None:
        if self._engine is not None:
            self._engine.forget_scripts()

    async def stop_engine(self) -> None:
        await anyio.to_thread.run_sync(self._own_engine().stop)

    async def start_engine(self) -> None:
        await anyio.to_thread.run_sync(self._own_engine().start)

    async def pause_engine(self) -> None:
        self._own_engine().pause()

    async def resume_engine(self) -> None:
        self._own_engine().resume()

    async def make_unready(self) -> None:
        self._own_engine().ready = False

    async def make_ready(self) -> None:
        self._own_engine().ready = True

    async def drop_streams(self) -> None:
        self._own_engine().drop_streams()

    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        engine, family = self._own_engine(), self._family
        wait = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        refusals = {
            "overloaded": family.busy, "not_ready": family.loading, "context_length_exceeded": family.too_long,
            "model_not_found": family.unknown_model,
            "unauthenticated": (401, "application/json", '{"error": {"message": "wrong key"}}'),
            "permission_denied": (403, "application/json", '{"error": {"message": "not for you"}}'),
            "invalid_request": (400, "application/json", '{"error": {"message": "temperature is wrong"}}'),
        }  # fmt: skip
        if code == "engine_failed":
            engine.stream_next(_frame("one "), _frame("two "), b"data: " + family.in_band.encode() + b"\n\n")
        elif code == "stream_incomplete":
            engine.stream_next(_frame("one "))
        elif code == "protocol_violation":
            engine.stream_next(_frame("one "), b"data: <html>\n\n")
        elif code == "connection_lost":
            engine.stream_next(_frame("one "), end=False)
        elif (refusal := refusals.get(code)) is not None:
            status, kind, body = refusal
            engine.fail_next(status, body.encode(), kind=kind, headers=wait)
        else:
            raise Skipped(f"engines of the family {family.name} do not fail one task with {code}")

    async def fail_quoting(self) -> None:
        async def quote(asked: Asked, connection: Connection) -> None:
            words = text_of(json.loads(asked.body))
            body = {"error": {"message": f"tokenization failed at: {words}", "type": "BadRequestError"}}
            await connection.answer(500, json.dumps(body).encode())

        self._own_engine().then(quote)

    def secrets(self) -> Iterable[str]:
        self._own_engine()
        return (_KEY,)

    def _own_engine(self) -> FakeOpenAI:
        if self._engine is None:
            raise Skipped("the engine is somebody else's; without the option `url` the harness starts a scripted one")
        return self._engine


def _embedded(given: Tensor, texts: list[Any]) -> KnownTensors:
    output = Tensor.from_numpy("embedding", np.array([embedding(text) for text in texts], dtype="<f4"))
    return KnownTensors(request=InferRequest(model="embedder", inputs=(given,)), outputs=(output,))


def _family(name: str) -> Family:
    for family in FAMILIES:
        if family.name == name:
            return family
    raise TypeError(f"no family {name!r}; there are {', '.join(family.name for family in FAMILIES)}")


def _of(family: Family) -> str:
    lacking = {"seed": family.heeds_seed, "logprobs": family.gives_logprobs}
    return ",".join(name for name in _CHECKED.split(",") if lacking.get(name, True))


def _asks(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def _frame(text: str) -> bytes:
    choice = {"index": 0, "text": text, "delta": {"content": text}, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()

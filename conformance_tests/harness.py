"""What an adapter's author supplies so that the suite can try the adapter.

    class MyHarness(Harness):
        model = "tiny"

        def adapter(self) -> WorkerAdapter:
            return MyAdapter(MySettings(url="http://127.0.0.1:9000"))

That is enough to begin. Every other method makes more checks possible; one that is not overridden has its checks
reported as `skipped`, with the reason.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NoReturn, Self

import msgspec

from adapter_api import (
    Datatype,
    InferRequest,
    Message,
    PluginHost,
    ResponseFormat,
    TaskRequest,
    Tensor,
    WorkerAdapter,
    load_plugins,
)
from conformance_tests.outcome import HarnessBroke, Skipped, Verdict
from conformance_tests.promises import broken_promise

Backend = Literal["asyncio", "trio"]


class KnownText(msgspec.Struct, frozen=True, kw_only=True):
    """A task and exactly the text that the engine answers it with; token counts where they are known."""

    task: TaskRequest
    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None


class KnownToolCalls(msgspec.Struct, frozen=True, kw_only=True):
    """A task with tools, and exactly the calls that the model answers it with, in order."""

    task: TaskRequest
    calls: tuple[tuple[str, str], ...]
    """The name of each, and its arguments as the engine writes them, blank for blank."""


class KnownReasoning(msgspec.Struct, frozen=True, kw_only=True):
    """A task that makes the model think, with exactly what it thinks, and the text that it answers with then."""

    task: TaskRequest
    reasoning: str
    text: str


class KnownTensors(msgspec.Struct, frozen=True, kw_only=True):
    """An inference and exactly the outputs that the engine answers it with, in any order."""

    request: InferRequest
    outputs: tuple[Tensor, ...]


class KnownResponses(msgspec.Struct, frozen=True, kw_only=True):
    """An inference and exactly the outputs of each of its responses, in order."""

    request: InferRequest
    responses: tuple[tuple[Tensor, ...], ...]


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine's echoing model says it was sent for one task."""

    text: str
    """The prompt; of messages, all that the model got of them as text, with their roles if it got those."""
    fields: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """The options that the engine was sent with it, under the names that they have in `TaskRequest`."""
    model_version: str | None = None
    """The version of the model that answered; `None` where models have no versions."""


class Harness(ABC):
    """Makes adapters for the suite, knows tasks that suit the engine, and breaks the engine on demand.

    One harness serves one run: `start` once, then for every check `reset` and the others, then `stop` once. Each check
    runs in an event loop of its own, one after the other, so nothing that belongs to a loop may be kept between checks.
    What is broken is always mended by the method's counterpart before the check ends. An exception out of a harness
    method says that the harness broke, not that the adapter failed; `Skipped` says that it cannot be done here.
    """

    name: str = ""
    """How reports call the adapter under test; its plugin's or class's name when empty."""

    plugin: str | None = None
    """The name under which an entry point registers the adapter; `None` skips the checks of registration."""

    model: str = ""
    """A model that takes text tasks."""

    prompt: str = "Say something about rivers."
    """What `task` and `long_task` ask. The answer has at least three tokens, every time."""

    task_seed: int | None = None
    """The seed of `task`, for a model that takes one: a run that answers otherwise each time may fail by chance."""

    backend: Backend = "asyncio"
    """The event loop that checks run on, by anyio's name."""

    control_timeout_s: float | None = 2.0
    """`WorkerAdapter.control_timeout_s` of every adapter made, so that what must be bounded is waited for briefly;
    `None` leaves the adapter's own."""

    settle_s: float = 2.0
    """Seconds that the engine may take to show an effect: a slot freed after a cancel, readiness after a restart."""

    long_tokens: int = 2000
    """`max_tokens` of `long_task`. Left alone it must go on for more than twice `settle_s`, which the suite measures:
    what leaves the engine by itself within that time proves no cancel."""

    echo_versions: tuple[str, ...] = ()
    """Versions of the model of `echo_task` that can be asked for; with fewer than two nothing tells them apart."""

    most_ahead: int | None = None
    """How many tokens may be on their way from the engine to a reader that does not read; `None` where nobody knows,
    as with sockets, which hold thousands. Enables a check, together with `emitted`."""

    streams: int = 100
    """How many tasks run at once where many are needed."""

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> Self:
        """Return a harness made with the `--option`s of the command line; raises `TypeError` for an unknown one."""
        return cls(**options)

    def backend_options(self) -> dict[str, Any]:
        """Return `anyio.run`'s `backend_options`; called for every check."""
        return {}

    # -- required -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def adapter(self) -> WorkerAdapter:
        """Return a new adapter, not yet open, for the engine. The suite opens and closes it."""

    # -- around the run -----------------------------------------------------------------------------------------------

    def start(self) -> None:  # noqa: B027 - optional
        """Get what all checks need, such as an engine of their own. Called once, outside any event loop."""

    def stop(self) -> None:  # noqa: B027 - optional
        """Release what `start` got. Called once, also when `start` failed."""

    async def reset(self) -> None:  # noqa: B027 - optional
        """Put the engine into its normal state. Called before every check."""

    # -- known tasks --------------------------------------------------------------------------------------------------

    def task(self, **changes: Any) -> TaskRequest:
        """Return a short text task, with the given fields changed; it produces at least three tokens and ends."""
        fields: dict[str, Any] = {"model": self.model, "prompt": self.prompt, "max_tokens": 8}
        if self.task_seed is not None and changes.get("model", self.model) == self.model:
            fields["seed"] = self.task_seed
        return TaskRequest(**(fields | changes))

    def long_task(self, **changes: Any) -> TaskRequest:
        """Return a text task that goes on for more than twice `settle_s` when nobody ends it."""
        return self.task(**({"max_tokens": self.long_tokens} | changes))

    def messages_task(self, **changes: Any) -> TaskRequest:
        """Return a short task by messages."""
        messages = (Message(role="user", content=self.prompt),)
        return self.task(**({"prompt": None, "messages": messages} | changes))

    def json_task(self) -> TaskRequest:
        """Return a task whose answer has to conform to the JSON Schema in its `response_format`."""
        schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
        return self.task(response_format=ResponseFormat(type="json_schema", json_schema=schema), max_tokens=128)

    def images_task(self) -> TaskRequest:
        """Return a short task with an image that the model takes."""
        _cannot("name a task with an image", "images_task")

    def tools_task(self) -> TaskRequest:
        """Return a task that the model answers with a tool call; by itself, that of `known_tool_calls`."""
        if type(self).known_tool_calls is not Harness.known_tool_calls:
            return self.known_tool_calls().task
        _cannot("name a task that ends in a tool call", "tools_task")

    def empty_task(self) -> TaskRequest:
        """Return a task that the engine answers with no text at all, in order."""
        _cannot("name a task with an empty answer", "empty_task")

    def known_text(self) -> KnownText:
        """Return a task with its exact answer, known from elsewhere than the adapter.

        The answer has several words, and the model ends it by itself, before `max_tokens`. With a line break and two
        blanks in a row it shows more.
        """
        _cannot("tell the exact answer of a task", "known_text")

    def known_tool_calls(self) -> KnownToolCalls:
        """Return a task that the model answers with exactly these tool calls, known from elsewhere than the adapter.

        Two calls, and arguments whose JSON has a blank or an order that nobody would write, show more.
        """
        _cannot("tell the exact tool calls of a task", "known_tool_calls")

    def known_reasoning(self) -> KnownReasoning:
        """Return a task that makes the model think before it answers, with its exact thoughts and answer."""
        _cannot("tell what the model thinks", "known_reasoning")

    def split_text(self) -> KnownText:
        """Return a task whose answer has characters of several bytes, its last one among them, each of which the engine
        cuts between two pieces."""
        _cannot("make the engine cut a character in two", "split_text")

    def cut_text(self) -> KnownText:
        """Return a task whose answer stops inside a character; `text` is all that comes before that character."""
        _cannot("make the engine stop inside a character", "cut_text")

    def echo_task(self, **changes: Any) -> TaskRequest:
        """Return a task for a model that answers with what it was sent, so that the suite can read it.

        A few lines in most engines, and they show what no other check can: options that were dropped, messages that
        were left out, what is another task's. The answer must be told whole, whatever `max_tokens` asks.
        """
        _cannot("have the engine answer with what it was sent", "echo_task")

    def echoed(self, answer: str) -> Echo:
        """Return what the answer to an `echo_task` says; by itself, the answer is JSON with the fields of `Echo`."""
        return msgspec.json.decode(answer, type=Echo)

    def known_tensors(self, datatype: Datatype, shape: tuple[int, ...] | None = None) -> KnownTensors:
        """Return an inference whose only input has that datatype, and that shape if given, with its exact outputs."""
        _cannot(f"tell the outputs of an inference on {datatype}", "known_tensors")

    def named_tensors(self) -> KnownTensors:
        """Return an inference with at least two inputs and two outputs that are told apart by name only."""
        _cannot("tell the outputs of an inference with several inputs and outputs", "named_tensors")

    def slow_tensors(self) -> InferRequest:
        """Return an inference that takes the engine half a second or more; `in_flight` counts it once it was sent."""
        _cannot("name an inference that takes a while", "slow_tensors")

    def stray_tensors(self) -> InferRequest:
        """Return an inference with an input, the first, that the model does not have."""
        request = self.known_tensors("FP32").request
        stray = msgspec.structs.replace(request.inputs[0], name="NO_SUCH_TENSOR")
        return msgspec.structs.replace(request, inputs=(stray,))

    def misfit_tensors(self) -> InferRequest:
        """Return an inference whose first input has a datatype or a shape that the model does not take."""
        _cannot("name an inference that does not fit its model", "misfit_tensors")

    def known_stream(self) -> KnownResponses:
        """Return an inference that is answered with several responses."""
        _cannot("name an inference with several responses", "known_stream")

    def known_sequence(self) -> tuple[KnownTensors, ...]:
        """Return the requests of one sequence, in order; their outputs show the order in which the model got them."""
        _cannot("name the requests of a sequence", "known_sequence")

    # -- what the engine sees -----------------------------------------------------------------------------------------

    async def in_flight(self) -> int:
        """Return how many tasks the engine works on now, counted by the engine, not by the adapter."""
        _cannot("count the tasks in the engine", "in_flight")

    async def inferences(self) -> int:
        """Return how many tasks and inferences the engine has been sent so far."""
        _cannot("count what the engine was sent", "inferences")

    async def emitted(self) -> int:
        """Return how many tokens the engine has handed out so far."""
        _cannot("count the tokens that the engine hands out", "emitted")

    # -- faults -------------------------------------------------------------------------------------------------------

    async def stop_engine(self) -> None:
        """Let the engine die: running streams break, nothing answers any more."""
        _cannot("stop the engine", "stop_engine")

    async def start_engine(self) -> None:
        """Bring the engine back after `stop_engine`, at the same address."""
        _cannot("start the engine again", "start_engine")

    async def pause_engine(self) -> None:
        """Let the engine hang: connections stay, nothing is answered."""
        _cannot("pause the engine", "pause_engine")

    async def resume_engine(self) -> None:
        """Let the engine go on after `pause_engine`."""
        _cannot("resume the engine", "resume_engine")

    async def engine_died(self) -> str | None:
        """Return how the engine has died, or that it hangs for good, in a few words; `None` while it lives, and where
        nobody can tell.

        Asked after every check, when all that the check broke is mended, so it is to be cheap: has the process ended,
        does a question of the harness's own, past the adapter, get an answer? Nothing is proved on an engine that died
        by itself: it is brought back, and the check is run once more.
        """
        return None

    async def revive_engine(self) -> None:
        """Bring the engine back, at the same address, after `engine_died` has told of its death; by itself,
        `start_engine`."""
        await self.start_engine()

    async def make_unready(self) -> None:
        """Make the engine alive but not ready for work, as while it loads its model."""
        _cannot("make the engine alive but not ready", "make_unready")

    async def make_ready(self) -> None:
        """Make the engine ready again after `make_unready`."""
        _cannot("make the engine ready again", "make_ready")

    async def drop_streams(self) -> None:
        """Break the connections of the running streams; the engine stays up. Also called while it is paused, so that an
        engine that is asked to do it can only do the half of it."""
        _cannot("drop running streams", "drop_streams")

    async def fail_next(self, code: str, retry_after_s: float | None = None) -> None:
        """Make the engine fail the next task in the way that the contract calls `code`.

        Raise `Skipped` for a code that this engine cannot produce, or when it cannot tell a `retry_after_s`.
        """
        _cannot(f"make a task fail with {code}", "fail_next")

    async def fail_quoting(self) -> None:
        """Make the engine fail the next task with an error of its own that repeats the task's prompt."""
        _cannot("make the engine repeat a prompt in an error", "fail_quoting")

    # -- what the adapter must keep to itself, and how it is found ----------------------------------------------------

    def secrets(self) -> Iterable[str]:
        """Return credentials that the adapter was given; none may show in an error, a log or a `repr`."""
        _cannot("name a secret of the adapter", "secrets")

    def load_plugins(self) -> PluginHost:
        """Return the host of the installed plugins."""
        return load_plugins(block=())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and callable(getattr(Harness, name, None)) and not name.startswith("__"):
                setattr(cls, name, _told_apart(method))


def _cannot(what: str, method: str) -> NoReturn:
    raise Skipped(f"the harness cannot {what}: Harness.{method} is not overridden")


def _told_apart(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let an exception out of a harness method, or an empty task, be told from a fault of the adapter."""

    def broke(exc: Exception) -> HarnessBroke:
        return HarnessBroke(f"harness method {method.__qualname__} raised {type(exc).__name__}: {exc}")

    def kept(given: Any) -> Any:
        problem = broken_promise(method.__name__, given)
        if problem is not None:
            raise HarnessBroke(f"harness method {method.__qualname__} returned {problem}")
        return given

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            try:
                return kept(await method(*args, **kwargs))
            except Verdict:
                raise
            except Exception as exc:
                raise broke(exc) from exc

        return asynchronous

    @functools.wraps(method)
    def synchronous(*args: Any, **kwargs: Any) -> Any:
        try:
            return kept(method(*args, **kwargs))
        except Verdict:
            raise
        except Exception as exc:
            raise broke(exc) from exc

    return synchronous

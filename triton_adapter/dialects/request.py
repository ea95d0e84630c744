"""Collects the inputs of one request, and refuses by name what the model has no place for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from adapter_api import InvalidRequest, TaskRequest, Tensor, Unsupported
from adapter_api.task import ParameterValue
from triton_adapter.codec import make_tensor
from triton_adapter.schema import EncodedTask, ModelSchema, TensorSpec

SAMPLING_FIELDS = (
    "max_tokens",
    "min_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
"""The task's fields that are one number each."""

TASK_FIELDS = frozenset({*SAMPLING_FIELDS, "stop", "logprobs", "response_format", "tools", "tool_choice"})

# Request parameters that mean something to the server itself, and what to use instead.
_RESERVED = {
    "priority": "set the task's `priority`",
    "timeout": "set the task's `timeout_s`",
    "sequence_id": "use `infer` with a `Sequence`",
    "sequence_start": "use `infer` with a `Sequence`",
    "sequence_end": "use `infer` with a `Sequence`",
    "headers": "it belongs to Triton's HTTP server",
    "binary_data_output": "it belongs to Triton's HTTP server",
}
# One task has one completion; engines name the number of them in different ways.
_COMPLETIONS = frozenset({"n", "best_of", "num_return_sequences", "beam_width", "sampling_param_best_of"})


class RequestBuilder:
    """One request in the making. `put` takes only what the model declares."""

    __slots__ = ("_prompt", "_tensors", "parameters", "schema", "task")

    def __init__(self, task: TaskRequest, schema: ModelSchema) -> None:
        self.task = task
        self.schema = schema
        self.parameters: dict[str, ParameterValue] = {}
        self._tensors: dict[str, Tensor] = {}
        self._prompt: str | None = None

    def put_prompt(self, names: Sequence[str], text: str) -> None:
        """Fill the first of `names` that the model declares with the prompt: its text, and nothing else."""
        if self.put(names, text):
            self._prompt = next(name for name in names if name in self._tensors)

    def put(self, names: Sequence[str], *values: ParameterValue | bytes) -> bool:
        """Fill the first of `names` that the model declares as an input; false when it declares none of them."""
        for name in names:
            spec = self.schema.inputs.get(name)
            if spec is not None:
                self._tensors[name] = make_tensor(spec, values, batched=self.schema.max_batch_size > 0)
                return True
        return False

    def put_images(self, names: Sequence[str]) -> None:
        """Fill the first of `names` that the model declares with the task's images, if it has any.

        Raises:
            Unsupported: The model declares none of them, or it takes images in the other form only.
        """
        images = self.task.images
        if not images:
            return
        taker = next((name for name in names if name in self.schema.inputs), None)
        if taker is None:
            raise self.unsupported("images")
        by_url = takes_urls(taker)
        if any((image.url is not None) != by_url for image in images):
            takes, advice = (
                ("http(s) URLs, which it fetches itself", "give the image by `url`")
                if by_url
                else ("images by value, and fetches nothing", "give the image itself")
            )
            raise Unsupported(f"model {self.schema.name!r} takes {takes} (input {taker!r}): {advice}")
        self.put((taker,), *(image.url or image.data for image in images))

    def ask(self, flag: str) -> bool:
        """Fill the input of that name with true; false when the model declares none."""
        spec = self.schema.inputs.get(flag)
        if spec is None:
            return False
        self._tensors[flag] = _true(spec, self.schema.max_batch_size > 0)
        return True

    def pass_through(self, *, own: Iterable[str]) -> dict[str, ParameterValue]:
        """Fill inputs from the task's `triton.` parameters and return those that name no input of the model.

        Args:
            own: Inputs that the dialect fills itself.

        Raises:
            InvalidRequest: A parameter is reserved, a field of the task, or does not fit its input.
        """
        left: dict[str, ParameterValue] = {}
        own = frozenset(own)
        for name, value in self.task.parameters_for("triton").items():
            self._check_parameter(name, value, own)
            if not self.put((name,), value):
                left[name] = value
        return left

    def finish(self, outputs: Sequence[str], *, streaming: bool, fields: Callable[[], dict[str, str]]) -> EncodedTask:
        """Return the request.

        Args:
            outputs: The outputs to ask for; all when empty.
            streaming: Whether it goes out as a stream.
            fields: Returns, for the message, the task's field that fills an input, by the input's name.

        Raises:
            InvalidRequest: An input that the model requires is not filled.
        """
        tensors = self._tensors
        missing = [name for name, spec in self.schema.inputs.items() if spec.optional is False and name not in tensors]
        if missing:
            raise InvalidRequest(f"model {self.schema.name!r} needs " + _how_to_give(missing, fields()))
        return EncodedTask(
            inputs=tuple(tensors.values()), parameters=self.parameters, outputs=tuple(outputs), streaming=streaming,
            prompt=None if self._prompt is None else list(tensors).index(self._prompt),
        )  # fmt: skip

    def unsupported(self, what: str, why: str = "") -> Unsupported:
        """Return the error for something the model has no place for, with `why`, or else naming what it does take."""
        why = why or f"its inputs are {', '.join(sorted(self.schema.inputs))}"
        return Unsupported(f"model {self.schema.name!r} has no place for {what}; {why}")

    def refuse_tools_beside_a_prompt(self) -> None:
        """Raise `Unsupported` for tools that no template has written into the prompt."""
        task = self.task
        if task.prompt is not None and (task.tools or task.tool_choice is not None):
            raise self.unsupported("`tools`")

    def _check_parameter(self, name: str, value: ParameterValue, own: frozenset[str]) -> None:
        advice = _RESERVED.get(name)
        if advice is not None or name.startswith(("triton_", "sequence_")):
            raise InvalidRequest(
                f"parameter 'triton.{name}' is reserved by the server; {advice or 'choose another name'}"
            )
        if name in TASK_FIELDS:
            raise InvalidRequest(f"parameter 'triton.{name}' is a field of the task; set `{name}` there")
        if name in own:
            raise InvalidRequest(f"parameter 'triton.{name}' is set by the adapter itself; leave it out")
        if name in _COMPLETIONS and value not in (1, "1"):
            raise InvalidRequest(f"parameter 'triton.{name}' must be 1: a task has one completion")


def takes_urls(name: str) -> bool:
    """Return whether an input for images wants their URLs, as its name says; else it wants plain base64."""
    return "url" in name.lower()


@lru_cache(maxsize=1024)
def _true(spec: TensorSpec, batched: bool) -> Tensor:
    # Half of a request is such flags, and a tensor never changes.
    return make_tensor(spec, (True,), batched=batched)


def _how_to_give(missing: Sequence[str], fields: dict[str, str]) -> str:
    ways = []
    for name in missing:
        field = fields.get(name)
        if field is None:
            ways.append(f"input {name!r}, which no field of a task fills: give it as parameter 'triton.{name}'")
        elif field == name:
            ways.append(f"`{field}` and has no default of its own: set it in the task")
        else:
            ways.append(f"input {name!r}: set the task's `{field}`")
    return "; and ".join(ways)

"""How a model takes texts and gives their embeddings, read from what it declares. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import msgspec
import numpy as np

from adapter_api import InferRequest, ModelProps, ProtocolViolation, RequestedOutput, Tensor, TensorSpec, Unsupported
from orchestrator.config.settings import EmbeddingSettings

_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_NAMED = 8


class EmbeddingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is asked for the embeddings of some texts."""

    input: str
    output: str
    dims: tuple[int, ...] = (1,)
    """Shape of the input for one text; with `batched`, what follows the number of texts."""
    batched: bool = False
    """Whether several texts fit into one inference."""
    most: int | None = None
    """Texts of an inference; `None`: any number."""
    size: int | None = None
    """Numbers of an embedding, where the model declares it."""

    def request(self, request: InferRequest, texts: Sequence[str]) -> InferRequest:
        """Return the inference for some texts: one, unless it is `batched`."""
        shape = (len(texts), *self.dims) if self.batched else self.dims
        tensor = Tensor.from_bytes_elements(self.input, [text.encode() for text in texts], shape)
        return msgspec.structs.replace(request, inputs=(tensor,), outputs=(RequestedOutput(self.output),))

    def rows_at_once(self, texts: int) -> int:
        """Return how many of so many texts go into an inference."""
        return min(texts, self.most or texts) if self.batched else 1


def plan_of(props: ModelProps | None, settings: EmbeddingSettings, model: str) -> EmbeddingPlan:
    """Return how a model is asked; names in the settings win over what is found.

    Args:
        props: What the engine told of the model; where it told nothing of its tensors, the settings have to name them,
            and it gets one text at a time.
        settings: Those of its pool.
        model: Its name, for errors.

    Raises:
        Unsupported: It has no such tensors, or several that may be meant; the message says which it has.
    """
    if props is None or not props.inputs or not props.outputs:
        if settings.input is None or settings.output is None:
            raise Unsupported(
                f"model {model!r} does not tell its tensors: name those of its embeddings in its pool's settings, as "
                'in `embeddings = { input = "text", output = "embedding" }`'
            )
        return EmbeddingPlan(input=settings.input, output=settings.output)
    texts = [each for each in props.inputs if each.datatype == "BYTES" and len(each.shape) > 0]
    vectors = [each for each in props.outputs if each.datatype in _FLOATS and len(each.shape) > 0]
    if settings.output is None and any(each.datatype == "BYTES" for each in props.outputs):
        vectors = []  # it writes texts, and the numbers tell something of those
    given = _chosen(texts, props.inputs, settings.input, f"model {model!r} takes no texts", "input")
    found = _chosen(vectors, props.outputs, settings.output, f"model {model!r} gives no embeddings", "output")
    needed = [each.name for each in props.inputs if each is not given and each.optional is False]
    if needed:
        raise Unsupported(
            f"model {model!r} needs more than texts for its embeddings: inputs {_list(needed)}; ask it with "
            f"/v2/models/{model}/infer"
        )
    return _plan(given, found, props.max_batch_size or 0, model)


def embeddings_fault(models: Sequence[ModelProps], settings: EmbeddingSettings) -> str | None:
    """Return why no model has the tensors that a pool's settings name; `None` when one has, or none are named."""
    fault: str | None = None
    for props in models if settings != EmbeddingSettings() else ():
        try:
            plan_of(props, settings, props.name)
        except Unsupported as exc:
            fault = fault or exc.message
        else:
            return None
    return fault


def vectors_in(tensor: Tensor, texts: int, model: str) -> list[bytes]:
    """Return the embeddings of so many texts: 32-bit numbers each, little-endian.

    Raises:
        ProtocolViolation: The output is something else than a vector of finite numbers for each text.
    """
    shape = tensor.shape
    if tensor.datatype not in _FLOATS:
        raise ProtocolViolation(f"model {model!r}: its output {tensor.name!r} is {tensor.datatype}, no embeddings")
    size = prod(shape) // texts
    # Whatever ones there are besides: [n, d], [n, 1, d]; of one text [d], too.
    fits = [dim for dim in shape if dim != 1] == [dim for dim in (texts, size) if dim != 1] and (
        texts == 1 or shape[:1] == (texts,)
    )
    if not fits or not size:
        raise ProtocolViolation(
            f"model {model!r}: its output {tensor.name!r} has the shape {list(shape)} for {texts} texts, which is not "
            "one vector for each"
        )
    with np.errstate(over="ignore"):  # it becomes an infinity
        array = tensor.to_numpy().astype("<f4", copy=False)
    if not np.isfinite(array).all():
        raise ProtocolViolation(f"model {model!r}: an embedding holds NaN or an infinity")
    data = array.tobytes()
    return [data[at : at + 4 * size] for at in range(0, len(data), 4 * size)]


def _chosen(
    fitting: list[TensorSpec], declared: Sequence[TensorSpec], name: str | None, none_at_all: str, what: str
) -> TensorSpec:
    """Return the tensor of a name, or else the only one that fits, or that fits and is required."""
    if name is not None:
        fitting = [each for each in fitting if each.name == name]
        none_at_all += f" by the {what} {name!r} that its pool's settings name"
    required = [each for each in fitting if not each.optional] or fitting
    if not required:
        raise Unsupported(f"{none_at_all}: its {what}s are {_list(f'{e.name} {e.datatype}' for e in declared)}")
    if len(required) > 1:
        raise Unsupported(
            f"{none_at_all} as it stands, for several {what}s may be meant: name one of "
            f"{_list(each.name for each in required)} as `embeddings.{what}` of its pool"
        )
    return required[0]


def _plan(given: TensorSpec, found: TensorSpec, max_batch_size: int, model: str) -> EmbeddingPlan:
    declared = found.shape[-1] if found.shape[-1] > 0 else None
    if max_batch_size > 0:
        dims, batched, most = given.shape[1:], True, max_batch_size
    else:
        # The first dimension is the number of texts where it is open, and so is the first of two of the output.
        batched = given.shape[0] == -1 and len(found.shape) > 1 and found.shape[0] == -1
        dims, most = given.shape[1:] if batched else given.shape, None
    if any(dim not in (-1, 1) for dim in dims):
        raise Unsupported(
            f"model {model!r} takes texts in the shape {list(given.shape)}, which is not one text after the other; ask "
            f"it with /v2/models/{model}/infer"
        )
    return EmbeddingPlan(
        input=given.name, output=found.name, dims=(1,) * len(dims), batched=batched, most=most, size=declared
    )


def _list(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more

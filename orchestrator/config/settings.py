"""What an orchestrator is told: pools, their replicas, and how carefully each is treated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from adapter_api import ConfigurationError
from adapter_api.bounds import MAX_NAME, MAX_TIMEOUT_S
from adapter_api.task import describe_validation_error
from adapter_kit.answers import CallsBy, ThoughtsBy

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_LONGEST_S = 366 * 24 * 3600
"""What every timer takes."""
Seconds = Annotated[float, Field(gt=0, le=_LONGEST_S, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, le=_LONGEST_S, allow_inf_nan=False)]


class Frozen(BaseModel):
    """Base of all settings: immutable, and unknown keys are refused by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {int, float} & {kind, *get_args(kind)}:
            raise ValueError("must be a number, not true or false")
        return value


def _listed(value: Any) -> Any:
    """A name may stand alone where a list of names may."""
    if not isinstance(value, Mapping):
        return value
    return {model: [names] if isinstance(names, str) else names for model, names in value.items()}


def _distinct(served_as: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    taken: dict[str, str] = {}
    for model, names in served_as.items():
        if not names:
            raise ValueError(f"model {model!r} is served as nothing: give it a name, or take it out")
        for name in names:
            if taken.setdefault(name, model) != model:
                raise ValueError(f"models {taken[name]!r} and {model!r} are both served as {name!r}: which is it?")
    return MappingProxyType(dict(served_as))


ModelName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME)]
TensorName = ModelName
ServedAs = Annotated[
    Mapping[ModelName, tuple[ModelName, ...]],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    PlainSerializer(dict),
]


def _no_names() -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({})


class HealthSettings(Frozen):
    """How replicas are watched."""

    interval_s: Seconds = Field(default=2.0, description="between the end of a probe and the next one")
    timeout_s: Seconds = Field(default=3.0, description="a probe without an answer for that long is a bad one")
    fall: int = Field(default=2, ge=1, description="bad probes in a row that take a replica out")
    rise: int = Field(default=2, ge=1, description="good probes in a row that take it back in")
    start_wait_s: SecondsOrZero = Field(default=5.0, description="how long opening waits for the first probes")


class BreakerSettings(Frozen):
    """When a replica that answers its probes and fails its tasks is left alone for a while."""

    failures: int = Field(
        default=5, ge=1, description="failures in a row that open the breaker of a replica, or of a model there"
    )
    open_s: Seconds = Field(default=5.0, description="how long it stays open the first time; doubles each time")
    max_open_s: Seconds = 60.0


class QueueSettings(Frozen):
    """How many tasks may wait for a free slot, and what happens to one too many."""

    limit: int = Field(default=1024, ge=0, description="waiting tasks per pool; 0 lets none wait")
    policy: Literal["reject", "drop-lru"] = Field(
        default="reject", description="full queue: refuse the newcomer, or drop the one that has waited longest"
    )
    interactive_share: float = Field(
        default=1.0, gt=0, le=1, description="largest part of the places that interactive tasks may take, with `reject`"
    )
    batch_share: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="largest part of the places that batch tasks may take, so that interactive ones find one; with "
        "`drop-lru` there is no need for it, because interactive tasks take the places of batch tasks",
    )
    batch_every: int = Field(
        default=5, ge=2, description="every so-manieth task to leave the queue is a batch task, if one waits"
    )
    timeout_s: Seconds = Field(default=60.0, description="longest wait in the queue")
    not_ready_wait_s: SecondsOrZero = Field(
        default=2.0, description="longest wait while no replica has the model ready; then the task ends in `not_ready`"
    )


class RetrySettings(Frozen):
    """How often a task that has shown nothing may move on when its replica fails."""

    attempts: int = Field(default=3, ge=1, description="replicas tried in all")
    backoff_s: SecondsOrZero = Field(default=0.05, description="wait before a replica is tried a second time; doubles")
    max_backoff_s: SecondsOrZero = 1.0


class ReplicaSettings(Frozen):
    """One replica: an engine endpoint, and the adapter's options that reach it."""

    id: Identifier
    adapter: str | None = Field(
        default=None, description="the plugin's name; absent: the pool's, or else the one that serves the scheme of url"
    )
    url: str | None = Field(
        default=None, min_length=1, repr=False, description="where the engine is: the adapter's option of that name"
    )
    options: dict[str, Any] = Field(default_factory=dict, repr=False, description="the adapter's other settings")
    served_as: ServedAs = Field(
        default_factory=_no_names, description="as the pool's, for this replica's engine; wins over it"
    )
    metrics_url: str | None = Field(
        default=None, pattern=r"^https?://", description="the engine's own Prometheus metrics, exported beside ours"
    )
    slots: int | None = Field(
        default=None, ge=1, description="tasks at once; absent: what the engine says, else the pool's default_slots"
    )

    @property
    def adapter_options(self) -> dict[str, Any]:
        """All that the adapter is told."""
        return self.options if self.url is None else {"url": self.url, **self.options}

    @model_validator(mode="after")
    def _has_one_url(self) -> Self:
        if self.url is not None and "url" in self.options:
            raise ValueError(f"replica {self.id!r} has a url of its own and one in options: take one out")
        return self


class EmbeddingSettings(Frozen):
    """Which of a model's tensors are texts, and which their embeddings; what is absent is told from the model."""

    input: TensorName | None = Field(default=None, description="takes texts; absent: the only input that does")
    output: TensorName | None = Field(
        default=None, description="holds a vector for each text; absent: the only output of floating-point numbers"
    )


class PoolSettings(Frozen):
    """Replicas that serve the same models, each by an adapter of its own or by the pool's."""

    id: Identifier = "default"
    adapter: str | None = Field(default=None, description="of those replicas that name none")
    replicas: tuple[ReplicaSettings, ...] = Field(min_length=1)
    models: tuple[str, ...] = Field(default=(), description="serve only these; empty: all that the engines have")
    served_as: ServedAs = Field(
        default_factory=_no_names,
        description="the name, or names, that an engine's model has here in place of its own; models that are not "
        "among them keep theirs",
    )
    weight: int = Field(default=100, ge=0, description="share of the traffic among pools that serve a model")
    shadow_of: str | None = Field(
        default=None, description="copy some of that pool's tasks here, compare the answers, and show them to nobody"
    )
    shadow_percent: float = Field(default=100.0, ge=0, le=100, description="how many of them, in percent")
    shadow_limit: int = Field(default=32, ge=1, description="copies at a time; more are left out and counted")
    shadow_compare: Literal["text", "boxes"] = Field(
        default="text", description="what agrees: the texts, or the boxes of detectors that answer with them as JSON"
    )
    default_slots: int = Field(default=64, ge=1)
    task_timeout_s: Annotated[Seconds, Field(le=MAX_TIMEOUT_S)] | None = Field(
        default=None, description="for tasks that bring no timeout of their own"
    )
    engine_version: str | None = Field(
        default=None,
        description="send work only to replicas of this engine version; `first`: that of the first ready, until no "
        "replica has it any more",
    )
    chat_template: str | Path | None = Field(
        default=None,
        repr=False,
        description="makes one text of messages: a jinja2 template, or where one is (a file, a tokenizer_config.json, "
        "the folder of a model); absent: messages reach models that take them, and others get a plain layout",
    )
    chat_template_kwargs: Annotated[
        Mapping[str, JsonValue], AfterValidator(MappingProxyType), PlainSerializer(dict)
    ] = Field(
        default_factory=lambda: MappingProxyType({}),
        description="values that the template finds, as enable_thinking; a task's own win",
    )
    default_max_tokens: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="for text tasks without max_tokens; absent: the engine's own default, which may be short",
    )
    tool_parser: CallsBy = Field(
        default="auto",
        description="how models write the tool calls that the chat template teaches them; `auto`: told from the "
        "template; `none`: calls stay text; the names are in docs/tool-calls.md",
    )
    reasoning_parser: ThoughtsBy = Field(
        default="none",
        description="the marks of thoughts in the text: `think` is <think>…</think> before an answer; `auto`: told "
        "from the template; the names are in docs/tool-calls.md",
    )
    embeddings: EmbeddingSettings = Field(
        default=EmbeddingSettings(), description="how models are asked for embeddings"
    )
    health: HealthSettings = HealthSettings()
    breaker: BreakerSettings = BreakerSettings()
    queue: QueueSettings = QueueSettings()
    retry: RetrySettings = RetrySettings()

    @model_validator(mode="after")
    def _every_replica_has_an_adapter(self) -> Self:
        for replica in self.replicas:
            if (replica.adapter or self.adapter or replica.url) is None:
                raise ValueError(
                    f"replica {replica.id!r} of pool {self.id!r} names no adapter, nor does its pool; give it one, or "
                    "a url by whose scheme it is found"
                )
        _refuse_twins("replica", (replica.id for replica in self.replicas))
        return self


class SessionSettings(Frozen):
    """How long the replica that served a session is remembered."""

    ttl_s: Seconds = 600.0
    limit: int = Field(default=10_000, ge=1, description="sessions remembered; the least recently used one goes first")


class OrchestratorSettings(Frozen):
    """Everything an `Orchestrator` is told."""

    pools: tuple[PoolSettings, ...] = Field(min_length=1)
    sessions: SessionSettings = SessionSettings()
    scrape_interval_s: Seconds = Field(default=10.0, description="between two looks at the engines' own metrics")
    retained_jobs: int = Field(default=10_000, ge=0, description="ended tasks whose job_id and outcome are remembered")
    read_environment: bool = Field(default=True, description="let adapters read their settings from the environment")

    @model_validator(mode="after")
    def _pools_have_names_of_their_own(self) -> Self:
        _refuse_twins("pool", (pool.id for pool in self.pools))
        originals = {pool.id for pool in self.pools if pool.shadow_of is None}
        for pool in self.pools:
            if pool.shadow_of is not None and pool.shadow_of not in originals:
                raise ValueError(f"pool {pool.id!r} is the shadow of {pool.shadow_of!r}, which is no pool of its own")
        if not originals:
            raise ValueError("every pool is the shadow of another: none serves")
        return self

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Self:
        """Return the settings that foreign `fields` describe; raises `ConfigurationError` naming every fault."""
        try:
            return cls.model_validate(fields)
        except ValidationError as exc:
            raise ConfigurationError(describe_validation_error(exc, "orchestrator settings")) from exc


def _refuse_twins(what: str, names: Iterable[Identifier]) -> None:
    twins = sorted(name for name, count in Counter(names).items() if count > 1)
    if twins:
        raise ValueError(f"two {what}s are called {twins[0]!r}; give each a name of its own")

"""Which tasks the show has for an engine."""

from __future__ import annotations

import pytest

from adapter_api import Capability, EngineProps, ModelNotFound, ModelProps
from worker_adapter.demo.playbill import acts_for


def engine(**models: set[Capability]) -> EngineProps:
    return EngineProps(
        engine="e", models=tuple(ModelProps(name=name, capabilities=frozenset(can)) for name, can in models.items())
    )


TEXT, SEED = Capability.TEXT, Capability.SEED


def test_models_that_take_a_seed_come_before_those_that_only_take_text() -> None:
    acts = acts_for(engine(echo={TEXT}, lm={TEXT, SEED}, tensors={Capability.TENSORS}))

    assert {act.task.model for act in acts} == {"lm"}


def test_every_language_model_gets_a_task() -> None:
    acts = acts_for(engine(one={TEXT, SEED}, two={TEXT, SEED}))
    more = acts_for(engine(one={TEXT, SEED}, two={TEXT, SEED}, three={TEXT, SEED}))

    assert {act.task.model for act in acts} == {"one", "two"}
    assert {act.task.model for act in more} == {"one", "two", "three"}


def test_an_engine_may_say_which_of_its_models_write() -> None:
    props = engine(echo={TEXT, SEED}, lm={TEXT, SEED})

    assert {act.task.model for act in acts_for(props, among=["lm"])} == {"lm"}
    assert {act.task.model for act in acts_for(props, among=[])} == {"echo", "lm"}


def test_any_text_model_will_do_when_none_takes_a_seed() -> None:
    assert {act.task.model for act in acts_for(engine(echo={TEXT}))} == {"echo"}


def test_exactly_one_task_is_to_be_cancelled_and_two_are_twins() -> None:
    acts = acts_for(engine(one={TEXT, SEED}, two={TEXT, SEED}))
    keys = [(act.task.model, act.task.prompt, act.task.seed, act.task.max_tokens) for act in acts]

    assert sum(act.cancel_after is not None for act in acts) == 1
    assert len(keys) - len(set(keys)) == 1


def test_an_engine_without_a_text_model_has_nothing_to_show() -> None:
    with pytest.raises(ModelNotFound):
        acts_for(engine(tensors={Capability.TENSORS}))

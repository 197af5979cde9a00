"""The one function that decides on a door: each condition alone keeps it closed."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

from edgeface.access import (
    AccessDecision,
    AccessState,
    Condition,
    FactorRule,
    decide,
)
from edgeface.access.conditions import CHECKS
from tests.access_cases import FACTS, POINT, POLICY, good_frames, good_inputs
from tests.access_spoilt import (
    EDGES,
    MET_BY_NOTHING,
    NOTHING,
    SPOILT,
    Spoilt,
    fuzz,
    good_case,
    lacking,
    random_cases,
)

NAMES = [name for name, _ in CHECKS]
SKIPPED_WITHOUT = {"permit": {"permit", "schedule"}}


def test_everything_that_is_asked_for_opens_the_door() -> None:
    decision = decide(*good_case())
    assert decision.unmet == ()
    assert (decision.is_open, decision.subject, decision.reason) == (True, "Ada", "")
    assert [condition.what for condition in decision.conditions] == NAMES


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda one: f"{one.lacks}: {one.what}")
def test_without_one_condition_the_door_stays_closed_and_says_which(spoilt: Spoilt) -> None:
    decision = decide(*spoilt.case)
    assert not decision.is_open
    unmet = {condition.what for condition in decision.unmet}
    assert unmet == lacking(spoilt)
    assert decision.reason.startswith(f"{decision.unmet[0].what}: ")


@pytest.mark.parametrize("name", NAMES)
def test_every_condition_is_necessary(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Mutation: with this one condition removed, doors open that must not.
    module = importlib.import_module("edgeface.access.decide")
    gone = SKIPPED_WITHOUT.get(name, {name})
    checks = tuple(
        (what, (lambda _case: ("", "", True)) if what in gone else check) for what, check in CHECKS
    )
    monkeypatch.setattr(module, "CHECKS", checks)
    opened = [spoilt for spoilt in SPOILT if module.decide(*spoilt.case).is_open]
    assert opened
    assert {spoilt.lacks for spoilt in opened} <= {name, *gone}


def test_nothing_at_all_opens_nothing() -> None:
    decision = decide(*NOTHING)
    assert not decision.is_open
    assert {condition.what for condition in decision.unmet} == set(NAMES) - MET_BY_NOTHING


@pytest.mark.parametrize("value", [None, "x", object(), float("nan")])
def test_inputs_of_the_wrong_type_are_denied_and_raise_nothing(value: Any) -> None:
    for field in ("now_s", "frames", "camera", "model", "factor", "intent_s", "wall"):
        if value is None and field == "wall":
            continue
        decision = decide(POLICY, AccessState(), replace(good_inputs(), **{field: value}))
        if field == "wall":  # Ada may pass at any time, so that nobody asks for it
            continue
        assert not decision.is_open, field


def test_a_decision_cannot_be_made_against_its_conditions() -> None:
    unmet = Condition("clock", "x", "y", False)
    met = Condition("clock", "y", "y", True)
    assert not AccessDecision(True, (met, unmet), "Ada").is_open
    assert not AccessDecision(True, (), "Ada").is_open
    assert not AccessDecision(True, (met,), None).is_open
    assert AccessDecision(True, (met,), "Ada").is_open


@pytest.mark.parametrize("what", EDGES)
def test_conditions_that_are_met_by_their_edges(what: str) -> None:
    assert decide(*EDGES[what]).unmet == ()


def test_the_same_inputs_give_the_same_decision() -> None:
    for case in random_cases(3, 200):
        assert decide(*case) == decide(*case)


def test_no_decision_holds_a_score() -> None:
    inputs = good_inputs(frames=tuple(replace(f, score=0.83125) for f in good_frames()))
    assert "0.83" not in str(decide(POLICY, AccessState(), inputs))


def test_a_duress_pin_shows_nowhere_in_the_decision() -> None:
    factor = good_inputs().factor
    assert factor is not None
    calm = decide(POLICY, AccessState(), good_inputs())
    forced = decide(POLICY, AccessState(), good_inputs(factor=replace(factor, is_duress=True)))
    assert str(calm) == str(forced)
    deny = replace(POLICY, factors=FactorRule(duress="deny"))
    wrong = decide(deny, AccessState(), good_inputs(factor=None))
    denied = decide(deny, AccessState(), good_inputs(factor=replace(factor, is_duress=True)))
    assert str(wrong) == str(denied)


def test_a_demonstration_takes_what_no_door_takes() -> None:
    policy = replace(POLICY, demonstration=True)
    facts = replace(FACTS, is_demonstration=True, operating_point=replace(POINT, provisional=True))
    assert decide(policy, AccessState(), good_inputs(model=facts, camera=None)).is_open
    assert not decide(policy, AccessState(), good_inputs(model=facts, intent_s=None)).is_open


def test_20_000_adversarial_inputs_open_nothing() -> None:
    assert set(fuzz(20_000, seed=1)) == set(NAMES), "the inputs must try every condition"

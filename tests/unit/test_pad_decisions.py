"""Windows of scores, operating points, and decisions put together."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.pad import (
    PadDecision,
    PadOperatingPoint,
    PadOutcome,
    PadReason,
    PadScore,
    PadWindow,
    PadWindowOptions,
    combine,
    fused_score,
)

POINT = PadOperatingPoint.of_trainer(("a", "b"))
BONA_FIDE, ATTACK, UNDECIDED = PadOutcome.BONA_FIDE, PadOutcome.ATTACK, PadOutcome.UNDECIDED


def score(value: float) -> PadScore:
    return PadScore(value, (value,), (2.7,))


def watch(
    values: Sequence[float | None], *, step_s: float = 0.2, options: PadWindowOptions | None = None
) -> list[PadDecision]:
    window = PadWindow(POINT, options)
    return [
        window.update(None if value is None else score(value), k * step_s)
        for k, value in enumerate(values)
    ]


def test_a_window_decides_when_it_has_seen_enough() -> None:
    decisions = watch([0.9] * 6)
    assert [d.outcome for d in decisions] == [UNDECIDED] * 4 + [BONA_FIDE] * 2
    assert decisions[0].reasons == (PadReason.TOO_FEW_FRAMES,)
    assert decisions[-1].frames == 6
    assert decisions[-1].score == pytest.approx(0.9)


def test_many_frames_within_a_moment_are_not_enough() -> None:
    assert {d.outcome for d in watch([0.9] * 20, step_s=0.01)} == {UNDECIDED}


def test_a_single_frame_decides_for_stills() -> None:
    options = PadWindowOptions.single_frame()
    assert watch([0.9], options=options)[0].outcome is BONA_FIDE
    assert watch([0.1], options=options)[0].outcome is ATTACK


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([0.1] * 8, ATTACK),
        ([0.499] * 8, ATTACK),
        ([0.5] * 8, BONA_FIDE),
        # One frame that the network is sure of does not outvote three that it is not.
        ([0.1, 0.1, 0.1, 0.9999999, 0.1, 0.1, 0.1, 0.9999999], ATTACK),
        ([0.9, 0.9, 0.9, 0.0, 0.9, 0.9, 0.9, 0.9], BONA_FIDE),
        ([0.0, 1.0] * 4, BONA_FIDE),
        ([0.0, 0.0, 1.0] * 3, ATTACK),
    ],
)
def test_frames_are_fused_by_their_limited_log_odds(
    values: list[float | None], outcome: PadOutcome
) -> None:
    decision = watch(values)[-1]
    assert decision.outcome is outcome
    assert decision.reasons == (() if outcome is BONA_FIDE else (PadReason.LOOKS_LIKE_ATTACK,))


def test_old_frames_leave_the_window() -> None:
    decisions = watch([0.01] * 10 + [0.99] * 12)
    assert decisions[9].outcome is ATTACK
    assert decisions[-1].outcome is BONA_FIDE
    assert decisions[-1].frames == 11  # two seconds at five frames a second, both ends counted
    assert decisions[-1].score == pytest.approx(1 / (1 + math.exp(-4)))


def test_frames_that_cannot_be_scored_hold_the_face_back() -> None:
    decision = watch([0.9, None, None] * 4)[-1]
    assert decision.outcome is UNDECIDED
    assert PadReason.NOT_ASSESSABLE in decision.reasons
    assert watch([0.9, 0.9, None] * 4)[-1].outcome is BONA_FIDE
    assert watch([None] * 12)[-1].score is None


def test_a_gap_starts_anew() -> None:
    window = PadWindow(POINT)
    for k in range(8):
        window.update(score(0.9), k * 0.2)
    after = window.update(score(0.9), 1.4 + 1.1)
    assert (after.outcome, after.frames) == (UNDECIDED, 1)


def test_a_clock_that_goes_back_starts_anew_and_says_so() -> None:
    window = PadWindow(POINT)
    for k in range(8):
        window.update(score(0.9), 100 + k * 0.2)
    after = window.update(score(0.9), 50.0)
    assert after.outcome is UNDECIDED
    assert PadReason.TIME_WENT_BACK in after.reasons
    for now_s in (math.nan, math.inf):
        with pytest.raises(InvalidInputError, match="now_s"):
            window.update(score(0.9), now_s)


SCORES = st.floats(0, 1)


@given(st.lists(SCORES, min_size=1, max_size=30))
def test_the_fused_score_lies_between_the_frames_and_within_its_limits(
    values: list[float],
) -> None:
    limit = 1 / (1 + math.exp(-4))
    low, high = (max(1 - limit, min(limit, v)) for v in (min(values), max(values)))
    assert low - 1e-12 <= fused_score(values) <= high + 1e-12


@given(st.lists(SCORES, min_size=1, max_size=20), SCORES, st.integers(0, 19))
def test_a_higher_frame_never_lowers_the_window(
    values: list[float], more: float, index: int
) -> None:
    raised = list(values)
    raised[index % len(values)] = max(more, raised[index % len(values)])
    assert fused_score(raised) >= fused_score(values) - 1e-12


@pytest.mark.parametrize("values", [[], [math.nan], [0.5, 1.1], [-0.1], [math.inf]])
def test_what_is_no_score_is_not_fused(values: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        fused_score(values)


@pytest.mark.parametrize(
    "options",
    [
        {"span_s": math.nan},
        {"span_s": 0.1},
        {"min_span_s": -1.0},
        {"max_gap_s": 0.0},
        {"min_frames": 0},
        {"max_unscored": 1.0},
    ],
)
def test_senseless_window_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        PadWindowOptions(**options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.499999])
def test_an_operating_point_accepts_nothing_but_high_finite_scores(value: float) -> None:
    assert not POINT.accepts(value)
    assert POINT.accepts(0.5)


def test_the_trainers_point_says_that_it_is_provisional() -> None:
    assert POINT.provisional
    assert (POINT.apcer, POINT.bpcer) == (None, None)


def test_an_operating_point_belongs_to_its_models() -> None:
    POINT.require_models(["b", "a"])
    with pytest.raises(OperatingPointError, match="other models"):
        POINT.require_models(["a"])


def test_an_operating_point_survives_writing_and_reading(tmp_path: Path) -> None:
    point = PadOperatingPoint(
        threshold=0.7,
        model_ids=("b", "a"),
        protocol="mine",
        bpcer=0.1,
        apcer=0.0,
        n_bona_fide=10,
        n_attacks=20,
    )
    point.write(tmp_path / "point.json")
    assert PadOperatingPoint.read(tmp_path / "point.json") == point


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": math.nan},
        {"threshold": 1.5},
        {"threshold": "0.5"},
        {"threshold": True},
        {"threshold": None},
        {"apcer": 2.0},
        {"bpcer": "none"},
        {"n_attacks": -1},
        {"n_attacks": 1.5},
        {"model_ids": "ab"},
        {"model_ids": [1]},
        {"provisional": 1},
        {"protocol": 5},
        {"surprise": 1},
    ],
)
def test_a_file_with_a_senseless_value_is_no_operating_point(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    file = tmp_path / "point.json"
    POINT.write(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(OperatingPointError):
        PadOperatingPoint.read(file)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, "\x00"])
def test_another_file_is_no_operating_point(tmp_path: Path, text: str) -> None:
    file = tmp_path / "point.json"
    file.write_text(text)
    with pytest.raises(OperatingPointError):
        PadOperatingPoint.read(file)
    with pytest.raises(OperatingPointError):
        PadOperatingPoint.read(tmp_path / "missing.json")


YES = PadDecision(BONA_FIDE, 0.9, 7)
NO = PadDecision(ATTACK, None, 3, (PadReason.CHALLENGE_TIMED_OUT,))
LATER = PadDecision(UNDECIDED, None, 5, (PadReason.TOO_STILL,))


@pytest.mark.parametrize(
    ("decisions", "outcome", "reasons"),
    [
        ((YES,), BONA_FIDE, ()),
        ((YES, YES), BONA_FIDE, ()),
        ((YES, LATER), UNDECIDED, (PadReason.TOO_STILL,)),
        ((YES, LATER, NO), ATTACK, (PadReason.CHALLENGE_TIMED_OUT,)),
        ((NO, YES), ATTACK, (PadReason.CHALLENGE_TIMED_OUT,)),
        ((LATER, LATER), UNDECIDED, (PadReason.TOO_STILL,)),
    ],
)
def test_the_strictest_decision_wins(
    decisions: tuple[PadDecision, ...], outcome: PadOutcome, reasons: tuple[PadReason, ...]
) -> None:
    found = combine(*decisions)
    assert (found.outcome, found.reasons) == (outcome, reasons)
    assert found.passed is (outcome is BONA_FIDE)
    assert found.frames == decisions[0].frames


def test_only_what_is_not_bona_fide_has_reasons() -> None:
    with pytest.raises(InvalidInputError, match="reasons"):
        PadDecision(BONA_FIDE, reasons=(PadReason.TOO_STILL,))
    with pytest.raises(InvalidInputError, match="reasons"):
        PadDecision(ATTACK)
    with pytest.raises(InvalidInputError, match="score"):
        PadDecision(BONA_FIDE, score=math.nan)

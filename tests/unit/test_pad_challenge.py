"""The challenge as a state machine: who passes it, and what fails it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import InvalidInputError
from edgeface.pad import (
    Challenge,
    ChallengeAction,
    ChallengeFace,
    ChallengeOptions,
    PadDecision,
    PadOutcome,
    PadReason,
    draw_actions,
    instruction,
    pad_advice,
)
from edgeface.types import FaceLandmarks

BLINK, LEFT, RIGHT = ChallengeAction
FRAME_S = 0.1
BEST_LOOP = 7
Actions = tuple[ChallengeAction, ...]
Timed = Sequence[tuple[float, ChallengeFace | None]]


def face(yaw: float = 0.0, shut: float = 0.05, track: int | None = 1) -> ChallengeFace:
    return ChallengeFace(yaw, shut, shut, track)


FRONTAL = [face()] * 3
MOVES = {
    BLINK: [*FRONTAL, face(shut=0.3), face(shut=0.7), face(shut=0.6), face(shut=0.2), face()],
    LEFT: [*FRONTAL, face(8), face(16), face(24), face(30), face(18), face(6)],
    RIGHT: [*FRONTAL, face(-8), face(-16), face(-24), face(-30), face(-18), face(-6)],
}
ORDERS: list[Actions] = [
    order
    for order in itertools.product(ChallengeAction, repeat=4)
    if set(order) == set(ChallengeAction)
]


def challenge_of(actions: Actions, **options: object) -> Challenge:
    """A challenge whose order is ``actions``."""
    kinds = tuple(dict.fromkeys(actions))
    made = ChallengeOptions(actions=kinds, steps=len(actions), **options)  # type: ignore[arg-type]
    orders = [o for o in itertools.product(kinds, repeat=len(actions)) if set(o) == set(kinds)]
    challenge = Challenge(made, randbelow=lambda n: orders.index(actions))
    assert challenge.actions == actions
    return challenge


def film(actions: Iterable[ChallengeAction], start_s: float = 0.0) -> Timed:
    frames = [each for action in actions for each in MOVES[action]]
    return [(start_s + k * FRAME_S, each) for k, each in enumerate(frames)]


def play(challenge: Challenge, frames: Timed) -> PadDecision:
    return [challenge.step(each, now_s) for now_s, each in frames][-1]


@pytest.mark.parametrize("actions", ORDERS)
def test_who_does_what_is_asked_passes(actions: Actions) -> None:
    challenge = challenge_of(actions)
    first = challenge.action
    assert first is actions[0]
    decision = play(challenge, film(actions))
    assert decision == PadDecision(PadOutcome.BONA_FIDE, None, decision.frames)
    assert challenge.done == 4
    assert challenge.action is None


@pytest.mark.parametrize("asked", ORDERS)
def test_a_recording_of_one_challenge_satisfies_no_other(asked: Actions) -> None:
    for filmed in ORDERS:
        assert play(challenge_of(asked), film(filmed)).passed is (filmed == asked)


def test_a_recording_played_again_and_again_satisfies_few() -> None:
    # Blinks are nobody's fault and never wrong, so a loop with a blink between all its turns has
    # the best of chances; docs/pad.md gives the figure.
    satisfied = {
        filmed: sum(play(challenge_of(asked), film(filmed * 3)).passed for asked in ORDERS)
        for filmed in ORDERS
    }
    assert max(satisfied.values()) == BEST_LOOP
    assert min(satisfied.values()) >= 1


def test_every_order_is_drawn_and_each_has_all_actions() -> None:
    drawn = {draw_actions(ChallengeOptions()) for _ in range(2000)}
    assert drawn == set(ORDERS)
    assert len(ORDERS) == 36


def test_a_photo_times_out() -> None:
    decision = play(challenge_of((LEFT, BLINK)), [(k * FRAME_S, face()) for k in range(80)])
    assert decision.outcome is PadOutcome.ATTACK
    assert decision.reasons == (PadReason.CHALLENGE_TIMED_OUT,)


def test_before_the_end_it_is_pending() -> None:
    decision = play(challenge_of((LEFT, BLINK)), film((LEFT,)))
    assert decision.outcome is PadOutcome.UNDECIDED
    assert decision.reasons == (PadReason.CHALLENGE_PENDING,)


def test_the_wrong_turn_fails_at_once_and_for_good() -> None:
    challenge = challenge_of((LEFT, BLINK))
    decision = play(challenge, film((RIGHT,)))
    assert decision.reasons == (PadReason.CHALLENGE_WRONG_ACTION,)
    assert play(challenge, film((LEFT, BLINK), start_s=1.0)) == decision
    assert challenge.action is None


def test_a_mirrored_picture_swaps_the_sides() -> None:
    assert not play(challenge_of((RIGHT, BLINK), mirrored=True), film((RIGHT, BLINK))).passed
    assert play(challenge_of((RIGHT, BLINK), mirrored=True), film((LEFT, BLINK))).passed


def test_a_movement_that_was_begun_before_it_was_asked_for_does_not_count() -> None:
    challenge = challenge_of((LEFT, BLINK))
    already = [(0.0, face(30)), (0.1, face(30)), (0.2, face(30))]
    assert not play(challenge, already).passed
    assert challenge.done == 0


def test_a_movement_faster_than_anybody_reacts_does_not_count() -> None:
    challenge = challenge_of((LEFT, BLINK))
    play(challenge, [(0.0, face()), (0.1, face(30))])
    assert challenge.done == 0
    play(challenge, film((LEFT,), start_s=0.2))
    assert challenge.done == 1


def test_eyes_that_stay_shut_are_no_blink() -> None:
    challenge = challenge_of((BLINK, LEFT))
    shut = [(0.3 + k * FRAME_S, face(shut=0.9)) for k in range(15)]
    play(challenge, [(0.0, face()), (0.1, face()), (0.2, face()), *shut, (1.9, face())])
    assert challenge.done == 0


def test_one_eye_is_no_blink() -> None:
    challenge = challenge_of((BLINK, LEFT))
    wink = ChallengeFace(0.0, eyes_shut=0.05, eyes_open=0.9, track_id=1)
    play(challenge, [(k * FRAME_S, face()) for k in range(4)] + [(0.5, wink), (0.6, face())])
    assert challenge.done == 0


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([(0.0, face()), (0.7, None)], PadReason.CHALLENGE_FACE_LOST),
        ([(0.0, face()), (0.7, face())], PadReason.CHALLENGE_FACE_LOST),
        ([(0.0, None), (0.7, face())], PadReason.CHALLENGE_FACE_LOST),
        ([(0.0, face()), (0.1, face(track=2))], PadReason.CHALLENGE_FACE_CHANGED),
        ([(0.0, face()), (0.1, face(math.nan))], PadReason.CHALLENGE_VALUES_UNUSABLE),
        ([(0.0, face()), (0.1, face(math.inf))], PadReason.CHALLENGE_VALUES_UNUSABLE),
        ([(0.0, face()), (0.1, face(shut=math.nan))], PadReason.CHALLENGE_VALUES_UNUSABLE),
        ([(0.0, face()), (0.1, face(shut=1.5))], PadReason.CHALLENGE_VALUES_UNUSABLE),
        ([(0.1, face()), (0.0, face())], PadReason.TIME_WENT_BACK),
        ([(0.0, face()), (math.nan, face())], PadReason.TIME_WENT_BACK),
    ],
)
def test_what_cannot_be_followed_fails_closed(frames: Timed, reason: PadReason) -> None:
    challenge = challenge_of((LEFT, BLINK))
    decision = play(challenge, frames)
    assert decision == PadDecision(PadOutcome.ATTACK, None, decision.frames, (reason,))
    assert not play(challenge, film((LEFT, BLINK), start_s=10.0)).passed


def test_a_missed_detection_does_not_end_it() -> None:
    frames = list(film((LEFT, BLINK)))
    frames[4] = (frames[4][0], None)
    assert play(challenge_of((LEFT, BLINK)), frames).passed


_VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


def _faces() -> st.SearchStrategy[ChallengeFace | None]:
    usual = st.builds(
        face, st.floats(-15, 15), st.floats(0, 1), st.integers(1, 2)
    )  # never a whole turn
    hostile = st.builds(ChallengeFace, _VALUES, _VALUES, _VALUES, st.none() | st.integers(0, 2))
    return st.none() | usual | hostile


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-0.2, 0.4) | _VALUES, _faces()), max_size=60))
def test_no_sequence_without_the_turn_passes(
    steps: list[tuple[float, ChallengeFace | None]],
) -> None:
    # A turn is 20 degrees; hostile values may hold one, but not both sides in order.
    challenge, now_s = challenge_of((LEFT, RIGHT, LEFT, RIGHT)), 0.0
    turns: list[bool] = []
    for step_s, each in steps:
        now_s += step_s
        decision = challenge.step(each, now_s)
        if each is not None and math.isfinite(each.yaw_deg) and abs(each.yaw_deg) >= 20:
            turns.append(each.yaw_deg > 0)
        sides = [side for side, _ in itertools.groupby(turns)]
        assert not decision.passed or sides[:4] == [True, False, True, False]


def landmarks(blendshapes: dict[str, float]) -> FaceLandmarks:
    points = [(30.0, 40.0), (70.0, 40.0), (50.0, 60.0), (35.0, 80.0), (65.0, 80.0)]
    import numpy as np

    return FaceLandmarks(np.array(points, np.float32), yaw_deg=7.0, blendshapes=blendshapes)


def test_the_face_is_read_from_landmarks_with_blendshapes() -> None:
    shapes = {"eyeBlinkLeft": 0.2, "eyeBlinkRight": 0.6}
    assert ChallengeFace.of(landmarks(shapes), 3) == ChallengeFace(7.0, 0.2, 0.6, 3)
    with pytest.raises(InvalidInputError, match="blendshapes=True"):
        ChallengeFace.of(landmarks({}))


@pytest.mark.parametrize(
    "options",
    [
        {"actions": (BLINK,)},
        {"actions": (BLINK, BLINK)},
        {"steps": 2},
        {"steps": 9},
        {"step_limit_s": math.nan},
        {"max_absent_s": 0.0},
        {"min_reaction_s": 7.0},
        {"frontal_deg": 30.0},
        {"turn_deg": math.nan},
        {"eyes_open": 0.6},
        {"eyes_shut": 1.5},
    ],
)
def test_senseless_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        ChallengeOptions(**options)  # type: ignore[arg-type]


def test_people_are_told_what_to_do_in_sentences() -> None:
    texts: Iterator[str] = itertools.chain(
        map(instruction, ChallengeAction), map(pad_advice, PadReason)
    )
    assert all(text.endswith(".") and len(text) < 60 for text in texts)

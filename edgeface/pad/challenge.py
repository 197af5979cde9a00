"""A challenge: movements in a random order, each to be made when it is asked for.

A photo cannot follow it, and a recording made before does not know the order: whoever turns the
wrong way, or too late, has failed. A person with a mask, or a puppet steered by a computer, can
follow it.

The order comes from the operating system's random numbers. A challenge is used once; a state that
is over stays over.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from edgeface.errors import InvalidInputError
from edgeface.pad.outcome import PadDecision, PadOutcome, PadReason
from edgeface.types import FaceLandmarks

__all__ = [
    "Challenge",
    "ChallengeAction",
    "ChallengeFace",
    "ChallengeOptions",
    "draw_actions",
    "instruction",
]


class ChallengeAction(str, Enum):
    """What is asked for. Left and right are those of the person."""

    BLINK = "blink"
    TURN_LEFT = "turn_left"
    TURN_RIGHT = "turn_right"


_MAX_STEPS = 8
"""More would tire out anybody; there are 5,796 orders of three actions in eight steps."""

_INSTRUCTIONS = {
    ChallengeAction.BLINK: "Look into the camera and blink.",
    ChallengeAction.TURN_LEFT: "Turn your head to your left, and back.",
    ChallengeAction.TURN_RIGHT: "Turn your head to your right, and back.",
}


def instruction(action: ChallengeAction) -> str:
    """Return one sentence that asks a person for ``action``."""
    return _INSTRUCTIONS[action]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeOptions:
    """How the challenge is made.

    ``steps`` movements, each of ``actions`` at least once: with three actions and four steps 36
    orders, with five 150. Each has ``step_limit_s``; what begins earlier than ``min_reaction_s``
    after it was asked for does not count: nobody reacts that fast, a recording may. The face may
    be missing for ``max_absent_s``. ``mirrored`` says that the frames are mirrored, as in a selfie
    view.

    A turn is a yaw of ``turn_deg`` or more; the face is frontal up to ``frontal_deg``. Eyes are
    shut when both blink coefficients of the landmarker are at least ``eyes_shut``, open when both
    are at most ``eyes_open``; a blink is shut for at most ``max_blink_s``.
    """

    # Yaw: a printed photo tilted by 40 degrees to both sides moves the yaw that the landmarker
    # reports by at most 4 degrees (three photos, simulated). Blinks: of a person in a clip of 14 s
    # the four blinks reach 0.5 to 0.75 between frames of 0.02 (median); photos stay below 0.28.
    actions: tuple[ChallengeAction, ...] = tuple(ChallengeAction)
    steps: int = 4
    step_limit_s: float = 6.0
    min_reaction_s: float = 0.15
    max_absent_s: float = 0.5
    max_blink_s: float = 1.0
    turn_deg: float = 20.0
    frontal_deg: float = 12.0
    eyes_shut: float = 0.5
    eyes_open: float = 0.35
    mirrored: bool = False

    def __post_init__(self) -> None:
        kinds = len(self.actions)
        if len(set(self.actions)) < max(2, kinds) or not kinds <= self.steps <= _MAX_STEPS:
            raise InvalidInputError(
                "wanted two or more actions that differ, and steps for each of them, at most "
                f"{_MAX_STEPS}, got {self.actions} and {self.steps}"
            )
        times = (self.step_limit_s, self.max_absent_s, self.max_blink_s)
        if not all(0.0 < value < math.inf for value in times):
            raise InvalidInputError(f"times must be finite and above 0, got {self}")
        if not 0.0 <= self.min_reaction_s < self.step_limit_s:
            raise InvalidInputError("min_reaction_s must be in 0..step_limit_s")
        if not 0.0 < self.frontal_deg < self.turn_deg < 90.0:
            raise InvalidInputError("wanted 0 < frontal_deg < turn_deg < 90")
        if not 0.0 <= self.eyes_open < self.eyes_shut <= 1.0:
            raise InvalidInputError("wanted 0 <= eyes_open < eyes_shut <= 1")


@dataclass(frozen=True, slots=True)
class ChallengeFace:
    """What the challenge looks at in one frame; values may be NaN, which fails the challenge.

    ``yaw_deg`` is positive when the face turns to the right of the image. ``eyes_shut`` is the
    smaller of the two blink coefficients and ``eyes_open`` the larger, in 0..1. ``track_id`` is
    the track of the face.
    """

    yaw_deg: float
    eyes_shut: float
    eyes_open: float
    track_id: int | None = None

    @classmethod
    def of(cls, landmarks: FaceLandmarks, track_id: int | None = None) -> ChallengeFace:
        """Return what the challenge looks at in ``landmarks``.

        Raises:
            InvalidInputError: They have no blendshapes; the landmark finder must be asked for
                them.
        """
        shapes: Mapping[str, float] = landmarks.blendshapes
        try:
            left, right = shapes["eyeBlinkLeft"], shapes["eyeBlinkRight"]
        except KeyError as exc:
            raise InvalidInputError(
                "a challenge needs blendshapes; make the finder with "
                "MediaPipeLandmarkFinder(blendshapes=True)"
            ) from exc
        return cls(landmarks.yaw_deg, min(left, right), max(left, right), track_id)

    @property
    def usable(self) -> bool:
        """Whether all values are finite and in their ranges."""
        shares = (self.eyes_shut, self.eyes_open)
        return math.isfinite(self.yaw_deg) and all(0.0 <= value <= 1.0 for value in shares)


def draw_actions(
    options: ChallengeOptions, randbelow: Callable[[int], int] = secrets.randbelow
) -> tuple[ChallengeAction, ...]:
    """Return the actions in a random order, each at least once.

    ``randbelow(n)`` returns a random number in 0..n-1.
    """
    orders = [
        order
        for order in itertools.product(options.actions, repeat=options.steps)
        if set(order) == set(options.actions)
    ]
    return orders[randbelow(len(orders))]


class Challenge:
    """One challenge of one person. Not for use from several threads.

    Args:
        options: How it is made.
        randbelow: Where the order comes from; tests give their own.
    """

    def __init__(
        self,
        options: ChallengeOptions | None = None,
        *,
        randbelow: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._options = options or ChallengeOptions()
        self.actions = draw_actions(self._options, randbelow)
        self._done = 0
        self._asked_s: float | None = None
        self._last_s: float | None = None
        self._seen_s: float | None = None
        self._track_id: int | None = None
        self._ready = False
        self._acting_s: float | None = None
        self._over: PadDecision | None = None
        self._frames = 0

    @property
    def action(self) -> ChallengeAction | None:
        """What is asked for now; None when the challenge is over."""
        return None if self._over else self.actions[self._done]

    @property
    def done(self) -> int:
        """How many actions were done."""
        return self._done

    def step(self, face: ChallengeFace | None, now_s: float) -> PadDecision:
        """Return the decision after one more frame; ``face`` is None where none was found.

        The first call asks for the first action. ``now_s`` is the time on a monotonic clock; one
        that is not finite, or goes back, fails the challenge.
        """
        if self._over is None:
            failure = self._failure(face, now_s)
            if failure is not None:
                self._over = PadDecision(PadOutcome.ATTACK, None, self._frames, (failure,))
            elif face is not None:
                self._advance(face, now_s)
        pending = (PadReason.CHALLENGE_PENDING,)
        return self._over or PadDecision(PadOutcome.UNDECIDED, None, self._frames, pending)

    def _failure(self, face: ChallengeFace | None, now_s: float) -> PadReason | None:
        """Return why the challenge has failed with this frame, if it has."""
        if not math.isfinite(now_s) or (self._last_s is not None and now_s < self._last_s):
            return PadReason.TIME_WENT_BACK
        asked_s = now_s if self._asked_s is None else self._asked_s
        seen_s = now_s if self._seen_s is None else self._seen_s
        self._asked_s, self._last_s, self._seen_s = asked_s, now_s, seen_s
        if now_s - asked_s > self._options.step_limit_s:
            return PadReason.CHALLENGE_TIMED_OUT
        # Asked before the face of this frame counts: a stretch without frames is one without face.
        if now_s - seen_s > self._options.max_absent_s:
            return PadReason.CHALLENGE_FACE_LOST
        return None if face is None else self._unfit(face, now_s)

    def _unfit(self, face: ChallengeFace, now_s: float) -> PadReason | None:
        if not face.usable:
            return PadReason.CHALLENGE_VALUES_UNUSABLE
        if self._frames and face.track_id != self._track_id:
            return PadReason.CHALLENGE_FACE_CHANGED
        self._seen_s, self._track_id = now_s, face.track_id
        self._frames += 1
        return None

    def _advance(self, face: ChallengeFace, now_s: float) -> None:
        action, turned = self.actions[self._done], self._turned(face)
        frontal = abs(face.yaw_deg) <= self._options.frontal_deg
        if not self._ready:
            # Until then a turn may be that of the step before.
            eyes_fit = action is not ChallengeAction.BLINK or self._eyes_are_open(face)
            self._ready = frontal and eyes_fit
        elif turned is not None and turned is not action:
            self._over = PadDecision(
                PadOutcome.ATTACK, None, self._frames, (PadReason.CHALLENGE_WRONG_ACTION,)
            )
        elif action is ChallengeAction.BLINK:
            self._blink(face, now_s, frontal=frontal)
        elif turned is action:
            self._complete(now_s, began_s=now_s)

    def _eyes_are_open(self, face: ChallengeFace) -> bool:
        return face.eyes_open <= self._options.eyes_open

    def _turned(self, face: ChallengeFace) -> ChallengeAction | None:
        if abs(face.yaw_deg) < self._options.turn_deg:
            return None
        # In an image that is not mirrored the person's left is on the right.
        to_left = (face.yaw_deg > 0) is not self._options.mirrored
        return ChallengeAction.TURN_LEFT if to_left else ChallengeAction.TURN_RIGHT

    def _blink(self, face: ChallengeFace, now_s: float, *, frontal: bool) -> None:
        if self._acting_s is None:
            if frontal and face.eyes_shut >= self._options.eyes_shut:
                self._acting_s = now_s
        elif now_s - self._acting_s > self._options.max_blink_s:
            # Eyes that stay shut are no blink; they must open before the next one counts.
            self._ready, self._acting_s = False, None
        elif self._eyes_are_open(face):
            self._complete(now_s, began_s=self._acting_s)

    def _complete(self, now_s: float, *, began_s: float) -> None:
        asked_s = began_s if self._asked_s is None else self._asked_s
        self._ready, self._acting_s = False, None
        if began_s - asked_s < self._options.min_reaction_s:
            # No answer to the question; a person blinks on their own, too. It has to come again.
            return
        self._done, self._asked_s = self._done + 1, now_s
        if self._done == len(self.actions):
            self._over = PadDecision(PadOutcome.BONA_FIDE, None, self._frames)

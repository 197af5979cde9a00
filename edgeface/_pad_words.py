"""The words of presentation attack detection: what is decided about a face, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edgeface.errors import InvalidInputError

__all__ = ["PadDecision", "PadOutcome", "PadReason"]


class PadOutcome(str, Enum):
    """What is known so far. Only ``BONA_FIDE`` lets a face pass."""

    BONA_FIDE = "bona-fide"
    ATTACK = "attack"
    UNDECIDED = "undecided"


class PadReason(str, Enum):
    """Why a face is not taken for bona fide, or not yet."""

    LOOKS_LIKE_ATTACK = "looks_like_attack"
    TOO_FEW_FRAMES = "too_few_frames"
    NOT_ASSESSABLE = "not_assessable"
    TOO_STILL = "too_still"
    MOVES_LIKE_A_SHEET = "moves_like_a_sheet"
    TIME_WENT_BACK = "time_went_back"
    CHALLENGE_PENDING = "challenge_pending"
    CHALLENGE_TIMED_OUT = "challenge_timed_out"
    CHALLENGE_WRONG_ACTION = "challenge_wrong_action"
    CHALLENGE_FACE_LOST = "challenge_face_lost"
    CHALLENGE_FACE_CHANGED = "challenge_face_changed"
    CHALLENGE_VALUES_UNUSABLE = "challenge_values_unusable"


@dataclass(frozen=True, slots=True)
class PadDecision:
    """What was decided, and why.

    ``score`` in 0..1 is that of the window, higher more like a bona fide face, and None where
    there is none. ``frames`` counts the frames it rests on. A decision that is not ``BONA_FIDE``
    has its reasons, the others have none.
    """

    outcome: PadOutcome
    score: float | None = None
    frames: int = 0
    reasons: tuple[PadReason, ...] = ()

    def __post_init__(self) -> None:
        if (self.outcome is PadOutcome.BONA_FIDE) == bool(self.reasons):
            raise InvalidInputError(
                f"reasons belong to a decision that is not bona fide, and only to one, got {self}"
            )
        # False for NaN.
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise InvalidInputError(f"a score must be in 0..1 or None, got {self.score}")

    @property
    def passed(self) -> bool:
        """Whether the face may pass."""
        return self.outcome is PadOutcome.BONA_FIDE

"""What presentation attack detection says, and what to tell the person in front of the camera."""

from __future__ import annotations

from edgeface._pad_words import PadDecision, PadOutcome, PadReason
from edgeface.errors import InvalidInputError

__all__ = ["PadDecision", "PadOutcome", "PadReason", "combine", "pad_advice"]


def combine(first: PadDecision, *others: PadDecision) -> PadDecision:
    """Return one decision of several: an attack wins over undecided, undecided over bona fide.

    The score is the first that is there, the frames those of the first decision; the reasons are
    those of the decisions with the outcome that won.
    """
    decisions = (first, *others)
    for outcome in (PadOutcome.ATTACK, PadOutcome.UNDECIDED, PadOutcome.BONA_FIDE):
        winning = [each for each in decisions if each.outcome is outcome]
        if winning:
            reasons = dict.fromkeys(reason for each in winning for reason in each.reasons)
            score = next((each.score for each in decisions if each.score is not None), None)
            return PadDecision(outcome, score, first.frames, tuple(reasons))
    raise InvalidInputError("there is no decision to combine")


def pad_advice(reason: PadReason) -> str:
    """Return one short sentence that tells the person in front of the camera what to do.

    It does not say what gave an attack away.
    """
    return _ADVICE[reason]


_ADVICE = {
    PadReason.LOOKS_LIKE_ATTACK: "This cannot be accepted; please use another way.",
    PadReason.TOO_FEW_FRAMES: "Look into the camera for a moment.",
    PadReason.NOT_ASSESSABLE: "Move to the middle of the picture.",
    PadReason.TOO_STILL: "Move your head a little, or blink.",
    PadReason.MOVES_LIKE_A_SHEET: "Turn your head a little to one side and back.",
    PadReason.TIME_WENT_BACK: "Please try again.",
    PadReason.CHALLENGE_PENDING: "Please follow the instruction.",
    PadReason.CHALLENGE_TIMED_OUT: "That took too long; please try again.",
    PadReason.CHALLENGE_WRONG_ACTION: "That was another movement; please try again.",
    PadReason.CHALLENGE_FACE_LOST: "Stay in front of the camera, and try again.",
    PadReason.CHALLENGE_FACE_CHANGED: "Only one person at a time; please try again.",
    PadReason.CHALLENGE_VALUES_UNUSABLE: "Show your whole face, and try again.",
}

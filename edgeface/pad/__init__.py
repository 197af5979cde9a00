"""Presentation attack detection: photos, screens and masks held in front of the camera.

A colour camera deters such attacks, it does not stop them; docs/pad.md says what was measured.
"""

from __future__ import annotations

from edgeface.pad.bundle import PadBundle, PadModel
from edgeface.pad.challenge import (
    Challenge,
    ChallengeAction,
    ChallengeFace,
    ChallengeOptions,
    draw_actions,
    instruction,
)
from edgeface.pad.crop import BoxConvention, PadCrop, face_box, pad_crop
from edgeface.pad.detector import PadNetwork, PadScore, PresentationAttackDetector
from edgeface.pad.operating_point import PadOperatingPoint
from edgeface.pad.outcome import PadDecision, PadOutcome, PadReason, combine, pad_advice
from edgeface.pad.stillness import StillnessCheck, StillnessOptions, StillnessReport
from edgeface.pad.window import PadWindow, PadWindowOptions, fused_score

__all__ = [
    "BoxConvention",
    "Challenge",
    "ChallengeAction",
    "ChallengeFace",
    "ChallengeOptions",
    "PadBundle",
    "PadCrop",
    "PadDecision",
    "PadModel",
    "PadNetwork",
    "PadOperatingPoint",
    "PadOutcome",
    "PadReason",
    "PadScore",
    "PadWindow",
    "PadWindowOptions",
    "PresentationAttackDetector",
    "StillnessCheck",
    "StillnessOptions",
    "StillnessReport",
    "combine",
    "draw_actions",
    "face_box",
    "fused_score",
    "instruction",
    "pad_advice",
    "pad_crop",
]

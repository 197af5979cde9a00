"""The limits of the gates, and the profiles that set them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from edgeface.errors import InvalidInputError

__all__ = ["PROFILES", "QualityGateOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityGateOptions:
    """The limits of the gates; a value at its limit passes. The defaults are those of ``watch``.

    Angles are limits on the absolute value, in degrees; units of the others are those of the
    measure, see docs/quality.md. None leaves a measure without a gate. ``min_score`` is a limit
    on the report's score, 0..1. A measure that the finder of landmarks cannot give, for want of a
    mesh, or that nobody asked for, is not gated, unless ``refuse_unmeasured``: then its gate fails.

    Raises:
        InvalidInputError: A limit is not finite or negative, or a lower limit is not below its
            upper one.
    """

    # Measured on every second LFW image outside the verification folds (1,556 faces, aligned to
    # 112x112) and on five clips. Sharpness: 0.1 % of the faces lie below 0.123 and 1 % below
    # 0.167; blurred by a Gaussian of 4 px in the crop all lie below 0.097, of 2 px 99 % below
    # 0.143. Luminance: 0.1 % below 0.23 and above 0.77. Angles of the 0.1 % turned furthest:
    # yaw -37 and 46, pitch -22 and 30, roll -23 and 22. Detection score: 0.1 % below 0.80, but
    # 0.53 for good faces of a 1080p crowd. Eye distance: 0.1 % below 19 px, 1 % below 32 px.
    # Of these faces ``watch`` lets 99.0 % pass and ``enrolment`` 96.3 %, without the gates on
    # eyes, mouth and exposure.
    #
    # Pitch: a person who raises the head (83 frames, four MobileFaceNets) has a similarity to the
    # frontal frame of 0.94 to 0.97 at 3 degrees, 0.66 at 15, 0.51 to 0.63 at 21, 0.39 to 0.61 at
    # 25, 0.05 to 0.30 at 31 and at most 0.13 at 39; it falls below 0.5 at 24, 24, 24 and 29. The
    # limit for lowered heads is the same, by symmetry and not by measurement.
    #
    # Eyes and mouth, 3,107 LFW images outside the folds: 0.5 % of the faces have eyes_open below
    # 0.010 and 1 % below 0.013, nearly all closed, laughing or looking down; open narrow eyes were
    # seen from 0.008. 2 % have the mouth open by more than 0.2, the standard's middle.
    #
    # Light: the darkest luminances, the fewest different ones, and the greatest under-exposure of
    # LFW are those of well-lit people with dark skin. These measures are reported, and no profile
    # gates them before a face is black.

    min_detection_score: float = 0.5
    min_eye_distance_px: float = 20.0
    min_sharpness: float = 0.1
    min_luminance: float = 0.1
    max_luminance: float = 0.9
    max_yaw_deg: float = 45.0
    max_pitch_deg: float = 25.0
    max_roll_deg: float = 60.0
    min_inside_frame: float = 0.8
    max_head_size: float | None = None
    min_side_margin: float | None = None
    min_margin_above: float | None = None
    min_margin_below: float | None = None
    min_eyes_open: float | None = None
    max_mouth_opening: float | None = None
    max_other_face: float | None = None
    min_dynamic_range: float | None = None
    min_illumination_uniformity: float | None = None
    max_over_exposure: float | None = None
    max_under_exposure: float | None = None
    max_colour_distance: float | None = None
    min_score: float | None = None
    refuse_unmeasured: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and (not math.isfinite(value) or value < 0):
                raise InvalidInputError(f"{each.name} must be finite and at least 0, got {value}")
        if self.min_luminance >= self.max_luminance:
            raise InvalidInputError(
                f"min_luminance must be below max_luminance, got {self.min_luminance} "
                f"and {self.max_luminance}"
            )

    @classmethod
    def watch(cls) -> QualityGateOptions:
        """Return the limits for probes: only faces that cannot be compared are kept out."""
        return cls()

    @classmethod
    def enrolment(cls) -> QualityGateOptions:
        """Return the strict limits for references: everything is compared with these."""
        return cls(
            min_detection_score=0.6,
            min_eye_distance_px=30.0,
            min_sharpness=0.15,
            min_luminance=0.15,
            max_luminance=0.85,
            max_yaw_deg=30.0,
            max_pitch_deg=20.0,
            max_roll_deg=30.0,
            min_inside_frame=0.95,
            min_eyes_open=0.012,
            max_mouth_opening=0.2,
            max_other_face=0.7,
            max_over_exposure=0.1,
            max_under_exposure=0.99,
        )

    @classmethod
    def door(cls) -> QualityGateOptions:
        """Return the limits for a door: one awake person who faces it; nothing left unmeasured."""
        return cls(
            min_detection_score=0.6,
            min_eye_distance_px=24.0,
            min_luminance=0.12,
            max_luminance=0.88,
            max_yaw_deg=35.0,
            max_roll_deg=45.0,
            min_inside_frame=0.9,
            min_eyes_open=0.01,
            # A face of half the area is somebody else at the door.
            max_other_face=0.7,
            max_under_exposure=0.99,
            refuse_unmeasured=True,
        )


PROFILES: Mapping[str, Callable[[], QualityGateOptions]] = MappingProxyType(
    {
        "enrol": QualityGateOptions.enrolment,
        "watch": QualityGateOptions.watch,
        "door": QualityGateOptions.door,
    }
)
"""What makes the limits of each profile, by its name."""

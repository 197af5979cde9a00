"""The values that travel through the runtime: frozen, checked when made, arrays read-only.

Colour order is RGB everywhere; BGR ends in :mod:`edgeface.camera`. Coordinates are pixels, x to
the right, y downwards. "Left" and "right" in landmark names are as seen in the image.
Words follow ISO/IEC 2382-37: see docs/glossary.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from edgeface._arrays import FloatArray, ImageArray, read_only, require_finite, require_image
from edgeface._geometry import BoundingBox, Size
from edgeface._pad_words import PadDecision
from edgeface._quality_words import QualityMeasure, QualityReport, RejectionReason
from edgeface.errors import InvalidInputError

__all__ = [
    "AlignedFace",
    "BoundingBox",
    "Candidate",
    "Event",
    "EventKind",
    "Evidence",
    "FaceDetection",
    "FaceLandmarks",
    "FloatArray",
    "Frame",
    "IdentificationResult",
    "ImageArray",
    "Observation",
    "OperatingPoint",
    "Outcome",
    "QualityMeasure",
    "QualityReport",
    "RejectionReason",
    "Size",
    "Template",
    "Visit",
    "read_only",
]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a source.

    ``pixels`` is (height, width, 3) uint8 RGB, read-only. ``timestamp_s`` is on the monotonic
    clock for live sources and the position in the recording for files. ``index`` counts frames
    of the source from 0. ``source`` names the source, for people and logs.
    """

    pixels: ImageArray
    timestamp_s: float = 0.0
    index: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        pixels = require_image("Frame.pixels", self.pixels)
        if not math.isfinite(self.timestamp_s):
            raise InvalidInputError(f"Frame.timestamp_s must be finite, got {self.timestamp_s}")
        object.__setattr__(self, "pixels", read_only(pixels))

    @property
    def size(self) -> Size:
        """The size of the picture."""
        return Size(int(self.pixels.shape[1]), int(self.pixels.shape[0]))


@dataclass(frozen=True, slots=True, eq=False)
class FaceDetection:
    """A face found in a frame.

    ``keypoints_px`` is (k, 2) float32 x, y, in the detector's own order, which its adapter
    documents; may be (0, 2). ``score`` is the detector's confidence in 0..1.
    """

    box: BoundingBox
    score: float
    keypoints_px: FloatArray = field(default_factory=lambda: np.empty((0, 2), np.float32))

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise InvalidInputError(f"a detection score must be in 0..1, got {self.score}")
        points = require_finite("FaceDetection.keypoints_px", self.keypoints_px, (None, 2))
        object.__setattr__(self, "keypoints_px", read_only(points))


@dataclass(frozen=True, slots=True, eq=False)
class FaceLandmarks:
    """The five points that alignment uses, and the pose of the head.

    ``points_px`` is (5, 2) float32 x, y in frame pixels: the eye, then the other eye, the nose
    tip, and the two mouth corners, the one further left in an upright image first. Angles are in
    degrees and 0 for a frontal face: ``yaw_deg`` positive when the face turns to the right of the
    image, ``pitch_deg`` positive when it looks up, ``roll_deg`` positive when it is rotated
    clockwise as seen. ``blendshapes`` are MediaPipe's expression coefficients in 0..1, or empty.
    ``mesh_px`` is (478, 2) float32 x, y in frame pixels in the order of MediaPipe's face mesh, or
    (0, 2) from a finder that has only the five points.
    """

    points_px: FloatArray
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0
    blendshapes: Mapping[str, float] = field(default_factory=dict)
    mesh_px: FloatArray = field(default_factory=lambda: np.empty((0, 2), np.float32))

    def __post_init__(self) -> None:
        points = require_finite("FaceLandmarks.points_px", self.points_px, (5, 2))
        n_mesh = 478 if len(self.mesh_px) else 0
        mesh = require_finite("FaceLandmarks.mesh_px", self.mesh_px, (n_mesh, 2))
        if not all(math.isfinite(a) for a in (self.yaw_deg, self.pitch_deg, self.roll_deg)):
            raise InvalidInputError("the angles of a face must be finite")
        object.__setattr__(self, "points_px", read_only(points))
        object.__setattr__(self, "mesh_px", read_only(mesh))

    @property
    def eye_distance_px(self) -> float:
        """Distance between the two eyes in frame pixels."""
        return float(np.linalg.norm(self.points_px[1] - self.points_px[0]))


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """A face warped to a model's template.

    ``pixels`` is (height, width, 3) uint8 RGB of the model's crop size; ``frame_to_crop`` is the
    (2, 3) float32 affine matrix that took frame pixels to crop pixels.
    """

    pixels: ImageArray
    frame_to_crop: FloatArray

    def __post_init__(self) -> None:
        pixels = require_image("AlignedFace.pixels", self.pixels)
        matrix = require_finite("AlignedFace.frame_to_crop", self.frame_to_crop, (2, 3))
        object.__setattr__(self, "pixels", read_only(pixels))
        object.__setattr__(self, "frame_to_crop", read_only(matrix))


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The feature vector of one face.

    ``vector`` is (embedding_size,) float32 of unit length. Templates of different ``model_id``
    cannot be compared. ``quality`` in 0..1 is the score of the face it was made from.
    """

    vector: FloatArray
    model_id: str
    quality: float = 0.0

    def __post_init__(self) -> None:
        vector = require_finite("Template.vector", self.vector, (None,))
        length = float(np.linalg.norm(vector.astype(np.float64)))
        # 1e-3: float16 storage of a unit vector stays within 5e-4 of length 1.
        if abs(length - 1.0) > 1e-3:
            raise InvalidInputError(f"a template must have length 1, got {length:.6f}")
        if not self.model_id:
            raise InvalidInputError("a template must name its model: model_id is empty")
        object.__setattr__(self, "vector", read_only(vector))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A subject found by a search; ``score`` is a cosine similarity in -1..1."""

    subject: str
    score: float


class Outcome(str, Enum):
    """What a comparison with the gallery says."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    AMBIGUOUS = "ambiguous"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the outcome of a track rests on.

    ``compared`` counts the newest compared frames that take part, ``rejected`` those that were
    not compared since the newest of them. ``votes`` are the frames that name each subject, most
    first; ``unsure`` those that could not tell two apart. ``margin`` is how far the best score is
    above the best of any other subject in the same frame, None without another.
    """

    compared: int
    rejected: int = 0
    votes: tuple[tuple[str, int], ...] = ()
    unsure: int = 0
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class IdentificationResult:
    """Who a face is, or why that is not said.

    ``subject`` is set for ``KNOWN`` only. ``score`` is the similarity of the best candidate, and
    None when nothing was compared. ``frames_used`` counts the frames that the result rests on,
    and ``evidence`` says more about them; it is None for the result of a single frame.
    """

    outcome: Outcome
    subject: str | None = None
    score: float | None = None
    candidates: tuple[Candidate, ...] = ()
    reasons: tuple[RejectionReason, ...] = ()
    frames_used: int = 1
    evidence: Evidence | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if (self.subject is not None) != (self.outcome is Outcome.KNOWN):
            raise InvalidInputError("a subject is named exactly when the outcome is known")
        if self.outcome is Outcome.REJECTED and not self.reasons:
            raise InvalidInputError("a rejection must give its reasons")


@dataclass(frozen=True, slots=True)
class Observation:
    """One face in one frame, with what was found out about it.

    ``result`` is about this frame alone; ``track_result`` is what the whole track says so far and
    is None outside a stream. ``quality`` and ``landmarks`` are None only when the face was
    rejected before they could be measured, or ``is_carried``.

    ``is_carried`` is True where this frame added nothing: the face was not compared in it, and
    ``result`` and ``quality`` are those of the track's newest attempt. Its box may be the one
    where the track is expected.

    ``pad`` is what presentation attack detection says now, over the newest frames of the track;
    None where it is not used or has not looked yet. Where it is used, ``result`` and
    ``track_result`` name nobody who has not passed.
    """

    detection: FaceDetection
    result: IdentificationResult
    quality: QualityReport | None = None
    landmarks: FaceLandmarks | None = None
    track_id: int | None = None
    track_result: IdentificationResult | None = None
    is_carried: bool = False
    pad: PadDecision | None = None


class EventKind(str, Enum):
    """What happened in a stream."""

    APPEARED = "appeared"
    IDENTIFIED = "identified"
    LEFT = "left"
    ARRIVED = "arrived"
    """A visit of a known subject began."""
    DEPARTED = "departed"
    """A visit is over."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay of a known subject, however many tracks it was seen in.

    Times are on the clock of the frames. ``number`` counts the visits of one run from 1.
    """

    subject: str
    number: int
    arrived_s: float
    last_seen_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one track of a stream, or to a visit.

    ``timestamp_s`` and ``frame_index`` are those of the frame; ``result`` is the track's.
    ``visit`` is set for ``ARRIVED`` and ``DEPARTED``; a departure is said when the subject has
    been away for long enough, and ``visit.last_seen_s`` says since when.
    """

    kind: EventKind
    track_id: int
    result: IdentificationResult
    timestamp_s: float
    frame_index: int
    source: str = ""
    visit: Visit | None = None

    @property
    def subject(self) -> str | None:
        """The subject, when known."""
        return self.result.subject

    @property
    def score(self) -> float | None:
        """The similarity of the best candidate, in -1..1."""
        return self.result.score

    @property
    def outcome(self) -> Outcome:
        """known, unknown, ambiguous or rejected."""
        return self.result.outcome


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on the similarity score, with the evidence for it.

    A comparison is accepted when its score is finite and at least ``threshold``. ``target_fmr``
    is the false match rate that was aimed at; ``fnmr`` the false non-match rate measured there,
    and None where no mated comparisons were at hand. ``n_mated`` and ``n_non_mated`` count the
    comparisons. ``protocol`` names what was compared. ``artefact`` is the artefact of the bundle
    that it was measured with. ``provisional`` marks a point that was not measured with this model.

    A point for searches has ``target_fpir``, the false positive identification rate aimed at, and
    ``gallery_size``, the number of enrolled subjects that it holds up to; its ``target_fmr`` is
    the one divided by the other. ``fpir_low`` and ``fpir_high`` are the 95 % interval of the rate
    at the threshold, ``fnir`` is the measured false negative identification rate.
    ``extrapolated`` marks a gallery larger than any that was compared: the threshold comes from
    an extreme-value fit.
    """

    threshold: float
    target_fmr: float
    artefact: str
    protocol: str
    fnmr: float | None = None
    n_mated: int = 0
    n_non_mated: int = 0
    provisional: bool = False
    target_fpir: float | None = None
    gallery_size: int | None = None
    fpir_low: float | None = None
    fpir_high: float | None = None
    fnir: float | None = None
    extrapolated: bool = False

    def __post_init__(self) -> None:
        if not -1.0 <= self.threshold <= 1.0:
            raise InvalidInputError(
                f"a threshold on cosine similarity must be in -1..1, got {self.threshold}"
            )
        if not 0.0 < self.target_fmr < 1.0:
            raise InvalidInputError(f"target_fmr must be between 0 and 1, got {self.target_fmr}")
        if self.fnmr is not None and not 0.0 <= self.fnmr <= 1.0:
            raise InvalidInputError(f"fnmr must be in 0..1 or None, got {self.fnmr}")
        if self.n_mated < 0 or self.n_non_mated < 0:
            raise InvalidInputError("comparisons cannot be fewer than none")
        self._check_search()

    def _check_search(self) -> None:
        if (self.target_fpir is None) != (self.gallery_size is None):
            raise InvalidInputError("target_fpir and gallery_size come together, or neither")
        if self.gallery_size is not None and self.gallery_size < 1:
            raise InvalidInputError(f"gallery_size must be at least 1, got {self.gallery_size}")
        for name in ("target_fpir", "fpir_low", "fpir_high", "fnir"):
            rate = getattr(self, name)
            if rate is not None and not 0.0 <= rate <= 1.0:
                raise InvalidInputError(f"{name} must be in 0..1 or None, got {rate}")

    def accepts(self, score: float) -> bool:
        """Return whether ``score`` is accepted; False for NaN, infinity and anything below."""
        return math.isfinite(score) and score >= self.threshold

"""Presentation attack detection in front of recognition: nobody is named before a face passed.

Each track has its own window of scores. A track that passed stays passed while it shows the same
person and its window says no attack: who turns away for a moment has not left.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from edgeface.detection.base import LandmarkFinder
from edgeface.detection.sanity import landmarks_are_plausible
from edgeface.errors import InvalidInputError
from edgeface.pad import (
    PadDecision,
    PadModel,
    PadOperatingPoint,
    PadOutcome,
    PadWindow,
    PadWindowOptions,
    PresentationAttackDetector,
    StillnessCheck,
    combine,
)
from edgeface.pipeline.interest import ComparisonBudget, ComparisonOptions
from edgeface.signatures import PublicKey
from edgeface.types import (
    FaceDetection,
    FaceLandmarks,
    Frame,
    IdentificationResult,
    Outcome,
    RejectionReason,
)

__all__ = ["PadGate", "PadOptions", "PadTrack", "gated", "most_due"]

_REASONS = {
    PadOutcome.ATTACK: RejectionReason.PRESENTATION_ATTACK,
    PadOutcome.UNDECIDED: RejectionReason.LIVENESS_UNDECIDED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PadOptions:
    """How a recogniser looks for presentation attacks.

    ``bundles`` are the folders of the PAD models, fused where there are several.
    ``operating_point`` is by default the trainer's rule, which was measured on no camera of yours.
    With ``stillness`` a face must once have moved as a living one does. A face is scored every
    ``interval_s`` until it passed, then every ``recheck_s``; all faces together ``per_second``
    times. Scoring costs two to four times what an embedding costs.
    """

    bundles: tuple[str | os.PathLike[str], ...]
    operating_point: PadOperatingPoint | None = None
    window: PadWindowOptions = field(default_factory=PadWindowOptions)
    stillness: bool = True
    interval_s: float = 0.1
    recheck_s: float = 0.4
    per_second: float = 20.0

    def __post_init__(self) -> None:
        if not self.bundles:
            raise InvalidInputError("wanted the bundle of one or more PAD models, got none")
        # False for NaN.
        if not 0.0 <= self.interval_s <= self.recheck_s < self.window.max_gap_s:
            raise InvalidInputError(
                "wanted 0 <= interval_s <= recheck_s, below the window's max_gap_s of "
                f"{self.window.max_gap_s} s, got {self.interval_s} and {self.recheck_s}"
            )
        if not self.per_second > 0.0:
            raise InvalidInputError(f"per_second must be above 0, got {self.per_second}")


def gated(result: IdentificationResult, decision: PadDecision | None) -> IdentificationResult:
    """Return ``result``, or its rejection where it names somebody and the face did not pass."""
    if result.outcome not in (Outcome.KNOWN, Outcome.AMBIGUOUS):
        return result
    if decision is not None and decision.passed:
        return result
    outcome = PadOutcome.UNDECIDED if decision is None else decision.outcome
    return replace(
        result, outcome=Outcome.REJECTED, subject=None, candidates=(), reasons=(_REASONS[outcome],)
    )


class PadTrack:
    """What is known of one track; made by :meth:`PadGate.track`."""

    def __init__(self, gate: PadGate, *, stills: bool) -> None:
        self._gate = gate
        self._stills = stills
        self.reset()

    def reset(self) -> None:
        """Forget everything: the track may show somebody else."""
        gate = self._gate
        options = PadWindowOptions.single_frame() if self._stills else gate.options.window
        self._window = PadWindow(gate.operating_point, options)
        wants_movement = gate.options.stillness and not self._stills
        self._stillness = StillnessCheck() if wants_movement else None
        self._scored_s = -math.inf
        self.decision: PadDecision | None = None
        self._passed: PadDecision | None = None

    @property
    def standing(self) -> PadDecision | None:
        """What holds for the track: the pass it once had, or else the newest decision."""
        return self._passed or self.decision

    def gate(self, result: IdentificationResult) -> IdentificationResult:
        """Return ``result``, rejected where it names somebody and the track did not pass."""
        return gated(result, self.standing)

    def urgency(self, now_s: float) -> tuple[bool, float] | None:
        """Return what to sort by, the most urgent first, or None when no score is due."""
        options = self._gate.options
        wait_s = options.interval_s if self._passed is None else options.recheck_s
        # Rounding errors of frame times must not cost a frame; a clock set back makes it due.
        due = not 0.0 <= now_s - self._scored_s < wait_s - 1e-6
        return (self._passed is not None, self._scored_s) if due else None

    def score(self, frame: Frame, face: FaceDetection, landmarks: FaceLandmarks | None) -> None:
        """Score the face in ``frame``; ``landmarks`` are looked for where they are None.

        Raises:
            BackendError: An engine failed.
        """
        now_s = frame.timestamp_s
        self._scored_s = now_s
        score = self._gate.assessor.assess(frame, face)
        decision = self._window.update(score, now_s)
        if self._stillness is not None:
            points = landmarks if landmarks is not None else self._gate.landmarks(frame, face)
            moved = self._stillness.update(frame, points, now_s)
            decision = combine(decision, moved)
            if moved.passed:
                self._stillness = None
        self.decision = decision
        if decision.outcome is PadOutcome.ATTACK:
            self._passed = None
        elif decision.passed:
            self._passed = decision


class PadGate:
    """The models that all tracks of all streams share. Not for use from several threads.

    Args:
        assessor: Scores faces.
        landmark_finder: Its landmarks tell a living face from one that is too constant. It is not
            closed by the gate.
        options: How often, and from when on.

    Raises:
        OperatingPointError: The operating point was made for other models.
    """

    def __init__(
        self,
        assessor: PresentationAttackDetector,
        landmark_finder: LandmarkFinder,
        options: PadOptions,
    ) -> None:
        point = options.operating_point or PadOperatingPoint.of_trainer(assessor.model_ids)
        point.require_models(assessor.model_ids)
        self.assessor = assessor
        self.operating_point = point
        self.options = options
        self._landmark_finder = landmark_finder

    @classmethod
    def open(
        cls,
        options: PadOptions,
        landmark_finder: LandmarkFinder,
        *,
        threads: int | None = None,
        trusted_keys: Sequence[PublicKey] | None = None,
    ) -> PadGate:
        """Return the gate with the models of ``options``.

        Raises:
            BundleError: A bundle is damaged, or holds no PAD model.
            OperatingPointError: The operating point was made for other models.
            MissingDependencyError: ONNX Runtime is not installed.
        """
        with ExitStack() as stack:
            models = []
            for bundle in options.bundles:
                models.append(PadModel.open(bundle, threads=threads, trusted_keys=trusted_keys))
                stack.callback(models[-1].close)
            gate = cls(PresentationAttackDetector(models), landmark_finder, options)
            stack.pop_all()
            return gate

    def track(self, *, stills: bool = False) -> PadTrack:
        """Return the state of a new track; with ``stills`` one frame decides."""
        return PadTrack(self, stills=stills)

    def budget(self) -> ComparisonBudget:
        """Return how many scores may be taken, for the streams that share it."""
        per_second = self.options.per_second
        burst = max(1, math.ceil(per_second / 4)) if math.isfinite(per_second) else 1 << 20
        return ComparisonBudget(ComparisonOptions(per_second=per_second, burst=burst))

    def judge(self, frame: Frame, face: FaceDetection) -> PadDecision | None:
        """Return what one picture alone says of a face.

        Raises:
            BackendError: An engine failed.
        """
        track = self.track(stills=True)
        track.score(frame, face, None)
        return track.decision

    def landmarks(self, frame: Frame, face: FaceDetection) -> FaceLandmarks | None:
        """Return the landmarks of ``face``, None where there are no plausible ones."""
        found = self._landmark_finder.find(frame, face)
        if found is None or not landmarks_are_plausible(found.points_px, face.box):
            return None
        return found

    def close(self) -> None:
        """Free the models; may be called twice."""
        self.assessor.close()


def most_due(tracks: Mapping[int, PadTrack], budget: ComparisonBudget, now_s: float) -> list[int]:
    """Return the tracks to score now, within the budget: those that have not passed come first."""
    urgencies = {number: track.urgency(now_s) for number, track in tracks.items()}
    due = sorted((urgency, number) for number, urgency in urgencies.items() if urgency is not None)
    return [number for _, number in due[: budget.take(len(due), now_s)]]

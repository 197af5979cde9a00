"""Collecting an activation set: faces of pictures, videos and cameras, by the runtime's own path.

Detection, landmarks, plausibility, alignment and the quality gates of ``watch`` are those of
:class:`edgeface.pipeline.finding.FaceFinder`: ranges taken from other crops would be those of
pictures that the model never sees.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgeface.camera import FrameSource
from edgeface.detection.base import FaceDetector, LandmarkFinder
from edgeface.errors import CameraError, InvalidInputError
from edgeface.pipeline.finding import FaceFinder, FoundFace
from edgeface.quality import QualityGateOptions
from edgeface.tracking import Tracker
from edgeface.types import FaceDetection, Frame, QualityMeasure, QualityReport
from edgeface_calibration.activation_set_colour import check_skin_colour
from edgeface_calibration.activation_set_duplicates import NearDuplicates
from edgeface_calibration.activation_set_limits import ActivationSetLimits, require_enough
from edgeface_calibration.activation_set_manifest import MAX_CROPS, CropMeasures, SourceKind
from edgeface_calibration.activation_set_sources import (
    Opener,
    Source,
    kind_of,
    open_sources,
    take_turns,
)
from edgeface_calibration.activation_set_store import (
    CollectedFace,
    StoredActivationSet,
    require_free,
    save_activation_set,
)

__all__ = ["CollectOptions", "Collected", "Tell", "collect_activation_set"]

Tell: TypeAlias = Callable[[int, int], None]
"""Is told, after each look, how many faces were kept and at how many pictures was looked."""

# A face that walks past moves by less than half its width in a tenth of a second, so that its
# boxes still join to one track; between two such looks a video says nothing new.
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectOptions:
    """What is collected.

    ``template`` is what the crops are aligned to; those of 112x112 serve models of 112x96, too.
    Of one track at most one crop is taken in ``every_s``. ``quality`` gates the faces.
    ``overwrite`` replaces a set that is there.
    """

    template: str = "arcface-112x112"
    every_s: float = 0.5
    limits: ActivationSetLimits = field(default_factory=ActivationSetLimits)
    quality: QualityGateOptions = field(default_factory=QualityGateOptions.watch)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.every_s) or self.every_s < 0:
            raise InvalidInputError(f"every_s must be finite and at least 0, got {self.every_s}")
        if self.limits.maximum > MAX_CROPS:
            raise InvalidInputError(
                f"an activation set has at most {MAX_CROPS} faces, got {self.limits.maximum}"
            )


@dataclass(frozen=True, slots=True)
class Collected:
    """A set that was written, and how it came about.

    ``looked_at`` counts pictures and frames. ``refused`` counts what was left out, by reason:
    faces by what the gates said, ``duplicate``, pictures with ``no_face``, and files that were
    ``unusable``. ``stopped`` is true when Ctrl-C ended it. ``notes`` are sentences for people.
    """

    stored: StoredActivationSet
    looked_at: int
    refused: Mapping[str, int]
    stopped: bool = False
    notes: tuple[str, ...] = ()


def collect_activation_set(
    sources: Sequence[Source],
    output: str | os.PathLike[str],
    detector: FaceDetector,
    landmark_finder: LandmarkFinder,
    *,
    options: CollectOptions | None = None,
    tell: Tell | None = None,
) -> Collected:
    """Return the set collected from ``sources`` and written to the folder ``output``.

    Recorded sources take turns, then live ones, until there are faces enough or Ctrl-C ends it.
    The caller closes ``detector`` and ``landmark_finder``.

    Raises:
        ActivationSetError: There are fewer faces than ``options.limits.minimum``, or most have
            red and blue exchanged; nothing is written.
        InvalidInputError: ``output`` is no name for a set, or is taken.
        CameraError: There is no such file or folder, or nothing to look at in a folder.
    """
    options = options or CollectOptions()
    require_free(Path(output), overwrite=options.overwrite)
    finder = FaceFinder(detector, landmark_finder, template=options.template)
    gatherer = _Gatherer(finder, options, tell)
    with ExitStack() as stack:
        # Those that end come first, and do not wait for the frames of those that do not.
        gatherer.go_through(*open_sources(sources, stack))
    notes = gatherer.judge(f"collecting from {len(sources)} source(s)")
    stored = save_activation_set(
        output,
        gatherer.kept,
        template=options.template,
        refused=gatherer.refused,
        overwrite=options.overwrite,
    )
    return Collected(
        stored, gatherer.looked_at, dict(gatherer.refused), gatherer.stopped, notes=notes
    )


class _Gatherer:
    """Keeps faces that pass and are new; counts the others by reason."""

    def __init__(self, finder: FaceFinder, options: CollectOptions, tell: Tell | None) -> None:
        self.kept: list[CollectedFace] = []
        self.refused: Counter[str] = Counter()
        self.problems: list[str] = []
        self.looked_at = 0
        self.stopped = False
        self._finder = finder
        self._options = options
        self._tell = tell
        self._known = NearDuplicates()

    def go_through(self, *groups: Sequence[Opener]) -> None:
        """Look at the sources of each group in turn, until there are faces enough or Ctrl-C."""
        looks = (take_turns([partial(self._looks, each) for each in group]) for group in groups)
        try:
            for _ in chain.from_iterable(looks):
                if self._tell is not None:
                    self._tell(len(self.kept), self.looked_at)
                if self._is_full():
                    return
        except KeyboardInterrupt:
            self.stopped = True

    def judge(self, where: str) -> tuple[str, ...]:
        """Return what is to be said of the faces.

        Raises:
            ActivationSetError: They are too few, or their colours are exchanged.
        """
        limits = self._options.limits
        require_enough(
            where,
            len(self.kept),
            limits,
            refused=self.refused,
            first_problem=self.problems[0] if self.problems else "",
        )
        colours = check_skin_colour(np.stack([face.pixels for face in self.kept]), where)
        return (*limits.notes(len(self.kept)), *colours, *self.problems)

    def _looks(self, opener: Opener) -> Iterator[None]:
        """Look at one frame at each turn; a source that fails ends, what it gave is kept."""
        try:
            with closing(opener()) as source:
                yield from self._looks_at(source)
        except CameraError as exc:
            self.problems.append(str(exc))
            self.refused["unusable"] += 1

    def _looks_at(self, source: FrameSource) -> Iterator[None]:
        kind = kind_of(source)
        due = None if kind is SourceKind.PICTURE else _DueFaces(self._options.every_s)
        for frame in source:
            if due is None or due.is_time(frame):
                self._look(frame, kind, due)
                yield
        # What a video passes over are frames; what a folder does are damaged files.
        if source.skipped and kind is SourceKind.PICTURE:
            self.refused["unusable"] += source.skipped

    def _look(self, frame: Frame, kind: SourceKind, due: _DueFaces | None) -> None:
        self.looked_at += 1
        detections = self._finder.detect(frame)
        if due is not None:
            detections = due.of(frame, detections)
        elif not detections:
            self.refused["no_face"] += 1
        for face in self._finder.find(frame, self._options.quality, detections=detections):
            if not self._is_full():
                self._consider(face, kind)

    def _consider(self, face: FoundFace, kind: SourceKind) -> None:
        if face.aligned is None or face.quality is None:
            self.refused[face.reasons[0].value] += 1
        elif self._known.is_known(face.aligned.pixels):
            self.refused["duplicate"] += 1
        else:
            measures = _measures(face.quality)
            self.kept.append(CollectedFace(face.aligned.pixels, measures, kind))

    def _is_full(self) -> bool:
        return len(self.kept) >= self._options.limits.maximum


class _DueFaces:
    """Says which faces of a stream are looked at: each track once in ``every_s``."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._tracker = Tracker()
        self._taken_s: dict[int, float] = {}
        self._next_look_s = -math.inf

    def is_time(self, frame: Frame) -> bool:
        """Return whether ``frame`` is far enough from the one that was looked at last."""
        if frame.timestamp_s < self._next_look_s:
            return False
        self._next_look_s = frame.timestamp_s + min(_LOOK_EVERY_S, self._every_s)
        return True

    def of(self, frame: Frame, detections: Sequence[FaceDetection]) -> list[FaceDetection]:
        """Return those of ``detections`` that it is time for."""
        due = []
        for face, track in zip(detections, self._tracker.update(detections), strict=True):
            if frame.timestamp_s - self._taken_s.get(track, -math.inf) >= self._every_s:
                self._taken_s[track] = frame.timestamp_s
                due.append(face)
        for track in self._tracker.lost:
            self._taken_s.pop(track, None)
        return due


def _measures(quality: QualityReport) -> CropMeasures:
    """Return the measures of a face that passed, in the digits that mean something."""

    def rounded(measure: QualityMeasure) -> float:
        return round(quality.values[measure], 4)

    return CropMeasures(
        yaw_deg=rounded(QualityMeasure.YAW),
        pitch_deg=rounded(QualityMeasure.PITCH),
        roll_deg=rounded(QualityMeasure.ROLL),
        luminance=rounded(QualityMeasure.LUMINANCE),
        sharpness=rounded(QualityMeasure.SHARPNESS),
        eye_distance_px=rounded(QualityMeasure.EYE_DISTANCE),
    )

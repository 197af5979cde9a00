"""A recorded run judged again, under another threshold, rule or gates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from edgeface.decision import DecisionOptions, TrackDecider, decide
from edgeface.gallery import Gallery
from edgeface.pipeline.run_record import Look, RunHead
from edgeface.quality import QualityGateOptions
from edgeface.quality.gates import failed_gates
from edgeface.types import IdentificationResult, OperatingPoint, Outcome

__all__ = ["ReplayOptions", "ReplayedTrack", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What is different; None leaves what was recorded.

    Stricter gates of ``quality`` reject looks that were compared; a look that was rejected in the
    run stays so, since nothing was compared then. With ``gallery``, looks that have a template are
    searched in it anew.
    """

    threshold: float | None = None
    decision: DecisionOptions | None = None
    quality: QualityGateOptions | None = None
    gallery: Gallery | None = None


@dataclass(frozen=True, slots=True)
class ReplayedTrack:
    """What one track said last, in the run and now; None for nothing.

    ``looks`` counts all, ``compared`` those with scores under the new settings. ``first_named_s``
    is when the track was first named now, None for never. ``same_names`` says whether subjects of
    the two can be told from one another, or only outcomes.
    """

    stream: int
    track: int
    looks: int
    compared: int
    recorded: IdentificationResult | None
    replayed: IdentificationResult | None
    first_named_s: float | None
    same_names: bool = True

    @property
    def is_changed(self) -> bool:
        """Whether the run would have ended otherwise for this track."""
        first, second = _gist(self.recorded), _gist(self.replayed)
        if self.same_names or first is None or second is None:
            return first != second
        return first[0] is not second[0]


def replay(head: RunHead, looks: Iterable[Look], options: ReplayOptions) -> list[ReplayedTrack]:
    """Return the tracks of a run in order of appearance, judged under ``options``.

    A track whose face was exchanged in the run began anew there; here its evidence runs on, and
    only the rule's ``switch_frames`` tells the two apart.

    Raises:
        RunRecordError: The record ends in a line that is no look.
        InvalidInputError: The threshold is no similarity.
        GalleryModelError: The gallery is of another model than the run.
    """
    threshold = head.threshold if options.threshold is None else options.threshold
    point = OperatingPoint(threshold, head.target_fmr, head.artefact, "replay", provisional=True)
    decision = options.decision or head.decision
    tracks: dict[tuple[int, int], _Track] = {}
    for look in looks:
        key = look.stream, look.track
        if key not in tracks:
            tracks[key] = _Track(TrackDecider(decision))
        tracks[key].add(look, _judged(look, point, decision, options))
    same_names = head.names or options.gallery is None
    return [replace(track.replayed(*key), same_names=same_names) for key, track in tracks.items()]


def _judged(
    look: Look,
    point: OperatingPoint,
    decision: DecisionOptions,
    options: ReplayOptions,
) -> IdentificationResult:
    """Return what the frame alone says under the new settings."""
    if look.result.outcome is Outcome.REJECTED:
        return look.result
    if options.quality is not None:
        reasons = failed_gates(look.quality, look.quality_score, options.quality)
        if reasons:
            return IdentificationResult(Outcome.REJECTED, reasons=reasons)
    candidates = look.result.candidates
    if options.gallery is not None and look.template is not None:
        candidates = tuple(options.gallery.search(look.template))
    return decide(candidates, point, margin=decision.margin)


@dataclass(slots=True)
class _Track:
    decider: TrackDecider
    looks: int = 0
    compared: int = 0
    recorded: IdentificationResult | None = None
    first_named_s: float | None = None

    def add(self, look: Look, result: IdentificationResult) -> None:
        self.looks += 1
        self.compared += result.outcome is not Outcome.REJECTED
        self.recorded = look.said
        said = self.decider.update(result)
        if self.first_named_s is None and said is not None and said.outcome is Outcome.KNOWN:
            self.first_named_s = look.time_s

    def replayed(self, stream: int, track: int) -> ReplayedTrack:
        said = self.decider.result
        return ReplayedTrack(
            stream,
            track,
            self.looks,
            self.compared,
            self.recorded,
            None if said is None else replace(said, evidence=None),
            self.first_named_s,
        )


def _gist(result: IdentificationResult | None) -> tuple[Outcome, str | None] | None:
    return None if result is None else (result.outcome, result.subject)

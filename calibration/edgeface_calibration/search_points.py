"""Thresholds for searches and comparisons of one artefact, each with its evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.types import OperatingPoint
from edgeface_calibration.error_rates import Interval
from edgeface_calibration.extreme_value import TailModel
from edgeface_calibration.identification import (
    LabelledRows,
    SearchScores,
    false_negative_rate,
    false_positive_rate,
    search_scores,
    threshold_at_fpir,
)
from edgeface_calibration.normalisation import CohortFigures, cohort_figures
from edgeface_calibration.search_resampling import Resampler

__all__ = ["Curves", "PointOptions", "SearchPoint", "ThresholdFigures", "threshold_figures"]

# ISO/IEC 19795-1, annex B, rule of 30.
_FIRM_ERRORS = 30
_CURVE_STEPS = 160
# How often the aim is halved between what is wanted and a twentieth of it.
_CAUTIOUS_STEPS, _CAUTIOUS_LEAST = 7, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOptions:
    """What thresholds are wanted.

    ``target_fpirs`` and ``gallery_sizes`` are combined, every one with every other;
    ``target_fmrs`` are for single comparisons. ``templates`` is how many references of each
    person are enrolled: their first faces. ``cautious`` takes the threshold whose interval, not
    whose measured rate, stays at or below the target. ``cohort_share`` is the share of people
    that score normalisation may use; 0 leaves it out.
    """

    target_fpirs: tuple[float, ...] = (0.01,)
    gallery_sizes: tuple[int, ...] = (100, 1000)
    target_fmrs: tuple[float, ...] = (1e-3, 1e-4, 1e-5)
    templates: int = 1
    cautious: bool = False
    cohort_share: float = 0.0
    n_resamples: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        rates = (*self.target_fpirs, *self.target_fmrs)
        if not all(0.0 < rate < 1.0 for rate in rates):
            raise InvalidInputError(f"target rates lie between 0 and 1, got {rates}")
        if not all(size >= 1 for size in self.gallery_sizes):
            raise InvalidInputError(f"gallery sizes are at least 1, got {self.gallery_sizes}")
        if self.templates < 1 or self.n_resamples < 20 or not 0.0 <= self.cohort_share <= 0.5:
            raise InvalidInputError(
                "wanted templates of at least 1, n_resamples of at least 20 and a cohort_share in "
                f"0..0.5, got {self.templates}, {self.n_resamples}, {self.cohort_share}"
            )


@dataclass(frozen=True, slots=True)
class SearchPoint:
    """A threshold for searches among ``gallery_size`` people; 1 is a single comparison.

    Rates are None, and ``threshold`` too, where the data cannot say; ``note`` says why, or what
    to know of the figures. ``evidence`` is ``measured``, ``stretched`` (counted, then carried to
    a larger gallery as an upper bound), ``extreme-value fit`` or ``not enough data``.
    """

    gallery_size: int
    target: float
    evidence: str
    threshold: float | None = None
    fpir: float | None = None
    fpir_interval: Interval | None = None
    fnir: float | None = None
    fnir_interval: Interval | None = None
    note: str = ""

    @property
    def is_extrapolated(self) -> bool:
        """Whether more people are enrolled than any stranger was compared with."""
        return self.evidence in ("stretched", "extreme-value fit")


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Rates over ``thresholds`` (n,): ``fpir`` and ``fnir`` by gallery size, 1 for comparisons."""

    thresholds: npt.NDArray[np.float64]
    fpir: dict[int, npt.NDArray[np.float64]]
    fnir: dict[int, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdFigures:
    """What was measured of one artefact.

    ``comparisons`` are the points of single comparisons, ``searches`` those of galleries.
    ``n_twins`` counts pairs of people who look as alike as half of all faces of one person do:
    often one person under two names.
    """

    artefact: str
    n_people: int
    n_faces: int
    n_mated: int
    n_non_mated: int
    comparisons: tuple[SearchPoint, ...]
    searches: tuple[SearchPoint, ...]
    curves: Curves
    n_twins: int = 0
    cohort: CohortFigures | None = None

    @property
    def twins_note(self) -> str:
        """What to know of :attr:`n_twins` in words, empty for none."""
        if not self.n_twins:
            return ""
        return (
            f"{self.n_twins:,} pairs of people look as alike as one person does. If some are one "
            "person under two names, every rate of false positives here is too high, and so are "
            "the thresholds."
        )

    def operating_points(self, protocol: str) -> tuple[OperatingPoint, ...]:
        """Return a point for each threshold that was found; ``protocol`` names the images."""
        found = [p for p in (*self.comparisons, *self.searches) if p.threshold is not None]
        return tuple(self._operating_point(p, protocol) for p in found)

    def _operating_point(self, point: SearchPoint, protocol: str) -> OperatingPoint:
        is_search = point in self.searches
        interval = point.fpir_interval if is_search else None
        threshold = point.threshold if point.threshold is not None else 1.0
        return OperatingPoint(
            threshold=max(-1.0, threshold),
            target_fmr=point.target / point.gallery_size,
            artefact=self.artefact,
            protocol=f"{protocol}; {point.evidence}",
            fnmr=None if is_search else point.fnir,
            n_mated=self.n_mated,
            n_non_mated=self.n_non_mated,
            target_fpir=point.target if is_search else None,
            gallery_size=point.gallery_size if is_search else None,
            fpir_low=None if interval is None else interval.low,
            fpir_high=None if interval is None else interval.high,
            fnir=point.fnir if is_search else None,
            extrapolated=point.is_extrapolated,
        )


def threshold_figures(
    artefact: str, labelled: LabelledRows, options: PointOptions
) -> ThresholdFigures:
    """Return every threshold that ``options`` ask for, from the faces ``labelled``.

    Raises:
        OperatingPointError: There are not three people.
    """
    scores = search_scores(
        labelled, templates=options.templates, smallest_gallery=_smallest(options)
    )
    finder = _Finder(scores, options)
    searches = [
        finder.point(target, size)
        for size in sorted(set(options.gallery_sizes))
        for target in sorted(set(options.target_fpirs), reverse=True)
    ]
    return ThresholdFigures(
        artefact=artefact,
        n_people=scores.n_people,
        n_faces=len(scores.people),
        n_mated=len(scores.mated),
        n_non_mated=scores.n_non_mated,
        comparisons=tuple(finder.point(target, 1) for target in options.target_fmrs),
        searches=tuple(searches),
        curves=_curves(scores, options.gallery_sizes),
        n_twins=_twins(scores),
        cohort=cohort_figures(labelled, options) if options.cohort_share else None,
    )


def _smallest(options: PointOptions) -> int:
    """Return the gallery that the lists of highest scores must be long enough for.

    A comparison at a low FMR looks no deeper into them than a search among a tenth of 1 / FMR.
    """
    as_galleries = [int(0.1 / target) for target in options.target_fmrs]
    return max(1, min([*options.gallery_sizes, *as_galleries]))


class _Finder:
    """Finds points, and fits the tail once when it is needed."""

    def __init__(self, scores: SearchScores, options: PointOptions) -> None:
        self._scores = scores
        self._options = options
        self._resampler = Resampler.of(scores, n_resamples=options.n_resamples, seed=options.seed)
        self._tail: TailModel | None = None
        # The highest threshold that was counted, by target: no fit may fall below it.
        self._counted: dict[float, float] = {}

    def point(self, target: float, gallery_size: int) -> SearchPoint:
        try:
            if gallery_size <= self._scores.largest_gallery:
                return self._measured(target, gallery_size)
            return self._beyond(target, gallery_size)
        except OperatingPointError as error:
            return SearchPoint(gallery_size, target, "not enough data", note=str(error))

    def _measured(self, target: float, gallery_size: int) -> SearchPoint:
        scores = self._scores
        self._require_resolvable(target, gallery_size)

        def interval_at(threshold: float) -> Interval:
            return self._resampler.fpir(threshold, gallery_size)

        threshold = self._chosen(
            target, lambda aim: threshold_at_fpir(scores, aim, gallery_size), interval_at
        )
        if threshold > 1.0:
            raise OperatingPointError(
                "no threshold: different people score 1, so that none tells them apart; look for "
                "people with two names, and check the alignment"
            )
        interval = interval_at(threshold)
        if gallery_size > 1:
            self._counted[target] = max(threshold, self._counted.get(target, -1.0))
        return SearchPoint(
            gallery_size,
            target,
            "measured",
            threshold,
            false_positive_rate(scores, threshold, gallery_size),
            interval,
            false_negative_rate(scores, threshold, gallery_size),
            self._resampler.fnir(threshold, gallery_size),
            self._note(threshold),
        )

    def _beyond(self, target: float, gallery_size: int) -> SearchPoint:
        if self._tail is None:
            self._tail = TailModel.of(self._scores, self._resampler)
        tail, compared = self._tail, self._scores.largest_gallery

        def interval_at(threshold: float) -> Interval:
            return tail.interval(threshold, gallery_size)

        threshold = self._chosen(target, lambda aim: tail.threshold(aim, gallery_size), interval_at)
        threshold = max(threshold, self._counted.get(target, -1.0))
        fitted = tail.is_fitted(threshold)
        note = (
            f"beyond the data: no stranger was compared with more than {compared:,} people; the "
            + ("tail of their scores was fitted" if fitted else "counted rate was carried on")
            + "; the FNIR is that among as many as were compared"
        )
        return SearchPoint(
            gallery_size,
            target,
            "extreme-value fit" if fitted else "stretched",
            threshold,
            tail.fpir(threshold, gallery_size),
            interval_at(threshold),
            false_negative_rate(self._scores, threshold, compared),
            self._resampler.fnir(threshold, compared),
            note,
        )

    def _chosen(
        self,
        target: float,
        threshold_for: Callable[[float], float],
        interval_at: Callable[[float], Interval],
    ) -> float:
        """Return the threshold that aims at ``target``, or cautiously below it."""
        threshold = threshold_for(target)
        if not self._options.cautious or interval_at(threshold).high <= target:
            return threshold
        best, low, high = None, _CAUTIOUS_LEAST, 1.0
        for _ in range(_CAUTIOUS_STEPS):
            middle = (low * high) ** 0.5
            threshold = threshold_for(target * middle)
            if interval_at(threshold).high <= target:
                best, low = threshold, middle
            else:
                high = middle
        if best is None:
            raise OperatingPointError(
                f"not enough data: no threshold is sure to keep {target:g} at 95 % confidence; "
                "give images of more people, or leave out --cautious"
            )
        return best

    def _require_resolvable(self, target: float, gallery_size: int) -> None:
        """Refuse a rate that would mean less than one error.

        Raises:
            OperatingPointError: Not one stranger in all searches may be accepted.
        """
        n_people, name = self._scores.n_people, "FPIR"
        # A comparison is an error of two people: there are as many as pairs of faces and people.
        n_trials = self._scores.n_non_mated if gallery_size == 1 else n_people
        if gallery_size == 1:
            name = "FMR"
        if target * n_trials < 1.0 - 1e-9:
            what = "comparisons of different people" if gallery_size == 1 else "people"
            raise OperatingPointError(
                f"not enough data: {name} {target:g} needs at least {1 / target:,.0f} {what}, "
                f"there are {n_trials:,}"
            )

    def _note(self, threshold: float) -> str:
        accepted = len(np.unique(self._scores.people[self._scores.above(threshold) > 0]))
        if accepted == 0:
            return (
                f"no stranger of {self._scores.n_people:,} is accepted: the rate is below 3 / n at "
                "95 % confidence, not zero"
            )
        if accepted < _FIRM_ERRORS:
            return f"rests on {accepted} people who look like another; {_FIRM_ERRORS} make it firm"
        return ""


def _curves(scores: SearchScores, gallery_sizes: tuple[int, ...]) -> Curves:
    """Return the rates over thresholds from where lists of highest scores begin, up to 1."""
    floor = float(scores.best[:, -1].max())
    top = float(max(scores.best.max(), scores.mated.max(initial=0.0)))
    thresholds = np.linspace(max(-1.0, min(floor, 0.0)), min(1.0, top), _CURVE_STEPS)
    sizes = [1, *(n for n in sorted(set(gallery_sizes)) if 1 < n <= scores.largest_gallery)]
    fpir = {n: np.array([false_positive_rate(scores, t, n) for t in thresholds]) for n in sizes}
    # Single comparisons are counted in full: their curve goes down to where half are accepted.
    counted = scores.counts[::-1].cumsum()[::-1] / scores.counts.sum()
    fpir[1] = np.interp(thresholds, scores.edges[:-1], counted)
    fnir = {
        n: np.array([_number(false_negative_rate(scores, t, n)) for t in thresholds]) for n in sizes
    }
    return Curves(thresholds, fpir, fnir)


def _twins(scores: SearchScores) -> int:
    if not len(scores.mated):
        return 0
    faces, ranks = np.nonzero(scores.best >= np.median(scores.mated))
    pairs = np.stack([scores.people[faces], scores.best_of[faces, ranks]], axis=1)
    return len(np.unique(np.sort(pairs, axis=1), axis=0))


def _number(rate: float | None) -> float:
    return float("nan") if rate is None else rate

"""How often presentation attacks pass, and people are refused, on recordings of one's own.

Words and rates are those of ISO/IEC 30107-3. A *presentation* is one recording: a picture or a
clip. APCER is the share of attack presentations that are taken for bona fide, for each kind of
attack instrument (species) on its own; the headline is the worst species, since an attacker
chooses. BPCER is the share of bona fide presentations that are taken for attacks. A presentation
that led to no decision (no face, too few frames) is a non-response, counted apart: it is no error
of the classification, though a person who gets no answer is not let in either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.pad import PadOperatingPoint
from edgeface_calibration.error_rates import Interval, wilson_interval
from edgeface_calibration.progress import Progress, silent

__all__ = [
    "ErrorRate",
    "PadEvaluation",
    "PresentationScore",
    "SpeciesFigures",
    "evaluate_pad",
    "fit_pad_threshold",
]

MEDIA_SUFFIXES = (".jpg", ".jpeg", ".png", ".mp4", ".avi", ".mkv", ".mov", ".webm")
BARE_SPECIES = "attack"
"""Name of the species of the files that lie in no folder of their own."""

ScorePresentation = Callable[[Path], float | None]
"""Returns the score in 0..1 of a recording, or None for a non-response."""


@dataclass(frozen=True, slots=True)
class PresentationScore:
    """One recording; ``species`` is empty for a bona fide one, ``score`` None for no response."""

    file: str
    species: str
    score: float | None


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """``errors`` of ``trials`` presentations that were answered, and Wilson's 95 % interval.

    ``rate`` is None where nothing was answered.
    """

    errors: int
    trials: int
    rate: float | None
    interval: Interval

    @classmethod
    def of(cls, errors: int, trials: int) -> ErrorRate:
        """Return the rate of ``errors`` in ``trials``."""
        rate = errors / trials if trials else None
        return cls(errors, trials, rate, wilson_interval(errors, trials))


@dataclass(frozen=True, slots=True)
class SpeciesFigures:
    """The figures of one kind of attack instrument; ``no_response`` counts its non-responses."""

    species: str
    apcer: ErrorRate
    no_response: int


@dataclass(frozen=True, slots=True)
class PadEvaluation:
    """The error rates at one threshold.

    ``worst`` is the species with the highest APCER; ``acer`` the mean of that and of BPCER (the
    standard dropped it in 2023, papers still give it), None where one of the two is.
    """

    threshold: float
    bpcer: ErrorRate
    bona_fide_no_response: int
    species: tuple[SpeciesFigures, ...]
    presentations: tuple[PresentationScore, ...]

    @property
    def worst(self) -> SpeciesFigures:
        """The species with the highest APCER, of equal ones that with the fewest presentations."""
        return max(
            self.species, key=lambda each: (each.apcer.rate or 0.0, each.apcer.interval.high)
        )

    @property
    def acer(self) -> float | None:
        """The mean of the worst APCER and of BPCER, in 0..1."""
        rates = (self.worst.apcer.rate, self.bpcer.rate)
        return None if None in rates else sum(rate or 0.0 for rate in rates) / 2

    def at(self, threshold: float) -> PadEvaluation:
        """Return the figures of the same presentations at another threshold."""
        return _figures(self.presentations, threshold)

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {**asdict(self), "acer": self.acer, "worst_species": self.worst.species}


def evaluate_pad(
    bona_fide: Path,
    attacks: Path,
    score: ScorePresentation,
    *,
    threshold: float,
    progress: Progress = silent,
) -> PadEvaluation:
    """Return the error rates on the recordings under two folders.

    Each folder directly inside ``attacks`` is a species and is searched with its sub-folders;
    ``bona_fide`` is searched as a whole.

    Raises:
        InvalidInputError: A folder is missing or holds no recording.
        CameraError: A recording cannot be read.
    """
    files = {"": _recordings(bona_fide)}
    for path in _recordings(attacks):
        parts = path.relative_to(attacks).parts
        files.setdefault(parts[0] if len(parts) > 1 else BARE_SPECIES, []).append(path)
    listed = [(species, path) for species, paths in files.items() for path in paths]
    presentations = [
        PresentationScore(_name(path, attacks if species else bona_fide), species, score(path))
        for species, path in progress("recordings", listed)
    ]
    return _figures(presentations, threshold)


def fit_pad_threshold(
    evaluation: PadEvaluation, *, target_apcer: float, model_ids: Sequence[str]
) -> PadOperatingPoint:
    """Return the lowest threshold at which no species has a measured APCER above the target.

    Raises:
        InvalidInputError: ``target_apcer`` is not in 0..1.
        OperatingPointError: A species is too small to show such a rate: fewer answered
            presentations than 1 / target.
    """
    if not 0.0 < target_apcer < 1.0:
        raise InvalidInputError(f"target_apcer must be between 0 and 1, got {target_apcer}")
    for entry in evaluation.species:
        if entry.apcer.trials * target_apcer < 1 - 1e-9:
            raise OperatingPointError(
                f"not enough data: an APCER of {target_apcer:g} needs at least "
                f"{math.ceil(1 / target_apcer - 1e-9)} answered presentations of each species, "
                f"{entry.species!r} has {entry.apcer.trials}"
            )
    scores = {p.score for p in evaluation.presentations if p.species and p.score is not None}
    for threshold in (0.0, *(math.nextafter(score, 2.0) for score in sorted(scores))):
        there = evaluation.at(min(threshold, 1.0))
        if all((entry.apcer.rate or 0.0) <= target_apcer for entry in there.species):
            return _point(there, target_apcer, model_ids)
    raise OperatingPointError("attacks of score 1 cannot be told from bona fide presentations")


def _point(
    there: PadEvaluation, target_apcer: float, model_ids: Sequence[str]
) -> PadOperatingPoint:
    species = ", ".join(entry.species for entry in there.species)
    return PadOperatingPoint(
        threshold=there.threshold,
        model_ids=tuple(model_ids),
        protocol=f"APCER of the worst species at most {target_apcer:g}; species: {species}",
        bpcer=there.bpcer.rate,
        apcer=there.worst.apcer.rate,
        n_bona_fide=there.bpcer.trials,
        n_attacks=sum(entry.apcer.trials for entry in there.species),
    )


def _figures(presentations: Sequence[PresentationScore], threshold: float) -> PadEvaluation:
    by_species: dict[str, list[float | None]] = {}
    for entry in presentations:
        by_species.setdefault(entry.species, []).append(entry.score)
    bona_fide = by_species.pop("", [])
    accepted = _accepted(bona_fide, threshold)
    answered = len(bona_fide) - bona_fide.count(None)
    return PadEvaluation(
        threshold=threshold,
        bpcer=ErrorRate.of(answered - accepted, answered),
        bona_fide_no_response=bona_fide.count(None),
        species=tuple(
            SpeciesFigures(
                species,
                ErrorRate.of(_accepted(scores, threshold), len(scores) - scores.count(None)),
                scores.count(None),
            )
            for species, scores in sorted(by_species.items())
        ),
        presentations=tuple(presentations),
    )


def _accepted(scores: Sequence[float | None], threshold: float) -> int:
    return sum(score is not None and score >= threshold for score in scores)


def _recordings(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidInputError(f"no folder at {folder}")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in MEDIA_SUFFIXES and path.is_file()
    )
    if not found:
        raise InvalidInputError(
            f"{folder} holds no recording; wanted files that end in {', '.join(MEDIA_SUFFIXES)}"
        )
    return found


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()

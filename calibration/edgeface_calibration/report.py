"""The figures that verification gives, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from edgeface.types import FloatArray
from edgeface_calibration.bootstrap import LabelledScores, TarAtFmr
from edgeface_calibration.error_rates import Interval
from edgeface_calibration.pairs import PairProtocol

__all__ = ["ArtefactFigures", "Drift", "VerificationReport"]

# Half of all pairs are judged rightly by guessing; over 200 pairs a guesser stays below 57 % in
# 95 of 100 runs, and 60 % leaves room for the search of the threshold.
_CHANCE_ACCURACY = 0.60
_CHANCE_MIN_PAIRS = 200
# One direction in which all rows agree gives 1; the root mean square score of unrelated faces is
# then above 0.7. Trained models have 20 and more.
_COLLAPSED_DIMENSION = 2.0


@dataclass(frozen=True, slots=True)
class Drift:
    """How far an artefact's rows and scores are from those of the FP32 artefact.

    ``cosine_*`` compare the rows of the same face; ``pair_change_*`` are absolute differences
    between the scores of the same pair.
    """

    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    pair_change_p99: float
    pair_change_worst: float


@dataclass(frozen=True, slots=True)
class ArtefactFigures:
    """What was measured of one artefact.

    Rates are in 0..1. ``accuracy`` is the mean over the folds and ``accuracy_std`` their
    population standard deviation; ``accuracy_interval`` is Wilson's, over the pairs.
    ``accuracy_counting_missing`` counts each pair with a face that was not found, or has no usable
    embedding (``n_unusable`` faces), as an error. ``effective_dimension`` is the participation
    ratio of the rows: 1 when all faces give one vector. ``drift`` is None for FP32 itself and
    where the bundle has no FP32 artefact.
    """

    artefact: str
    backend: str
    n_mated: int
    n_non_mated: int
    n_unusable: int
    accuracy: float
    accuracy_std: float
    accuracy_interval: Interval
    accuracy_counting_missing: float
    tar: tuple[TarAtFmr, ...]
    eer: float
    auc: float
    mean_mated_score: float
    mean_non_mated_score: float
    effective_dimension: float
    drift: Drift | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_pairs(self) -> int:
        """The number of pairs that the figures rest on."""
        return self.n_mated + self.n_non_mated

    @property
    def at_chance(self) -> bool:
        """Whether the artefact does no better than guessing: under 60 % on 200 pairs or more."""
        return self.n_pairs >= _CHANCE_MIN_PAIRS and self.accuracy < _CHANCE_ACCURACY

    @property
    def collapsed(self) -> bool:
        """Whether nearly all faces give the same vector."""
        return self.effective_dimension < _COLLAPSED_DIMENSION


@dataclass(frozen=True, slots=True, eq=False)
class VerificationReport:
    """The figures of several artefacts on the same pairs.

    ``faces_not_found`` names images. ``scores`` and ``embeddings`` hold the scores and the rows,
    (images, embedding size) in the order of ``protocol.image_names`` and NaN where there is none,
    by artefact; they stay out of :meth:`to_dict`.
    """

    bundle: str
    model_id: str
    protocol: PairProtocol
    faces_not_found: tuple[str, ...]
    artefacts: tuple[ArtefactFigures, ...]
    scores: Mapping[str, LabelledScores] = field(repr=False)
    embeddings: Mapping[str, FloatArray] = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether no artefact is at chance."""
        return not any(figures.at_chance for figures in self.artefacts)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as numbers, texts, lists and dictionaries that JSON can hold."""
        return {
            "bundle": self.bundle,
            "model_id": self.model_id,
            "protocol": self.protocol.name,
            "n_pairs_listed": len(self.protocol.pairs),
            "n_images": len(self.protocol.image_names),
            "n_faces_not_found": len(self.faces_not_found),
            "faces_not_found": list(self.faces_not_found),
            "passed": self.passed,
            "artefacts": [_as_dict(figures) for figures in self.artefacts],
        }


def _as_dict(figures: ArtefactFigures) -> dict[str, Any]:
    values = {entry.name: getattr(figures, entry.name) for entry in fields(figures)}
    values.update(
        n_pairs=figures.n_pairs,
        at_chance=figures.at_chance,
        collapsed=figures.collapsed,
        accuracy_interval=asdict(figures.accuracy_interval),
        tar=[asdict(entry) for entry in figures.tar],
        drift=None if figures.drift is None else asdict(figures.drift),
        notes=list(figures.notes),
    )
    return values

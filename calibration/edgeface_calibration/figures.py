"""From the rows of a protocol's images to the figures of an artefact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import GateFailedError, InvalidInputError
from edgeface.types import FloatArray
from edgeface_calibration.bootstrap import LabelledScores, TarAtFmr, tar_at_fmr
from edgeface_calibration.error_rates import (
    KfoldAccuracy,
    area_under_roc,
    equal_error_rate,
    kfold_accuracy,
    rule_of_three,
    wilson_interval,
)
from edgeface_calibration.pairs import PairProtocol
from edgeface_calibration.report import ArtefactFigures, Drift

__all__ = ["PairTable", "artefact_figures"]

_TAR_TARGETS = (1e-2, 1e-3)
_BLOCK_PAIRS = 8192
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class PairTable:
    """The pairs of a protocol as arrays.

    ``first`` and ``second`` (n,) point into ``protocol.image_names``; ``same`` is (n,) bool,
    ``folds`` (n,) and ``subjects`` (images,) are integers.
    """

    first: Index
    second: Index
    same: npt.NDArray[np.bool_]
    folds: Index
    subjects: Index

    @classmethod
    def of(cls, protocol: PairProtocol) -> PairTable:
        """Return the table of ``protocol``."""
        at = {name: k for k, name in enumerate(protocol.image_names)}
        people = protocol.subject_of()
        return cls(
            first=np.array([at[pair.image_a] for pair in protocol.pairs], np.intp),
            second=np.array([at[pair.image_b] for pair in protocol.pairs], np.intp),
            same=np.array([pair.same for pair in protocol.pairs], np.bool_),
            folds=np.array(protocol.folds, np.intp),
            subjects=np.unique([people[name] for name in at], return_inverse=True)[1],
        )

    def scores(self, rows: FloatArray) -> npt.NDArray[np.float64]:
        """Return the (n,) cosine of each pair, NaN where a row is; ``rows`` are of unit length."""
        scores = np.empty(len(self.first))
        for start in range(0, len(scores), _BLOCK_PAIRS):
            part = slice(start, start + _BLOCK_PAIRS)
            first, second = rows[self.first[part]], rows[self.second[part]]
            scores[part] = np.einsum("ij,ij->i", first, second, dtype=np.float64)
        return scores

    def labelled(self, scores: npt.NDArray[np.float64]) -> LabelledScores:
        """Return the finite ones of ``scores``, with the subjects behind them."""
        mated = self.same & np.isfinite(scores)
        non_mated = ~self.same & np.isfinite(scores)
        both = np.stack([self.subjects[self.first], self.subjects[self.second]], axis=1)
        return LabelledScores(scores[mated], scores[non_mated], both[mated, 0], both[non_mated])


def artefact_figures(
    table: PairTable,
    rows: FloatArray,
    *,
    artefact: str,
    backend: str,
    n_missing: int,
    reference: FloatArray | None = None,
) -> ArtefactFigures:
    """Return the figures of the ``artefact`` that gave ``rows``, (images, d), NaN where none.

    ``n_missing`` counts the images without a face; ``reference`` holds the rows of FP32.

    Raises:
        GateFailedError: No row is usable though faces were found.
        InvalidInputError: Too few pairs are left for mated, non-mated and two folds.
    """
    scores = table.scores(rows)
    n_unusable = int(np.isnan(rows[:, 0]).sum()) - n_missing
    _require_pairs(table, scores, f"{artefact!r}: {n_missing} faces not found", n_unusable)
    labelled = table.labelled(scores)
    scored = np.isfinite(scores)
    accuracy = kfold_accuracy(scores[scored], table.same[scored], table.folds[scored])
    tar = tar_at_fmr(labelled, _TAR_TARGETS)
    return ArtefactFigures(
        artefact=artefact,
        backend=backend,
        n_mated=len(labelled.mated),
        n_non_mated=len(labelled.non_mated),
        n_unusable=n_unusable,
        accuracy=accuracy.mean,
        accuracy_std=accuracy.std,
        accuracy_interval=wilson_interval(accuracy.n_correct, int(scored.sum())),
        accuracy_counting_missing=accuracy.n_correct / len(scores),
        tar=tar,
        eer=equal_error_rate(labelled.mated, labelled.non_mated),
        auc=area_under_roc(labelled.mated, labelled.non_mated),
        mean_mated_score=float(labelled.mated.mean()),
        mean_non_mated_score=float(labelled.non_mated.mean()),
        effective_dimension=_effective_dimension(rows),
        drift=None if reference is None else _drift(table, rows, reference),
        notes=_notes(accuracy, int(scored.sum()), tar),
    )


def _drift(table: PairTable, rows: FloatArray, reference: FloatArray) -> Drift:
    """Return how far ``rows`` and their pair scores are from those of ``reference``.

    Raises:
        GateFailedError: No face has a usable row in both.
    """
    cosines = np.einsum("ij,ij->i", rows, reference, dtype=np.float64)
    cosines = cosines[np.isfinite(cosines)]
    changes = np.abs(table.scores(rows) - table.scores(reference))
    changes = changes[np.isfinite(changes)]
    if not (len(cosines) and len(changes)):
        raise GateFailedError("the artefacts have no usable row in common; export the model again")
    return Drift(
        cosine_mean=float(cosines.mean()),
        cosine_p1=float(np.quantile(cosines, 0.01)),
        cosine_min=float(cosines.min()),
        pair_change_p99=float(np.quantile(changes, 0.99)),
        pair_change_worst=float(changes.max()),
    )


def _require_pairs(
    table: PairTable, scores: npt.NDArray[np.float64], found: str, n_unusable: int
) -> None:
    scored = np.isfinite(scores)
    n_mated, n_non_mated = int(table.same[scored].sum()), int((~table.same[scored]).sum())
    if n_mated and n_non_mated and len(np.unique(table.folds[scored])) > 1:
        return
    message = (
        f"artefact {found}, {n_unusable} without a usable embedding, which leaves {n_mated} mated "
        f"and {n_non_mated} non-mated pairs of {len(scores)}; wanted both, in two folds or more"
    )
    if n_unusable:
        raise GateFailedError(f"{message}; export the model again")
    raise InvalidInputError(f"{message}; check that images and landmarks belong to the pairs")


def _effective_dimension(rows: FloatArray) -> float:
    """Return the participation ratio of the second moments, 1 / mean square score of all rows."""
    usable = rows[np.isfinite(rows[:, 0])].astype(np.float64)
    moments = usable.T @ usable / len(usable)
    return float(1.0 / np.square(moments).sum())


def _notes(accuracy: KfoldAccuracy, n_pairs: int, tar: tuple[TarAtFmr, ...]) -> tuple[str, ...]:
    notes = [f"TAR at FMR {entry.target_fmr:g}: {entry.note}" for entry in tar if entry.note]
    if accuracy.n_correct == n_pairs:
        notes.append(
            f"no error in {n_pairs:,} pairs: the error rate is below {rule_of_three(n_pairs):.2%} "
            "at 95 % confidence, not zero"
        )
    return tuple(notes)

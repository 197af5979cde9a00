"""The gates that an artefact must pass before it is written, and what is measured for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeface.errors import GateFailedError
from edgeface.types import FloatArray
from edgeface_export.parity import Parity

__all__ = ["GateLimits", "QuantiserFigures", "check_gates", "compare_embeddings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateLimits:
    """What is good enough.

    ========================  =======  ==========================================================
    limit                     default  what it bounds
    ========================  =======  ==========================================================
    max_parity_difference     1e-5     any value of a unit embedding, against the checkpoint
    min_cosine_mean           0.95     cosine of INT8 and float embeddings of one crop, mean
    min_cosine_p1             0.92     the same, the worst hundredth of the crops
    max_mean_score_rise       0.05     rise of the mean score of different crops by INT8: a
                                       collapse that INT8 caused
    max_pair_change_p99       0.08     change of the score of a pair by INT8, 99 % of pairs
    max_mean_score            0.90     mean score of different faces: above it the model tells
                                       nobody apart
    ========================  =======  ==========================================================

    The last two are asked of faces only: synthetic pictures lie outside of what a model was
    trained on, where its scores bunch together and move more.
    """

    max_parity_difference: float = 1e-5
    min_cosine_mean: float = 0.95
    min_cosine_p1: float = 0.92
    max_pair_change_p99: float = 0.08
    max_mean_score: float = 0.90
    max_mean_score_rise: float = 0.05


@dataclass(frozen=True, slots=True)
class QuantiserFigures:
    """INT8 against float on the same crops.

    ``mean_score`` is that of different crops in INT8, ``mean_score_rise`` its difference to
    float. ``faces`` tells whether the crops were faces or synthetic pictures.
    """

    cosine_mean: float
    cosine_p1: float
    pair_change_p99: float
    pair_change_worst: float
    mean_score: float
    mean_score_rise: float
    crops: int
    faces: bool


def compare_embeddings(before: FloatArray, after: FloatArray, *, faces: bool) -> QuantiserFigures:
    """Return how the unit rows of ``after`` differ from those of ``before``, crop by crop.

    A row that is not finite counts as cosine -1, so that it can only fail a gate.
    """
    cosines = np.sum(before * after, axis=1, dtype=np.float64)
    cosines = np.where(np.isfinite(cosines), cosines, -1.0)
    clean = np.nan_to_num(after)
    upper = np.triu_indices(len(before), 1)
    scores_before, scores_after = (before @ before.T)[upper], (clean @ clean.T)[upper]
    changes = np.abs(scores_after - scores_before)
    return QuantiserFigures(
        cosine_mean=float(cosines.mean()),
        cosine_p1=float(np.quantile(cosines, 0.01)),
        pair_change_p99=float(np.quantile(changes, 0.99)) if changes.size else 0.0,
        pair_change_worst=float(changes.max()) if changes.size else 0.0,
        mean_score=float(scores_after.mean()) if changes.size else 0.0,
        mean_score_rise=float((scores_after - scores_before).mean()) if changes.size else 0.0,
        crops=len(before),
        faces=faces,
    )


def check_gates(
    parity: Parity, quantiser: QuantiserFigures | None, limits: GateLimits
) -> tuple[str, ...]:
    """Return one sentence for each gate that was passed.

    Raises:
        GateFailedError: One or more gates failed; the message has the figure and limit of each.
    """
    checks = [_at_most("parity to the checkpoint", parity.difference, limits.max_parity_difference)]
    if quantiser is not None:
        checks += [
            _at_least("INT8 cosine, mean", quantiser.cosine_mean, limits.min_cosine_mean),
            _at_least("INT8 cosine, worst hundredth", quantiser.cosine_p1, limits.min_cosine_p1),
            _at_most(
                "rise of the mean score", quantiser.mean_score_rise, limits.max_mean_score_rise
            ),
        ]
    if quantiser is not None and quantiser.faces:
        checks += [
            _at_most(
                "pair-score change, 99 %", quantiser.pair_change_p99, limits.max_pair_change_p99
            ),
            _at_most("mean score of different faces", quantiser.mean_score, limits.max_mean_score),
        ]
    failed = [text for passed, text in checks if not passed]
    if failed:
        raise GateFailedError(
            "the export failed its gates, nothing was written: " + "; ".join(failed)
        )
    return tuple(text for _, text in checks)


def _at_most(what: str, value: float, limit: float) -> tuple[bool, str]:
    return np.isfinite(value) and value <= limit, f"{what} {value:.3g} (at most {limit:g})"


def _at_least(what: str, value: float, limit: float) -> tuple[bool, str]:
    return np.isfinite(value) and value >= limit, f"{what} {value:.4f} (at least {limit:g})"


def figures_of(parity: Parity, quantiser: QuantiserFigures | None) -> Mapping[str, float]:
    """Return the figures by the names they have in the manifest."""
    figures = {
        "parity_max_difference": parity.difference,
        "parity_batch_difference": parity.batch_difference,
        "parity_crops": float(parity.crops),
    }
    if quantiser is not None:
        figures |= {
            "int8_cosine_mean": quantiser.cosine_mean,
            "int8_cosine_p1": quantiser.cosine_p1,
            "int8_pair_change_p99": quantiser.pair_change_p99,
            "int8_pair_change_worst": quantiser.pair_change_worst,
            "int8_mean_score": quantiser.mean_score,
            "int8_mean_score_rise": quantiser.mean_score_rise,
            "int8_crops": float(quantiser.crops),
        }
    return figures

"""The gates that an artefact must pass before it is written, and what is measured for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import GateFailedError
from edgeface.types import FloatArray
from edgeface_export.parity import Parity

__all__ = [
    "GateLimits",
    "GateResult",
    "QuantiserFigures",
    "check_gates",
    "compare_embeddings",
    "figures_of",
    "parity_gate",
    "quantiser_gates",
]

# That of edgeface.types.Template: what is further from length 1 is never compared.
_LENGTH_TOLERANCE = 1e-3


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
class GateResult:
    """One gate: what was measured, the limit, whether it passed, and a sentence that says so."""

    gate: str
    figure: float
    limit: float
    passed: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class QuantiserFigures:
    """INT8 against float on the same crops.

    ``mean_score`` is that of different crops in INT8, ``mean_score_rise`` its difference to
    float. ``unusable`` counts the crops without an embedding in one of the two: NaN, infinite, or
    not of length 1. ``faces`` tells whether the crops were faces or synthetic pictures.
    """

    cosine_mean: float
    cosine_p1: float
    pair_change_p99: float
    pair_change_worst: float
    mean_score: float
    mean_score_rise: float
    unusable: int
    crops: int
    faces: bool


def compare_embeddings(before: FloatArray, after: FloatArray, *, faces: bool) -> QuantiserFigures:
    """Return how the unit rows of ``after`` differ from those of ``before``, crop by crop.

    A crop that has no embedding in one of the two is counted as unusable, which is a gate of its
    own; its cosine counts as -1 and its scores as 0.
    """
    usable = _is_unit(before) & _is_unit(after)
    before, after = (np.where(usable[:, None], rows, 0.0) for rows in (before, after))
    cosines = np.where(usable, np.sum(before * after, axis=1), -1.0)
    upper = np.triu_indices(len(before), 1)
    scores_before, scores_after = ((rows @ rows.T)[upper] for rows in (before, after))
    changes = np.abs(scores_after - scores_before)
    return QuantiserFigures(
        cosine_mean=float(cosines.mean()),
        cosine_p1=float(np.quantile(cosines, 0.01)),
        pair_change_p99=float(np.quantile(changes, 0.99)) if changes.size else 0.0,
        pair_change_worst=float(changes.max()) if changes.size else 0.0,
        mean_score=float(scores_after.mean()) if changes.size else 0.0,
        mean_score_rise=float((scores_after - scores_before).mean()) if changes.size else 0.0,
        unusable=int(np.count_nonzero(~usable)),
        crops=len(before),
        faces=faces,
    )


def _is_unit(rows: FloatArray) -> npt.NDArray[np.bool_]:
    """Return for each row whether it is finite and of length 1, as a template must be."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    return np.asarray(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE)


def check_gates(
    parity: Parity, quantiser: QuantiserFigures | None, limits: GateLimits
) -> tuple[GateResult, ...]:
    """Return the gates, all passed.

    Raises:
        GateFailedError: One or more gates failed; the message has the figure and limit of each.
    """
    results = [parity_gate(parity, limits)]
    results += [] if quantiser is None else quantiser_gates(quantiser, limits)
    failed = [result.sentence for result in results if not result.passed]
    if failed:
        raise GateFailedError(
            "the export failed its gates, nothing was written: " + "; ".join(failed)
        )
    return tuple(results)


def parity_gate(parity: Parity, limits: GateLimits) -> GateResult:
    """Return gate A: whether the graph computes what the checkpoint does."""
    return _at_most("parity to the checkpoint", parity.difference, limits.max_parity_difference)


def quantiser_gates(figures: QuantiserFigures, limits: GateLimits) -> list[GateResult]:
    """Return the gates of the quantiser, passed or not."""
    results = [
        _at_most("crops without an embedding", figures.unusable, 0),
        _at_least("INT8 cosine, mean", figures.cosine_mean, limits.min_cosine_mean),
        _at_least("INT8 cosine, worst hundredth", figures.cosine_p1, limits.min_cosine_p1),
        _at_most("rise of the mean score", figures.mean_score_rise, limits.max_mean_score_rise),
    ]
    if figures.faces:
        results += [
            _at_most(
                "pair-score change, 99 %", figures.pair_change_p99, limits.max_pair_change_p99
            ),
            _at_most("mean score of different faces", figures.mean_score, limits.max_mean_score),
        ]
    return results


def _at_most(gate: str, figure: float, limit: float) -> GateResult:
    passed = bool(np.isfinite(figure) and figure <= limit)
    return GateResult(gate, figure, limit, passed, f"{gate} {figure:.3g} (at most {limit:g})")


def _at_least(gate: str, figure: float, limit: float) -> GateResult:
    passed = bool(np.isfinite(figure) and figure >= limit)
    return GateResult(gate, figure, limit, passed, f"{gate} {figure:.4f} (at least {limit:g})")


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
            "int8_unusable": float(quantiser.unusable),
            "int8_crops": float(quantiser.crops),
        }
    return figures

"""The gates that an artefact must pass before it is written, and what is measured for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import GateFailedError
from edgeface.types import FloatArray
from edgeface_export.gate_limits import GateLimits
from edgeface_export.parity import Parity

__all__ = [
    "GateLimits",
    "GateResult",
    "QuantiserFigures",
    "Spread",
    "at_least",
    "at_most",
    "compare_embeddings",
    "figures_of",
    "measure_spread",
    "parity_gate",
    "quantiser_gates",
    "require_passed",
    "spread_gates",
]

# That of edgeface.types.Template: what is further from length 1 is never compared.
_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate: what was measured, the limit, whether it passed, and a sentence that says so.

    ``bound`` is ``at most`` or ``at least``, what ``limit`` asks of ``figure``. ``advice`` says
    what a failure means and what to do.
    """

    gate: str
    figure: float
    limit: float
    passed: bool
    sentence: str
    bound: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """How far apart the embeddings of different crops are.

    ``mean_score`` is the mean score of two crops; ``effective_dimension`` the participation ratio
    of the rows, 1 / the mean square of all scores: 1 when all crops give one embedding, at most
    the number of crops and of values.
    """

    mean_score: float
    effective_dimension: float

    def figures(self) -> dict[str, float]:
        """Return the figures by the names they have in the manifest."""
        return {
            "fp32_mean_score": self.mean_score,
            "fp32_effective_dimension": self.effective_dimension,
        }


@dataclass(frozen=True, slots=True)
class QuantiserFigures:
    """INT8 against float on the same crops.

    ``mean_score`` is that of different crops in INT8, ``mean_score_rise`` its difference to
    float; ``effective_dimension`` is as in :class:`Spread`, of INT8. ``unusable`` counts the crops
    without an embedding in one of the two: NaN, infinite, or not of length 1. ``faces`` tells
    whether the crops were faces, of people or synthetic, or patterns.
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
    effective_dimension: float

    def named(self) -> dict[str, float]:
        """Return the figures by the names they have in the manifest."""
        return {
            "int8_cosine_mean": self.cosine_mean,
            "int8_cosine_p1": self.cosine_p1,
            "int8_pair_change_p99": self.pair_change_p99,
            "int8_pair_change_worst": self.pair_change_worst,
            "int8_mean_score": self.mean_score,
            "int8_mean_score_rise": self.mean_score_rise,
            "int8_effective_dimension": self.effective_dimension,
            "int8_unusable": float(self.unusable),
            "int8_crops": float(self.crops),
        }


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
        effective_dimension=_effective_dimension(after[usable]),
    )


def measure_spread(rows: FloatArray) -> Spread:
    """Return the spread of the embeddings ``rows``; those that are not of length 1 do not count."""
    usable = rows[_is_unit(rows)]
    scores = (usable @ usable.T)[np.triu_indices(len(usable), 1)]
    return Spread(float(scores.mean()) if scores.size else 0.0, _effective_dimension(usable))


def _effective_dimension(rows: FloatArray) -> float:
    if not len(rows):
        return 0.0
    values = rows.astype(np.float64)
    return float(1.0 / np.square(values @ values.T).mean())


def _is_unit(rows: FloatArray) -> npt.NDArray[np.bool_]:
    """Return for each row whether it is finite and of length 1, as a template must be."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    return np.asarray(np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE)


def require_passed(results: Sequence[GateResult], tried: str = "") -> None:
    """Return if all of ``results`` passed.

    Raises:
        GateFailedError: One or more failed; the message has the figure and limit of each, what to
            do, and the sentence ``tried``.
    """
    failed = [result for result in results if not result.passed]
    if not failed:
        return
    said = "; ".join(result.sentence for result in failed)
    advice = dict.fromkeys(result.advice for result in failed if result.advice)
    more = [*advice, tried] if tried else [*advice]
    raise GateFailedError(
        ". ".join([f"the export failed its gates, nothing was written: {said}", *more])
    )


def parity_gate(parity: Parity, limits: GateLimits) -> GateResult:
    """Return gate A: whether the graph computes what the checkpoint does."""
    return at_most("parity to the checkpoint", parity.difference, limits.max_parity_difference)


def spread_gates(spread: Spread, limits: GateLimits) -> list[GateResult]:
    """Return the gates on a collapse of the float model, measured on faces."""
    advice = "The model gives nearly one embedding for every face: look at how it was trained"
    return [
        at_most(
            "mean score of different faces, float", spread.mean_score, limits.max_mean_score, advice
        ),
        at_least(
            "effective dimension, float",
            spread.effective_dimension,
            limits.min_effective_dimension,
            advice,
        ),
    ]


def quantiser_gates(figures: QuantiserFigures, limits: GateLimits) -> list[GateResult]:
    """Return the gates of the quantiser, passed or not."""
    results = [
        at_most("crops without an embedding", figures.unusable, 0),
        at_least("INT8 cosine, mean", figures.cosine_mean, limits.min_cosine_mean),
        at_least("INT8 cosine, worst hundredth", figures.cosine_p1, limits.min_cosine_p1),
        at_most("rise of the mean score", figures.mean_score_rise, limits.max_mean_score_rise),
    ]
    if figures.faces:
        results += [
            at_most("pair-score change, 99 %", figures.pair_change_p99, limits.max_pair_change_p99),
            at_most("mean score of different faces", figures.mean_score, limits.max_mean_score),
            at_least(
                "effective dimension", figures.effective_dimension, limits.min_effective_dimension
            ),
        ]
    return results


def at_most(gate: str, figure: float, limit: float, advice: str = "") -> GateResult:
    """Return the gate that ``figure`` passes when it is finite and at most ``limit``."""
    passed = bool(np.isfinite(figure) and figure <= limit)
    sentence = f"{gate} {figure:.3g} (at most {limit:g})"
    return GateResult(gate, figure, limit, passed, sentence, "at most", advice)


def at_least(gate: str, figure: float, limit: float, advice: str = "") -> GateResult:
    """Return the gate that ``figure`` passes when it is finite and at least ``limit``."""
    passed = bool(np.isfinite(figure) and figure >= limit)
    sentence = f"{gate} {figure:.4f} (at least {limit:g})"
    return GateResult(gate, figure, limit, passed, sentence, "at least", advice)


def figures_of(parity: Parity) -> dict[str, float]:
    """Return the figures by the names they have in the manifest."""
    return {
        "parity_max_difference": parity.difference,
        "parity_batch_difference": parity.batch_difference,
        "parity_crops": float(parity.crops),
    }

"""What BatchNorm's running statistics say: were they kept, and whose pictures fit them?

The distance is that of :mod:`edgeface_export.statistics_gate`: the Kullback-Leibler divergence
of two Gaussians per channel, in nats, here with every crop apart so that crops can be resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from edgeface.types import FloatArray
from edgeface_export.architectures.network import BatchNorm, Network

__all__ = ["NormFit", "NormState", "fit_of", "norm_state"]

_SMALLEST_GAMMA = 1e-3
_LARGEST_DISTANCE = 50.0
_DRAWS = 200
_Array = npt.NDArray[np.float64]


class NormState(str, Enum):
    """Whether BatchNorm's running statistics can be those of a training.

    ``KEPT``: they can. ``NEVER_TRAINED``: every mean is 0 and every variance 1, as they begin;
    the network never ran in training mode, or its statistics were reset. ``NONE``: no BatchNorm
    follows a convolution.
    """

    KEPT = "kept"
    NEVER_TRAINED = "never trained"
    NONE = "none"


@dataclass(frozen=True, slots=True, eq=False)
class NormFit:
    """Distances to the running statistics, in nats: of the first layer, and of all on average.

    ``draws`` are the mean of the two for resamples of crops, the same for every candidate.
    """

    first: float
    all_layers: float
    draws: _Array

    @property
    def distance(self) -> float:
        """Mean of ``first``, where colours and scale show, and ``all_layers``, where faces do."""
        return (self.first + self.all_layers) / 2


def norm_state(network: Network, tensors: Mapping[str, FloatArray] | None = None) -> NormState:
    """Return what the running statistics of ``network`` can be.

    ``tensors`` are the checkpoint's: a counter of batches that stands at 0 tells as well.
    """
    norms = [layer for layer in network.layers if isinstance(layer, BatchNorm)]
    if not norms:
        return NormState.NONE
    untouched = all((norm.mean == 0).all() and (norm.variance == 1).all() for norm in norms)
    counters = [
        array for name, array in (tensors or {}).items() if name.endswith("num_batches_tracked")
    ]
    uncounted = bool(counters) and all((array == 0).all() for array in counters)
    started = any((norm.mean != 0).any() for norm in norms)
    if untouched or (uncounted and not started):
        return NormState.NEVER_TRAINED
    return NormState.KEPT


def fit_of(norms: Sequence[BatchNorm], moments: Sequence[_Array], *, seed: int = 0) -> NormFit:
    """Return how crops with (n, 2, channels) ``moments`` fit each of ``norms``."""
    crops = len(moments[0])
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(crops, np.full(crops, 1 / crops), _DRAWS) / crops
    rows = np.concatenate([np.full((1, crops), 1 / crops), weights])
    distances = np.stack(
        [_distance(norm, part, rows) for norm, part in zip(norms, moments, strict=True)]
    )
    first, every = distances[0], distances.mean(axis=0)
    return NormFit(float(first[0]), float(every[0]), (first[1:] + every[1:]) / 2)


def _distance(norm: BatchNorm, moments: _Array, weights: _Array) -> _Array:
    """Return for each row of ``weights`` over crops the distance, mean over the channels."""
    gamma = np.abs(norm.gamma.astype(np.float64))
    known = gamma > _SMALLEST_GAMMA * gamma.max(initial=1e-30)
    if not known.any():
        return np.zeros(len(weights))
    with np.errstate(over="ignore", invalid="ignore"):
        mean, square = weights @ moments[:, 0, known], weights @ moments[:, 1, known]
        shift = (mean - norm.beta[known]) / gamma[known]
        ratio = np.maximum((square - np.square(mean)) / np.square(gamma[known]), 1e-6)
        nats = 0.5 * (ratio + np.square(shift) - 1.0 - np.log(ratio))
    # Written so that NaN counts as far.
    return np.asarray(np.where(nats <= _LARGEST_DISTANCE, nats, _LARGEST_DISTANCE).mean(axis=1))

"""Rounds the weights of a layer so that its output changes least, not each weight by itself.

What rounding one weight does to the output can be undone in part by the weights not rounded yet,
because inputs are correlated (GPTQ: Frantar et al., ICLR 2023; OBQ: Frantar and Alistarh, NeurIPS
2022). It needs the covariance of the layer's inputs and nothing else.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["fit_weight"]

_Array: TypeAlias = npt.NDArray[np.float64]

_LARGEST = 127
# Added to the diagonal, as a share of its mean: keeps the inverse finite where inputs are
# dependent or few. 0.01 is the paper's.
_DAMPING = 0.01


def fit_weight(
    weight: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], covariance: _Array
) -> npt.NDArray[np.int8]:
    """Return INT8 steps of ``scales`` for ``weight``, (out, in / groups, height, width).

    ``covariance`` is that of the patches that the weights of each group read, (groups, k, k),
    with k in the order of the weights.
    """
    groups, size, _ = covariance.shape
    step = scales.astype(np.float64).reshape(groups, -1)
    left = weight.astype(np.float64).reshape(groups, -1, size)
    # The input with the most power first, while there are weights left to make up for it.
    order = np.argsort(-np.diagonal(covariance, axis1=1, axis2=2), axis=1)
    left = np.take_along_axis(left, order[:, None], axis=2)
    upper = _inverse_factor(_permuted(covariance, order))
    steps = np.empty_like(left)
    for k in range(size):
        steps[:, :, k] = np.clip(np.rint(left[:, :, k] / step), -_LARGEST, _LARGEST)
        error = (left[:, :, k] - steps[:, :, k] * step) / upper[:, k, k, None]
        left[:, :, k + 1 :] -= error[:, :, None] * upper[:, None, k, k + 1 :]
    back = np.argsort(order, axis=1)
    steps = np.take_along_axis(steps, back[:, None], axis=2)
    return np.asarray(steps.reshape(weight.shape), np.int8)


def _permuted(covariance: _Array, order: npt.NDArray[np.int64]) -> _Array:
    rows = np.take_along_axis(covariance, order[:, :, None], axis=1)
    return np.take_along_axis(rows, order[:, None], axis=2)


def _inverse_factor(covariance: _Array) -> _Array:
    """Return the upper factor U of each damped inverse, so that it is U'U."""
    size = covariance.shape[1]
    power = np.trace(covariance, axis1=1, axis2=2) / size
    damping = np.maximum(power * _DAMPING, np.finfo(np.float32).tiny)
    damped = covariance + damping[:, None, None] * np.eye(size)
    return np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)

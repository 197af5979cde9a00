"""Gate C: a built engine against the very graph it was built from, run by ONNX Runtime.

It finds what a compiler can get wrong: a fused layer that rounds elsewhere, a tactic that is broken
on this GPU, float16 that overflows. How good the graph itself is was settled at its export.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeface.errors import GateFailedError
from edgeface.types import FloatArray, ImageArray, Size

__all__ = ["Agreement", "AgreementLimits", "check_agreement", "measure_agreement", "probe_crops"]

# Enough for the worst of them to mean something, few enough for a second of reference on a CPU.
PROBE_CROPS = 32
_SINGLES = 4
_COARSE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementLimits:
    """How alike engine and graph must be.

    An engine rounds elsewhere than ONNX Runtime and computes the rest in float16, so embeddings
    are alike, not equal: cosine 0.999 in the mean and 0.995 for the worst crop are what INT8
    kernels of one graph differ by at most.
    """

    min_cosine_mean: float = 0.999
    min_cosine_worst: float = 0.995


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosine of the embeddings of engine and graph, crop by crop: mean and worst."""

    cosine_mean: float
    cosine_worst: float
    crops: int


def probe_crops(count: int, size: Size, *, seed: int = 0) -> ImageArray:
    """Return (count, height, width, 3) uint8 pictures: coarse colours with fine noise, no faces."""
    generator = np.random.default_rng(seed)
    rows, columns = -(-size.height_px // _COARSE), -(-size.width_px // _COARSE)
    coarse = generator.integers(20, 236, (count, rows, columns, 3))
    picture = coarse.repeat(_COARSE, 1).repeat(_COARSE, 2)
    picture = picture[:, : size.height_px, : size.width_px]
    fine = generator.integers(-20, 21, picture.shape)
    return np.ascontiguousarray((picture + fine).astype(np.uint8))


def measure_agreement(
    engine: Callable[[ImageArray], FloatArray],
    reference: Callable[[ImageArray], FloatArray],
    crops: ImageArray,
) -> Agreement:
    """Return how alike the rows of both are; the first crops go alone, the rest in one batch.

    A row that is not finite counts as cosine -1, so that it can only fail.
    """
    singles = [engine(crops[k : k + 1]) for k in range(min(_SINGLES, len(crops)))]
    ours = np.concatenate([*singles, engine(crops[_SINGLES:])]).astype(np.float64)
    theirs = reference(crops).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        cosines = (ours * theirs).sum(1) / lengths
    cosines = np.where(np.isfinite(cosines), cosines, -1.0)
    return Agreement(float(cosines.mean()), float(cosines.min()), len(crops))


def check_agreement(found: Agreement, limits: AgreementLimits, *, where: str) -> None:
    """Return if ``found`` is within ``limits``.

    Raises:
        GateFailedError: It is not; the message has figures and limits.
    """
    if (
        found.cosine_mean >= limits.min_cosine_mean
        and found.cosine_worst >= limits.min_cosine_worst
    ):
        return
    raise GateFailedError(
        f"{where}: the engine that TensorRT built does not compute what its graph says: cosine "
        f"mean {found.cosine_mean:.5f} (at least {limits.min_cosine_mean:g}), worst "
        f"{found.cosine_worst:.5f} (at least {limits.min_cosine_worst:g}); it is not used"
    )

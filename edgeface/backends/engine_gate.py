"""Gate C: a built engine against the very graph it was built from, run by ONNX Runtime.

It finds what a compiler can get wrong: a fused layer that rounds elsewhere, a tactic that is broken
on this GPU, float16 that overflows. How good the graph itself is was settled at its export.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeface.errors import BackendError, GateFailedError, MissingDependencyError
from edgeface.types import FloatArray, ImageArray, Size

__all__ = [
    "PROBE_CROPS",
    "Agreement",
    "AgreementLimits",
    "Rows",
    "check_agreement",
    "measure_agreement",
    "probe_crops",
    "reference_rows",
]

Rows = Callable[[ImageArray], FloatArray]
"""Gives one embedding for each of (n, height, width, 3) uint8 crops."""

# Enough for the worst of them to mean something, few enough for a second of reference on a CPU.
PROBE_CROPS = 32
_SINGLES = 4
_COARSE = 8
_LOG_ERROR = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementLimits:
    """How alike engine and graph must be; an engine passes on either of two grounds.

    ==================  =======  ===================================================================
    limit               default  what it bounds
    ==================  =======  ===================================================================
    min_cosine_mean     0.999    cosine of the embeddings of engine and graph, mean
    min_cosine_worst    0.995    the same, the worst crop
    max_loss_ratio      1.5      what the engine loses against the float32 graph, as a multiple of
                                 what its own INT8 graph loses: 1 - cosine, mean
    max_worst_ratio     2        the same, the worst crop
    ==================  =======  ===================================================================

    The first two are one ground: nearly the same embeddings. The last two are the other, for INT8
    only: embeddings as close to the float32 model as the graph's. They differ because a value
    between two INT8 steps falls to either by the last bit before it, and every step taken
    otherwise moves the next layer. ONNX Runtime with its optimisations on agrees with itself with
    them off only to a mean of 0.96 to 0.99 on four trained INT8 nets, and loses 0.97 to 1.23 times
    as much in the mean, 0.9 to 1.3 times for the worst crop; float16 for the rest does the same.
    """

    min_cosine_mean: float = 0.999
    min_cosine_worst: float = 0.995
    max_loss_ratio: float = 1.5
    max_worst_ratio: float = 2.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosine of the embeddings of engine and graph, crop by crop: mean and worst.

    ``loss_ratio`` and ``worst_ratio`` are as in :class:`AgreementLimits`, infinite where the graph
    is not INT8.
    """

    cosine_mean: float
    cosine_worst: float
    crops: int
    loss_ratio: float = float("inf")
    worst_ratio: float = float("inf")

    def within(self, limits: AgreementLimits) -> bool:
        """Return whether an engine with these figures may be used."""
        same = (
            self.cosine_mean >= limits.min_cosine_mean
            and self.cosine_worst >= limits.min_cosine_worst
        )
        as_good = (
            self.loss_ratio <= limits.max_loss_ratio and self.worst_ratio <= limits.max_worst_ratio
        )
        return same or as_good


def probe_crops(count: int, size: Size, *, seed: int = 0) -> ImageArray:
    """Return (count, height, width, 3) uint8 pictures: coarse colours with fine noise, no faces."""
    generator = np.random.default_rng(seed)
    rows, columns = -(-size.height_px // _COARSE), -(-size.width_px // _COARSE)
    coarse = generator.integers(20, 236, (count, rows, columns, 3))
    picture = coarse.repeat(_COARSE, 1).repeat(_COARSE, 2)
    picture = picture[:, : size.height_px, : size.width_px]
    fine = generator.integers(-20, 21, picture.shape)
    return np.ascontiguousarray((picture + fine).astype(np.uint8))


def reference_rows(content: bytes, *, where: str) -> Rows:
    """Return what runs the ONNX ``content`` node by node on the CPU, with nothing fused.

    Fused INT8 kernels round elsewhere than the graph says, and some are wrong for float16.

    Raises:
        BackendError: ONNX Runtime cannot load it; ``where`` names it.
        MissingDependencyError: ONNX Runtime is not installed; an engine cannot be verified then.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingDependencyError("onnxruntime", extra="cpu") from exc
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERROR
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as exc:
        said = " ".join(str(exc).split())
        raise BackendError(f"{where}: ONNX Runtime cannot load it: {said}") from exc
    name = session.get_inputs()[0].name

    def rows(crops: ImageArray) -> FloatArray:
        return np.asarray(session.run(None, {name: crops})[0], np.float32)

    return rows


def measure_agreement(
    engine: Rows, reference: Rows, crops: ImageArray, *, anchor: Rows | None = None
) -> Agreement:
    """Return how alike the rows of both are; the first crops go alone, the rest in one batch.

    ``anchor`` is the float32 graph where ``reference`` is an INT8 one. A row that is not finite
    counts as cosine -1, so that it can only fail.
    """
    singles = [engine(crops[k : k + 1]) for k in range(min(_SINGLES, len(crops)))]
    ours = np.concatenate([*singles, engine(crops[_SINGLES:])])
    theirs = reference(crops)
    cosines = _cosines(ours, theirs)
    mean, worst = float(cosines.mean()), float(cosines.min())
    if anchor is None:
        return Agreement(mean, worst, len(crops))
    exact = anchor(crops)
    loss, allowed = 1 - _cosines(ours, exact), 1 - _cosines(theirs, exact)
    # A graph that loses nothing leaves nothing to be a multiple of.
    least = np.finfo(np.float32).eps
    loss_ratio = float(loss.mean() / max(allowed.mean(), least))
    return Agreement(
        mean, worst, len(crops), loss_ratio, float(loss.max() / max(allowed.max(), least))
    )


def check_agreement(found: Agreement, limits: AgreementLimits, *, where: str) -> None:
    """Return if ``found`` is within ``limits``.

    Raises:
        GateFailedError: It is not; the message has figures and limits.
    """
    if found.within(limits):
        return
    against = (
        f"; it loses {found.loss_ratio:.2f} times what the graph loses against float32 (at most "
        f"{limits.max_loss_ratio:g})"
        if np.isfinite(found.loss_ratio)
        else ""
    )
    raise GateFailedError(
        f"{where}: the engine that TensorRT built does not compute what its graph says: cosine "
        f"mean {found.cosine_mean:.5f} (at least {limits.min_cosine_mean:g}), worst "
        f"{found.cosine_worst:.5f} (at least {limits.min_cosine_worst:g}){against}; it is not used"
    )


def _cosines(left: FloatArray, right: FloatArray) -> npt.NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return np.where(np.isfinite(cosines), cosines, -1.0)

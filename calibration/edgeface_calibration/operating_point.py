"""Operating points: thresholds fitted to a target false match rate, with the evidence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.bundle import MANIFEST_NAME, Bundle, Manifest, manifest_to_json
from edgeface.errors import BundleError, InvalidInputError, OperatingPointError
from edgeface.types import FloatArray, OperatingPoint
from edgeface_calibration.error_rates import (
    Scores,
    checked_scores,
    first_refused_rank,
    next_score_above,
    resolvable,
    unresolved_reason,
)

__all__ = [
    "DEFAULT_TARGETS",
    "NonMatedTail",
    "cross_subject_scores",
    "fit_operating_points",
    "write_operating_points",
]

DEFAULT_TARGETS = (1e-2, 1e-3, 1e-4)
# Below this no rate that is of use in practice can be resolved.
_MIN_NON_MATED = 100
_BLOCK_ROWS = 512


@dataclass(frozen=True, slots=True, eq=False)
class NonMatedTail:
    """The highest of ``n_total`` non-mated scores, which are all that a low FMR depends on.

    ``scores`` is (k,) float64, falling. Targets up to ``(k - 1) / n_total`` can be fitted.
    """

    scores: npt.NDArray[np.float64]
    n_total: int

    @classmethod
    def of(cls, non_mated: Scores) -> NonMatedTail:
        """Return the tail that holds all of ``non_mated``."""
        ranked = np.sort(checked_scores("non-mated scores", non_mated))[::-1]
        return cls(ranked, len(ranked))


def cross_subject_scores(
    embeddings: FloatArray,
    subjects: Sequence[str],
    *,
    largest_target: float = max(DEFAULT_TARGETS),
    block_rows: int = _BLOCK_ROWS,
) -> NonMatedTail:
    """Return the scores of every pair of rows that belong to different subjects.

    Only the scores that targets up to ``largest_target`` depend on are kept: memory is that of
    ``block_rows`` rows of scores and of twice the tail, however many rows there are.

    Args:
        embeddings: (n, d) float32 rows of unit length.
        subjects: The subject of each row.
        largest_target: The highest FMR that will be fitted.
        block_rows: Rows that are compared at once.

    Raises:
        InvalidInputError: The lengths differ, or a row is not finite.
        OperatingPointError: There are not two subjects.
    """
    if len(embeddings) != len(subjects):
        raise InvalidInputError(f"got {len(embeddings)} rows for {len(subjects)} subjects")
    if not np.isfinite(embeddings).all():
        raise InvalidInputError("the rows hold NaN or infinity; leave such faces out first")
    labels = np.unique(np.asarray(subjects), return_inverse=True)[1]
    counts = np.bincount(labels)
    n_total = (len(labels) ** 2 - int((counts.astype(np.int64) ** 2).sum())) // 2
    if n_total == 0:
        raise OperatingPointError("non-mated comparisons need images of at least two subjects")
    n_kept = min(n_total, int(largest_target * n_total) + 2)
    tail = np.empty(0, np.float32)
    for block in _blocks(embeddings, labels, block_rows):
        tail = np.concatenate([tail, block])
        if len(tail) > 2 * n_kept:
            tail = np.partition(tail, len(tail) - n_kept)[-n_kept:]
    return NonMatedTail(np.sort(tail)[::-1][:n_kept].astype(np.float64), n_total)


def _blocks(
    embeddings: FloatArray, labels: npt.NDArray[np.intp], block_rows: int
) -> Iterator[FloatArray]:
    """Give the scores of the pairs above the diagonal whose labels differ, block by block."""
    for start in range(0, len(labels), block_rows):
        rows = slice(start, start + block_rows)
        scores = embeddings[rows] @ embeddings[start:].T
        wanted = np.triu(labels[rows, None] != labels[None, start:], k=1)
        yield scores[wanted]


def fit_operating_points(
    mated: Scores | None,
    non_mated: Scores | NonMatedTail,
    artefact: str,
    protocol: str,
    targets: Sequence[float] = DEFAULT_TARGETS,
) -> tuple[OperatingPoint, ...]:
    """Return one point for each of ``targets`` that the data can resolve, in that order.

    At each returned threshold the FMR measured on ``non_mated`` is at most the target. A target
    is resolved by at least ``1 / target`` non-mated comparisons.

    Args:
        mated: (m,) scores of mated comparisons, or None: the points then have no FNMR.
        non_mated: (n,) scores of non-mated comparisons, or their tail.
        artefact: Name of the artefact that gave the scores.
        protocol: Names what was compared.
        targets: False match rates to fit.

    Raises:
        OperatingPointError: There are under 100 non-mated comparisons, none of the targets can be
            resolved, or non-mated comparisons score 1, so that no threshold refuses them.
        InvalidInputError: The scores or a target are unusable.
    """
    tail = non_mated if isinstance(non_mated, NonMatedTail) else NonMatedTail.of(non_mated)
    if tail.n_total < _MIN_NON_MATED:
        raise OperatingPointError(
            f"an operating point needs at least {_MIN_NON_MATED} non-mated comparisons, got "
            f"{tail.n_total}; give images of more people"
        )
    fitted = [target for target in targets if resolvable(target, tail.n_total)]
    if not fitted:
        easiest = max(targets, default=DEFAULT_TARGETS[0])
        raise OperatingPointError(unresolved_reason(easiest, tail.n_total))
    scores = None if mated is None else checked_scores("mated scores", mated)
    return tuple(_fit(scores, tail, target, artefact, protocol) for target in fitted)


def _fit(
    mated: npt.NDArray[np.float64] | None,
    tail: NonMatedTail,
    target: float,
    artefact: str,
    protocol: str,
) -> OperatingPoint:
    rank = first_refused_rank(target, tail.n_total)
    if rank >= len(tail.scores):
        raise InvalidInputError(
            f"FMR {target:g} needs the {rank + 1} highest non-mated scores, got "
            f"{len(tail.scores)}; raise largest_target"
        )
    threshold = next_score_above(float(tail.scores[rank]))
    if threshold > 1.0:
        raise OperatingPointError(
            f"artefact {artefact!r} has no threshold for FMR {target:g}: different people score 1, "
            "so it cannot tell them apart; check the alignment, or export the model again"
        )
    return OperatingPoint(
        threshold=max(-1.0, threshold),
        target_fmr=target,
        artefact=artefact,
        protocol=protocol,
        fnmr=None if mated is None else float((mated < threshold).mean()),
        n_mated=0 if mated is None else len(mated),
        n_non_mated=tail.n_total,
    )


def write_operating_points(
    bundle_path: str | os.PathLike[str], points: Sequence[OperatingPoint]
) -> Manifest:
    """Write ``points`` into the bundle and return its new manifest.

    They replace the points of the artefacts that they name, all but those that are stricter in
    both target and threshold: what the data could not resolve stays as it was, marked provisional
    where it is. Points for searches and points for single comparisons do not replace each other.
    Other artefacts keep their points, and the weights and the model id stay as they are. After a
    power cut the manifest is the old one or the new one, whole.

    Raises:
        BundleError: The bundle cannot be used or written, or lacks an artefact that is named.
    """
    bundle = Bundle.open(bundle_path)
    for point in points:
        bundle.artefact(point.artefact)
    kept = [old for old in bundle.manifest.operating_points if _stays(old, points)]
    manifest = replace(bundle.manifest, operating_points=(*kept, *points))
    try:
        _replace_file(bundle.path / MANIFEST_NAME, manifest_to_json(manifest))
    except OSError as exc:
        raise BundleError(
            f"{bundle.path / MANIFEST_NAME} cannot be written: {exc}; nothing was changed"
        ) from exc
    return manifest


def _stays(old: OperatingPoint, points: Sequence[OperatingPoint]) -> bool:
    return all(
        old.artefact != new.artefact
        or (old.target_fpir is None) != (new.target_fpir is None)
        or (old.target_fmr < new.target_fmr and old.threshold > new.threshold)
        for new in points
    )


def _replace_file(path: Path, text: str) -> None:
    mode = path.stat().st_mode & 0o777
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last; Windows has no such call and needs none."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

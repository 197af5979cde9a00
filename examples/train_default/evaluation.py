"""Same or different person, on labelled pairs of people whom the student has never seen.

Usage: python -m examples.train_default.evaluation OUT.npz IMAGES --pairs PAIRS --folds 4,5

writes the aligned crops once; :func:`judge` then takes milliseconds, so training can ask often.
The figures of record are those of ``edgeface verify``; these here are the same in small.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from examples.train_default.photos import MARGIN_PX, wide_crops

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """Crops (n, 112, 112, 3) uint8 RGB, and pairs (m, 4): two crops, 1 for mated, the fold."""

    crops: npt.NDArray[np.uint8]
    pairs: npt.NDArray[np.int64]


def load(path: Path) -> Pairs:
    """Return what this module's ``main`` wrote."""
    with np.load(path) as stored:
        return Pairs(stored["crops"], stored["pairs"])


def judge(embeddings: Floats, pairs: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return accuracy, each fold judged by the other folds' best threshold, and TAR at FMR 1e-2.

    ``embeddings`` are rows of length 1, one for each crop.
    """
    scores = (embeddings[pairs[:, 0]] * embeddings[pairs[:, 1]]).sum(axis=1)
    mated, folds = pairs[:, 2] == 1, pairs[:, 3]
    rights = 0
    for fold in np.unique(folds):
        test = folds == fold
        grid = np.unique(scores[~test])
        known = [((scores[~test] >= t) == mated[~test]).mean() for t in grid]
        rights += int(((scores[test] >= grid[int(np.argmax(known))]) == mated[test]).sum())
    limit = np.sort(scores[~mated])[-max(1, int(0.01 * (~mated).sum()))]
    return rights / len(pairs), float((scores[mated] > limit).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--folds", default="4,5")
    args = parser.parse_args()

    from edgeface_calibration.pairs import read_pairs

    protocol = read_pairs(args.pairs, args.images, tuple(int(f) for f in args.folds.split(",")))
    names = list(protocol.image_names)
    kept, wide = wide_crops(args.images / name for name in names)
    number = {str(path.relative_to(args.images)): k for k, path in enumerate(kept)}
    rows = [
        (number[pair.image_a], number[pair.image_b], int(pair.same), fold)
        for pair, fold in zip(protocol.pairs, protocol.folds, strict=True)
        if pair.image_a in number and pair.image_b in number
    ]
    inner = wide[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    np.savez(args.out, crops=inner, pairs=np.array(rows))
    print(f"{len(rows)} of {len(protocol.pairs)} pairs, {len(kept)} of {len(names)} faces")


if __name__ == "__main__":
    main()

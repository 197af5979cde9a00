"""Photographs to wide aligned crops, by the runtime's own detection and alignment.

Usage: python -m examples.train_default.photos OUT.npz FOLDER... [--pairs PAIRS --leave-out FOLDS]

A wide crop is the 112x112 alignment with 24 px more on every side: room to turn, shift and scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

CROP_PX = 112
MARGIN_PX = 24
WIDE_PX = CROP_PX + 2 * MARGIN_PX

Pictures = npt.NDArray[np.uint8]


def people_of_folds(pairs_file: Path, folds: Sequence[int]) -> set[str]:
    """Return the names in these folds of an LFW pairs file."""
    lines = pairs_file.read_text(encoding="utf-8").splitlines()
    half = int(lines[0].split()[1])
    rows = [lines[1 + (f - 1) * 2 * half : 1 + f * 2 * half] for f in folds]
    return {word for fold in rows for row in fold for word in row.split("\t") if not word.isdigit()}


def wide_crops(paths: Iterable[Path]) -> tuple[list[Path], Pictures]:
    """Return the photos with a face, and its wide crop: (n, 160, 160, 3) uint8 RGB."""
    import cv2

    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
    from edgeface_calibration.crops import DetectorCrops

    kept: list[Path] = []
    crops: list[npt.NDArray[np.uint8]] = []
    with closing(AutoRangeDetector()) as detector, closing(MediaPipeLandmarkFinder()) as finder:
        source = DetectorCrops(detector, finder, "arcface-112x112")
        for number, path in enumerate(paths):
            face = source.crop(path)
            if face is not None:
                matrix = np.array(face.frame_to_crop, np.float64)
                matrix[:, 2] += MARGIN_PX
                image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
                crops.append(cv2.warpAffine(image, matrix, (WIDE_PX, WIDE_PX)))
                kept.append(path)
            if number % 500 == 499:
                print(f"{number + 1} photos, {len(kept)} faces", flush=True)
    return kept, np.stack(crops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pairs", type=Path, help="LFW pairs file that --leave-out refers to")
    parser.add_argument("--leave-out", default="", help="folds whose people stay out, such as 4,5")
    args = parser.parse_args()
    left_out: set[str] = set()
    if args.leave_out:
        left_out = people_of_folds(args.pairs, [int(f) for f in args.leave_out.split(",")])
    paths = sorted(p for folder in args.folders for p in folder.rglob("*.jpg"))
    kept, crops = wide_crops(p for p in paths if p.parent.name not in left_out)
    people = [path.parent.name for path in kept]
    np.savez(args.out, crops=crops, people=np.array(people))
    print(f"{len(kept)} faces of {len(set(people))} people, {len(left_out)} people left out")


if __name__ == "__main__":
    main()

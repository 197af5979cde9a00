"""A folder of drawn people: pictures with a pattern for each person, and their landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeface.alignment import alignment_template

_SIDE_PX = 160
_SHIFT_PX = 24


def draw_people(
    folder: Path, *, people: int, images: int, noise: float = 25.0, seed: int = 0
) -> Path:
    """Write ``folder/NAME/NAME_0001.jpg`` … and return the file of their landmarks beside it.

    Every person is a pattern of coarse coloured squares; every image adds noise, so that a random
    projection tells the people apart, but not perfectly.
    """
    import cv2

    rng = np.random.default_rng(seed)
    points_px = alignment_template("arcface-112x112") + _SHIFT_PX
    numbers = "\t".join(f"{value:.4f}" for value in points_px.ravel())
    lines = []
    for person in range(people):
        name = f"Person_{person:03d}"
        (folder / name).mkdir(parents=True)
        pattern = rng.integers(0, 256, (10, 10, 3)).astype(np.float64)
        for number in range(1, images + 1):
            big = np.kron(pattern, np.ones((_SIDE_PX // 10, _SIDE_PX // 10, 1)))
            picture = big + rng.normal(0, noise, big.shape) + rng.normal(0, noise)
            file = f"{name}/{name}_{number:04d}.jpg"
            cv2.imwrite(str(folder / file), picture.clip(0, 255).astype(np.uint8))
            lines.append(f"{file}\t{numbers}")
    landmarks = folder.parent / f"{folder.name}-landmarks.txt"
    landmarks.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return landmarks

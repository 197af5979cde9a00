"""Teacher-labelled pictures in shards: made once, seen several times by the student.

Usage: python -m examples.train_default.pool FACES.npz TEACHER.edgeface FOLDER --shards 0-39

Each shard is made from its own number as the seed, so it is the same wherever it is made, and
an interrupted run goes on with the shards that are missing. A label is the direction of the sum of
the teacher's embeddings of the picture and of its mirror image, so it holds for both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from examples.train_default.augment import Strength, make_picture

SHARD_PICTURES = 8192
BATCH = 32


def make_shard(
    faces: npt.NDArray[np.uint8], number: int, teacher: Path, folder: Path, backend: str
) -> None:
    """Write shard ``number``: pictures (n, 112, 112, 3) uint8, labels (n, d) float16."""
    import cv2

    from edgeface.backends import open_backend
    from edgeface.bundle import Bundle

    cv2.setNumThreads(1)
    rng = np.random.default_rng([20261121, number])
    engine = open_backend(Bundle.open(teacher), backend=backend, threads=1)
    pictures = np.empty((SHARD_PICTURES, 112, 112, 3), np.uint8)
    labels = []
    strength = Strength()
    for start in range(0, SHARD_PICTURES, BATCH):
        batch = pictures[start : start + BATCH]
        for k in range(len(batch)):
            batch[k] = make_picture(faces, rng, strength)
        both = engine.run(batch) + engine.run(np.ascontiguousarray(batch[:, :, ::-1]))
        labels.append(both / np.linalg.norm(both, axis=1, keepdims=True))
    engine.close()
    _save(folder / f"{number:04d}.labels.npy", np.concatenate(labels).astype(np.float16))
    # The pictures are what says that the shard is there, so they come last.
    _save(folder / f"{number:04d}.pictures.npy", pictures)


def _save(path: Path, array: npt.NDArray[np.generic]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", default="0-39", help="numbers of the first and the last")
    parser.add_argument("--backend", default="auto", help="engine that runs the teacher")
    args = parser.parse_args()
    first, last = (int(n) for n in args.shards.split("-"))
    faces = np.load(args.faces)["crops"]
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, last + 1):
        if not (args.folder / f"{number:04d}.pictures.npy").exists():
            make_shard(faces, number, args.teacher, args.folder, args.backend)
            print(f"shard {number}", flush=True)


if __name__ == "__main__":
    main()

"""Fits the constants of edgeface.quality.unified and prints them.

    python fit_unified_quality.py IMAGES BUNDLE [BUNDLE ...] --output FILE.npz

IMAGES holds one folder for each person. See README.md.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from damage import DAMAGES, damaged
from faces import Face, FaceReader, agreements, embeddings

from edgeface.camera.images import read_image
from edgeface.quality.unified import FEATURES, features

MAX_IMAGES, MAX_PAIRS = 30, 150
"""Of one person, so that a few famous people do not decide."""
UNDAMAGED_WEIGHT = 4.0
"""Pairs of undamaged images count this much: damages are more frequent here than in life."""
RIDGE = 1e-3


def main() -> None:
    """Measure the faces, fit both lines, print their constants."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--damages", type=int, default=3, help="damaged copies of each image")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    faces, names, is_damaged = _read(options.images, options.damages, rng)
    pairs, weights = _mated_pairs(names, is_damaged, rng)
    scores, agreed = [], []
    for bundle in options.bundles:
        plain, mirrored = embeddings(bundle, faces)
        mated = np.einsum("nd,nd->n", plain[pairs[:, 0]], plain[pairs[:, 1]])
        scores.append((mated - mated.mean()) / mated.std())
        agreed.append(np.maximum(0, agreements(plain, mirrored)))
    target, agreement = np.mean(scores, 0), np.mean(agreed, 0)
    measured = np.array([features(face.report.values) for face in faces])
    undamaged = ~is_damaged
    np.savez(
        options.output,
        measured=measured,
        agreement=agreement,
        names=names,
        undamaged=undamaged,
        pairs=pairs,
        weights=weights,
        target=target,
    )
    sys.stdout.write(
        f"{undamaged.sum()} images, {is_damaged.sum()} damaged copies, {len(pairs)} pairs\n"
    )
    both = np.column_stack([measured, agreement])
    for title, x, columns in (
        ("measures", measured, FEATURES),
        ("with agreement", both, (*FEATURES, "agreement")),
    ):
        fit = _Pairs(x, pairs, weights, target, undamaged)
        sys.stdout.write(f"\n{title}\n{_describe(_fit(fit), columns, fit)}\n")


@dataclass(frozen=True)
class _Pairs:
    """What a line is fitted to: (images, features), (n, 2) pairs, their weights and scores."""

    x: np.ndarray
    pairs: np.ndarray
    weights: np.ndarray
    target: np.ndarray
    undamaged: np.ndarray


def _read(
    folder: Path, n_damages: int, rng: np.random.Generator
) -> tuple[list[Face], np.ndarray, np.ndarray]:
    """Return faces, their names (PERSON/FILE) and which of them are damaged copies."""
    people: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*.jpg")):
        people[path.parent.name].append(path)
    reader = FaceReader()
    faces, names, flags = [], [], []
    for person, paths in people.items():
        if len(paths) < 2:
            continue
        for path in rng.permutation(np.array(paths, object))[:MAX_IMAGES]:
            pixels = read_image(path).pixels
            plain = reader.read(pixels)
            if plain is None:
                continue
            kinds = rng.choice(list(DAMAGES), n_damages, replace=False)
            copies = [damaged(kind, pixels, plain.landmarks.points_px, rng) for kind in kinds]
            for k, face in enumerate([plain, *map(reader.read, copies)]):
                if face is not None:
                    faces.append(face)
                    names.append(f"{person}/{path.name}")
                    flags.append(k > 0)
    reader.close()
    return faces, np.array(names), np.array(flags)


def _mated_pairs(
    names: np.ndarray, is_damaged: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 2) pairs of different pictures of one person, and their weights."""
    people: dict[str, list[int]] = defaultdict(list)
    for k, name in enumerate(names):
        people[name.split("/")[0]].append(k)
    pairs, weights = [], []
    for rows in people.values():
        own = [p for p in itertools.combinations(rows, 2) if names[p[0]] != names[p[1]]]
        if not own:
            continue
        chosen = np.array(own)[rng.permutation(len(own))[:MAX_PAIRS]]
        pairs.append(chosen)
        plain = ~is_damaged[chosen].any(1)
        weights.append(np.where(plain, UNDAMAGED_WEIGHT, 1.0) / np.sqrt(len(chosen)))
    return np.concatenate(pairs), np.concatenate(weights)


def _fit(fit: _Pairs) -> np.ndarray:
    """Return coefficients of least squares, each at least 0; target = sum over both images."""
    x, active, scale = fit.x, list(range(fit.x.shape[1])), fit.x.std(0)
    z, root = (x - x.mean(0)) / scale, np.sqrt(fit.weights)
    while True:
        sums = z[fit.pairs[:, 0]][:, active] + z[fit.pairs[:, 1]][:, active]
        design = np.column_stack([sums, np.ones(len(sums))]) * root[:, None]
        ridge = np.eye(design.shape[1]) * RIDGE * fit.weights.sum()
        ridge[-1, -1] = 0
        found = np.linalg.solve(design.T @ design + ridge, design.T @ (fit.target * root))
        if (found[:-1] >= 0).all():
            full = np.zeros(x.shape[1])
            full[active] = found[:-1]
            return full / scale
        active.pop(int(found[:-1].argmin()))


def _describe(coefficients: np.ndarray, names: tuple[str, ...], fit: _Pairs) -> str:
    total = fit.x @ coefficients
    predicted, plain = total[fit.pairs].sum(1), fit.undamaged[fit.pairs].all(1)
    low, median = np.quantile(total[fit.undamaged], [0.05, 0.5])
    of_all = np.corrcoef(predicted, fit.target)[0, 1]
    of_plain = np.corrcoef(predicted[plain], fit.target[plain])[0, 1]
    lines = [f"  {name:22s} {value:.4g}" for name, value in zip(names, coefficients, strict=True)]
    lines.append(f"  median {median:.4f}, low {low:.4f}")
    lines.append(f"  correlation with scores {of_all:.3f}, undamaged pairs {of_plain:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Measures what each quality measure foretells, on pairs that nothing was fitted to.

    python measure_error_discard.py PAIRS IMAGES BUNDLE [BUNDLE ...] --output FOLDER

PAIRS is a list in LFW's format. Writes FOLDER/NAME.png for each bundle and prints a table. See
README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from faces import Face, FaceReader, agreements, embeddings

from edgeface.bundle import Bundle
from edgeface.camera.images import read_image
from edgeface.quality import unified_quality
from edgeface.types import QualityMeasure, QualityReport
from edgeface_calibration.error_discard import (
    DiscardEffect,
    discard_effect,
    error_discard,
    pair_quality,
    save_error_discard,
    without_worst_images,
    without_worst_pairs,
)
from edgeface_calibration.error_rates import threshold_at_fmr
from edgeface_calibration.operating_point import cross_subject_scores
from edgeface_calibration.pairs import PairProtocol, parse_folds, read_pairs

SHARE, TARGET_FMR = 0.1, 1e-3
M = QualityMeasure
SIGNS = {
    M.DETECTION_SCORE: 1,
    M.EYE_DISTANCE: 1,
    M.SHARPNESS: 1,
    M.DYNAMIC_RANGE: 1,
    M.ILLUMINATION_UNIFORMITY: 1,
    M.UNDER_EXPOSURE: -1,
    M.OVER_EXPOSURE: -1,
    M.EYES_OPEN: 1,
    M.MOUTH_CLOSED: -1,
    M.LANDMARK_DISAGREEMENT: -1,
}
"""Measures that are better when they are larger (1) or smaller (-1)."""
DRAWN = (
    "detection_score",
    "sharpness",
    "yaw and pitch",
    "unified",
    "agreement alone",
    "unified with agreement",
)


def main() -> None:
    """Measure every face once, then every bundle."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--folds", default=None, help="folds of the list, such as 1-5")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    folds = parse_folds(options.folds) if options.folds else None
    protocol = read_pairs(options.pairs, options.images, folds)
    reader = FaceReader()
    found = {n: reader.read(read_image(protocol.images / n).pixels) for n in protocol.image_names}
    reader.close()
    faces = {name: face for name, face in found.items() if face is not None}
    refused = sum(not face.report.passed for face in faces.values())
    sys.stdout.write(f"{len(faces)} of {len(found)} faces found, `watch` refuses {refused}\n")
    options.output.mkdir(parents=True, exist_ok=True)
    for bundle in options.bundles:
        _measure(bundle, protocol, faces, options.output)


def _measure(bundle: Path, protocol: PairProtocol, faces: Mapping[str, Face], output: Path) -> None:
    plain, mirrored = embeddings(bundle, list(faces.values()))
    names = list(faces)
    subjects = protocol.subject_of()
    people = [subjects[name] for name in names]
    tail = cross_subject_scores(plain, people, largest_target=TARGET_FMR)
    # The tail is what a threshold depends on; the others are lower and only count.
    lower = np.full(tail.n_total - len(tail.scores), -1.0)
    threshold = threshold_at_fmr(np.concatenate([tail.scores, lower]), TARGET_FMR)
    row = {name: k for k, name in enumerate(names)}
    listed = [p for p in protocol.pairs if p.same and p.image_a in row and p.image_b in row]
    pairs = np.array([(row[p.image_a], row[p.image_b]) for p in listed])
    scores = np.einsum("nd,nd->n", plain[pairs[:, 0]], plain[pairs[:, 1]])
    whose = [subjects[p.image_a] for p in listed]
    qualities = _qualities([face.report for face in faces.values()], agreements(plain, mirrored))
    title = f"{Bundle.open(bundle).manifest.name}: threshold {threshold:.3f}, {len(pairs)} pairs"
    sys.stdout.write(f"\n{title}\n{'measure':26s} worst tenth of images   worst tenth of pairs\n")
    curves = {}
    for name, quality in qualities.items():
        worse = pair_quality(quality, pairs)
        kept = (without_worst_images(quality, pairs, SHARE), without_worst_pairs(worse, SHARE))
        by = [_text(discard_effect(scores, each, whose, threshold)) for each in kept]
        sys.stdout.write(f"{name:26s} {by[0]}   {by[1]}\n")
        if name in DRAWN:
            curves[name] = error_discard(scores, worse, threshold)
    save_error_discard(curves, output / f"{bundle.stem}.png", title=title)


def _qualities(reports: list[QualityReport], agreement: np.ndarray) -> dict[str, np.ndarray]:
    """Return (n,) numbers for each way to judge an image, more is better."""
    values = [report.values for report in reports]
    turned = [-np.hypot(each[M.YAW], each[M.PITCH]) for each in values]
    found = {
        measure.value: np.array([sign * each.get(measure, -np.inf) for each in values])
        for measure, sign in SIGNS.items()
    }
    pairs = zip(values, agreement, strict=True)
    return found | {
        "yaw and pitch": np.array(turned),
        "unified": np.array([unified_quality(each) for each in values]),
        "agreement alone": agreement,
        "unified with agreement": np.array(
            [unified_quality({**each, M.EMBEDDING_AGREEMENT: float(a)}) for each, a in pairs]
        ),
    }


def _text(effect: DiscardEffect) -> str:
    return (
        f"{effect.fnmr_before:.2%} -> {effect.fnmr_after:.2%} "
        f"{effect.change:+.0%} ({effect.change_low:+.0%}..{effect.change_high:+.0%})"
    )


if __name__ == "__main__":
    main()

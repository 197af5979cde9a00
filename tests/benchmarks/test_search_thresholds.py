"""Thresholds for searches, judged on people that had no part in them: LFW as an open set.

The people are dealt to seven folds. Each fold in turn is the strangers; the others give the
threshold and are enrolled, N of them, averaged over every choice of the N.
``pytest tests/benchmarks/test_search_thresholds.py -m slow -s``
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface_calibration.crops import LandmarkFileCrops
from edgeface_calibration.identification import (
    LabelledRows,
    chance_of_none,
    log_factorials,
    search_scores,
)
from edgeface_calibration.labelled_images import embed_people, images_of_folder
from edgeface_calibration.search_points import PointOptions, SearchPoint, threshold_figures

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(7200)]

FOLDS = 7
OPTIONS = PointOptions(
    target_fpirs=(0.01, 0.05), gallery_sizes=(100, 1000, 3000), target_fmrs=(1e-3,),
    n_resamples=200,
)  # fmt: skip


@pytest.fixture(scope="module")
def people(
    test_data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> LabelledRows:
    from edgeface_export import export_checkpoint

    lfw = test_data / "data" / "lfw"
    source = checkpoints / "arcface-mobilefacenet-112x96-xiaoccer.ckpt"
    made = export_checkpoint(source, tmp_path_factory.mktemp("bundle") / "m.edgeface")
    bundle = Bundle.open(made.bundle.path)
    images = [image for part in ("pairs", "extra") for image in images_of_folder(lfw / part)]
    template = bundle.manifest.alignment_template
    sources = {
        lfw / part: LandmarkFileCrops(lfw / "landmarks.txt", lfw / part, template)
        for part in ("pairs", "extra")
    }
    labelled, missing = embed_people(
        bundle, images, sources.__getitem__, artefacts=["fp32"], threads=1
    )
    assert missing == ()
    return labelled["fp32"]


def part_of(labelled: LabelledRows, chosen: np.ndarray) -> LabelledRows:
    kept = np.isin(labelled.subjects, chosen)
    names = np.char.mod("%06d", labelled.subjects[kept])
    return LabelledRows.of(labelled.rows[kept], names.tolist())


def strangers_accepted(
    labelled: LabelledRows, strangers: np.ndarray, point: SearchPoint
) -> np.ndarray:
    """How likely each picture of ``strangers`` is taken for one of N of everybody else."""
    is_stranger = np.isin(labelled.subjects, strangers)
    enrolled = labelled.rows[labelled.enrolled(1) & ~is_stranger]
    scores = labelled.rows[is_stranger] @ enrolled.T
    above = (scores >= np.float32(point.threshold or 1.0)).sum(axis=1)
    logs = log_factorials(len(enrolled))
    return 1.0 - chance_of_none(above, len(enrolled), point.gallery_size, logs)


def judged(
    labelled: LabelledRows, n_known: int
) -> Iterator[tuple[SearchPoint, float, float, float]]:
    """Give a point of the first fold, the mean interval, and the rate of all folds' strangers."""
    order = np.random.default_rng(1).permutation(labelled.n_people)
    found: dict[tuple[int, float], list[tuple[SearchPoint, np.ndarray]]] = {}
    for strangers in np.array_split(order, FOLDS):
        known = order[~np.isin(order, strangers)][:n_known]
        figures = threshold_figures("fp32", part_of(labelled, known), OPTIONS)
        for point in figures.searches:
            rates = strangers_accepted(labelled, strangers, point)
            found.setdefault((point.gallery_size, point.target), []).append((point, rates))
    for entries in found.values():
        ends = [point.fpir_interval for point, _ in entries if point.fpir_interval is not None]
        assert len(ends) == FOLDS
        measured = float(np.concatenate([rates for _, rates in entries]).mean())
        low, high = np.mean([(end.low, end.high) for end in ends], axis=0)
        yield entries[0][0], float(low), float(high), measured


@pytest.mark.parametrize("n_known", [4000, 1000])
def test_strangers_are_taken_for_somebody_as_often_as_was_said(
    people: LabelledRows, n_known: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search_scores(people, smallest_gallery=3000).largest_gallery > 3000
    rows = list(judged(people, n_known))
    with capsys.disabled():
        print(f"\nthresholds from up to {n_known:,} people, FPIR of people unseen")  # noqa: T201
        for point, low, high, measured in rows:
            print(  # noqa: T201
                f"  {point.gallery_size:>5,} enrolled, aim {point.target:.2%}: said {low:.2%} to "
                f"{high:.2%}, measured {measured:.2%}  ({point.evidence})"
            )
    assert all(low <= measured <= high for _, low, high, measured in rows)
    assert all(point.is_extrapolated == (point.gallery_size >= n_known) for point, *_ in rows)

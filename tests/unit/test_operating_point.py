from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.bundle import Bundle
from edgeface.errors import BundleError, BundleFormatError, InvalidInputError, OperatingPointError
from edgeface.types import FloatArray, OperatingPoint
from edgeface_calibration.operating_point import (
    NonMatedTail,
    cross_subject_scores,
    fit_operating_points,
    write_operating_points,
)
from tests.builders import make_bundle


def unit_vectors(n: int, size: int = 16, seed: int = 0) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((n, size))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def every_cross_score(rows: FloatArray, subjects: list[str]) -> np.ndarray:
    scores = rows @ rows.T
    return np.array(
        [
            scores[i, j]
            for i in range(len(rows))
            for j in range(i + 1, len(rows))
            if subjects[i] != subjects[j]
        ]
    )


@given(
    st.lists(st.integers(-50, 50).map(lambda k: k / 50), min_size=100, max_size=400),
    st.floats(0.01, 0.5),
)
@settings(max_examples=60)
def test_measured_fmr_at_a_fitted_point_is_at_most_its_target(
    non_mated: list[float], target: float
) -> None:
    scores = np.array(non_mated, np.float32)
    try:
        (point,) = fit_operating_points(None, scores, "fp32", "test", [target])
    except OperatingPointError:
        assert (scores == 1.0).mean() > target
        return
    assert (scores >= point.threshold).mean() <= target
    assert point.n_non_mated == len(non_mated)


def test_points_carry_their_evidence() -> None:
    non_mated = np.linspace(-0.5, 0.5, 1001)[:-1]
    mated = np.array([0.2, 0.495, 0.9, 0.9])
    points = fit_operating_points(mated, non_mated, "int8", "made up")
    assert [point.target_fmr for point in points] == [1e-2, 1e-3]
    assert points[0].threshold == pytest.approx(0.489, abs=1e-6)
    assert points[0].threshold > 0.489
    assert [point.fnmr for point in points] == [0.25, 0.5]
    assert (points[0].artefact, points[0].protocol) == ("int8", "made up")
    assert (points[0].n_mated, points[0].n_non_mated) == (4, 1000)
    assert not points[0].provisional


def test_points_without_mated_scores_have_no_fnmr() -> None:
    (point,) = fit_operating_points(None, np.linspace(0, 0.5, 200), "fp32", "p")
    assert (point.fnmr, point.n_mated) == (None, 0)


def test_under_a_hundred_comparisons_are_refused() -> None:
    with pytest.raises(OperatingPointError, match="at least 100 non-mated comparisons, got 99"):
        fit_operating_points(None, np.zeros(99), "fp32", "p")


def test_no_target_that_can_be_resolved_is_refused_with_the_number_needed() -> None:
    with pytest.raises(OperatingPointError, match="at least 1,000 non-mated"):
        fit_operating_points(None, np.zeros(500), "fp32", "p", targets=(1e-3,))


def test_people_who_all_look_the_same_get_no_threshold() -> None:
    with pytest.raises(OperatingPointError, match="cannot tell them apart"):
        fit_operating_points(np.ones(10), np.ones(200), "int8", "p")


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        fit_operating_points(None, np.array([np.nan] * 200), "fp32", "p")


@pytest.mark.parametrize("block_rows", [1, 7, 64, 1000])
def test_cross_scores_are_those_of_every_two_subjects(block_rows: int) -> None:
    rows = unit_vectors(60)
    subjects = [f"s{k % 17}" for k in range(60)]
    wanted = np.sort(every_cross_score(rows, subjects))[::-1]
    tail = cross_subject_scores(rows, subjects, largest_target=0.1, block_rows=block_rows)
    assert tail.n_total == len(wanted)
    assert len(tail.scores) == int(0.1 * len(wanted)) + 2
    assert tail.scores == pytest.approx(wanted[: len(tail.scores)], abs=1e-6)


def test_a_point_fitted_to_the_tail_is_that_of_all_scores() -> None:
    rows = unit_vectors(80)
    subjects = [f"s{k // 2}" for k in range(80)]
    tail = cross_subject_scores(rows, subjects, largest_target=0.01, block_rows=16)
    (by_tail,) = fit_operating_points(None, tail, "fp32", "p", [0.01])
    scores = every_cross_score(rows, subjects)
    assert (scores >= by_tail.threshold).mean() == pytest.approx(0.01, abs=1 / len(scores))


def test_target_beyond_the_tail_is_refused() -> None:
    tail = NonMatedTail(np.array([0.5, 0.4]), 1000)
    with pytest.raises(InvalidInputError, match="largest_target"):
        fit_operating_points(None, tail, "fp32", "p", [0.01])


def test_one_subject_gives_no_cross_scores() -> None:
    with pytest.raises(OperatingPointError, match="two subjects"):
        cross_subject_scores(unit_vectors(5), ["a"] * 5)


def test_rows_that_are_not_finite_are_refused() -> None:
    rows = unit_vectors(4)
    rows[2] = np.nan
    with pytest.raises(InvalidInputError, match="NaN"):
        cross_subject_scores(rows, list("abcd"))


def point(artefact: str, target_fmr: float, threshold: float, **extra: bool) -> OperatingPoint:
    return OperatingPoint(threshold, target_fmr, artefact, "test", **extra)


def test_written_points_are_read_back_and_the_model_stays_the_same(tmp_path: Path) -> None:
    path = make_bundle(tmp_path)
    before = Bundle.open(path).manifest
    new = (point("fp32", 1e-2, 0.3), point("fp32", 1e-3, 0.4))
    write_operating_points(path, new)
    after = Bundle.open(path).manifest
    assert after.operating_points == new
    assert (after.model_id, after.artefacts) == (before.model_id, before.artefacts)
    assert sorted(entry.name for entry in path.iterdir()) == ["manifest.json", "model.fp32.onnx"]


def test_new_points_replace_old_ones_but_for_stricter_and_other_artefacts(tmp_path: Path) -> None:
    old = (
        point("fp32", 1e-2, 0.30, provisional=True),
        point("fp32", 1e-3, 0.35, provisional=True),
        point("fp32", 1e-4, 0.50, provisional=True),
        point("int8", 1e-2, 0.30, provisional=True),
    )
    path = make_bundle(tmp_path, artefacts=("fp32", "int8"), operating_points=old)
    # 1e-3 was not resolved: the old 0.35 would be laxer than the new 0.38 of 1e-2 and must go.
    new = point("fp32", 1e-2, 0.38)
    assert write_operating_points(path, [new]).operating_points == (old[2], old[3], new)


def test_points_of_an_unknown_artefact_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    path = make_bundle(tmp_path)
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(BundleFormatError, match="int8"):
        write_operating_points(path, [point("int8", 1e-2, 0.3)])
    assert (path / "manifest.json").read_bytes() == before


def test_failed_write_leaves_the_old_manifest_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_bundle(tmp_path)
    before = (path / "manifest.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="nothing was changed"):
        write_operating_points(path, [point("fp32", 1e-2, 0.3)])
    assert (path / "manifest.json").read_bytes() == before
    assert len(list(path.iterdir())) == 2


def test_manifest_keeps_its_permissions(tmp_path: Path) -> None:
    path = make_bundle(tmp_path)
    (path / "manifest.json").chmod(0o640)
    write_operating_points(path, [point("fp32", 1e-2, 0.3)])
    assert (path / "manifest.json").stat().st_mode & 0o777 == 0o640
    assert json.loads((path / "manifest.json").read_text())["operating_points"]

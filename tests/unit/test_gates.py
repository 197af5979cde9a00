"""What is measured of an artefact, and what is refused."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import GateFailedError, InvalidInputError
from edgeface.types import FloatArray, Size

pytest.importorskip("onnx")

from edgeface_export.crop_sets import CropKind
from edgeface_export.gate_limits import limits_for
from edgeface_export.gates import (
    GateLimits,
    GateResult,
    QuantiserFigures,
    Spread,
    compare_embeddings,
    figures_of,
    measure_spread,
    parity_gate,
    quantiser_gates,
    require_passed,
    spread_gates,
)
from edgeface_export.parity import Parity
from edgeface_export.probes import synthetic_crops

GOOD_PARITY = Parity(difference=1e-7, batch_difference=1e-7, crops=8)
GOOD = QuantiserFigures(
    cosine_mean=0.995,
    cosine_p1=0.985,
    pair_change_p99=0.02,
    pair_change_worst=0.5,
    mean_score=0.1,
    mean_score_rise=0.0,
    unusable=0,
    crops=64,
    faces=True,
    effective_dimension=20.0,
)


def check_gates(
    parity: Parity, figures: QuantiserFigures | None, limits: GateLimits
) -> list[GateResult]:
    """The gates of a float graph and of INT8, all passed."""
    results = [parity_gate(parity, limits)]
    results += [] if figures is None else quantiser_gates(figures, limits)
    require_passed(results)
    return results


def changed(figures: dict[str, Any]) -> QuantiserFigures:
    return replace(GOOD, **figures)


def unit_rows(count: int, size: int = 32, seed: int = 0) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((count, size))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_good_figures_pass_every_gate_and_each_says_its_limit() -> None:
    sentences = [gate.sentence for gate in check_gates(GOOD_PARITY, GOOD, GateLimits())]
    assert len(sentences) == 8
    assert sentences[0] == "parity to the checkpoint 1e-07 (at most 1e-05)"
    assert sentences[1] == "crops without an embedding 0 (at most 0)"
    assert sentences[2] == "INT8 cosine, mean 0.9950 (at least 0.99)"


def test_a_float_export_has_the_gate_of_parity_alone() -> None:
    assert len(check_gates(GOOD_PARITY, None, GateLimits())) == 1


@pytest.mark.parametrize("difference", [1.1e-5, 1.0, math.inf, math.nan])
def test_a_graph_that_computes_something_else_is_refused(difference: float) -> None:
    with pytest.raises(GateFailedError, match="parity to the checkpoint"):
        check_gates(Parity(difference, 0.0, 8), GOOD, GateLimits())


BAD = [
    ("unusable", 1, "crops without an embedding"),
    ("cosine_mean", 0.989, "INT8 cosine, mean"),
    ("cosine_mean", -1.0, "INT8 cosine, mean"),
    ("cosine_p1", 0.979, "worst hundredth"),
    ("mean_score_rise", 0.051, "rise of the mean score"),
]
BAD_FOR_FACES = [
    ("pair_change_p99", 0.081, "pair-score change"),
    ("mean_score", 0.901, "mean score of different faces"),
    ("effective_dimension", 3.99, "effective dimension"),
]
NAMES = sorted({(field, said) for field, _, said in BAD + BAD_FOR_FACES})


@pytest.mark.parametrize(("field", "value", "said"), BAD + BAD_FOR_FACES)
def test_one_bad_figure_fails_and_is_the_only_one_named(
    field: str, value: float, said: str
) -> None:
    with pytest.raises(GateFailedError, match=said) as caught:
        check_gates(GOOD_PARITY, changed({field: value}), GateLimits())
    assert "nothing was written" in str(caught.value)
    assert str(caught.value).count("(at ") == 1
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("field", "said"), NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number_fails(field: str, said: str, value: float) -> None:
    with pytest.raises(GateFailedError, match=said):
        check_gates(GOOD_PARITY, changed({field: value}), GateLimits())


def test_every_failed_gate_is_named_at_once() -> None:
    broken = replace(GOOD, cosine_mean=0.0, cosine_p1=0.0, mean_score=1.0)
    with pytest.raises(GateFailedError) as caught:
        check_gates(Parity(1.0, 0.0, 8), broken, GateLimits())
    for said in ("parity", "INT8 cosine, mean", "worst hundredth", "different faces"):
        assert said in str(caught.value)


@pytest.mark.parametrize(("field", "value", "said"), BAD)
def test_synthetic_pictures_are_held_to_the_gates_that_make_sense_for_them(
    field: str, value: float, said: str
) -> None:
    with pytest.raises(GateFailedError, match=said):
        check_gates(GOOD_PARITY, changed({field: value, "faces": False}), GateLimits())


@pytest.mark.parametrize(("field", "value", "said"), BAD_FOR_FACES)
def test_what_is_asked_of_faces_is_not_asked_of_synthetic_pictures(
    field: str, value: float, said: str
) -> None:
    gates = check_gates(GOOD_PARITY, changed({field: value, "faces": False}), GateLimits())
    sentences = [gate.sentence for gate in gates]
    assert not any(said in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("field", "figure", "good", "bad"),
    [
        ("min_cosine_mean", "cosine_mean", 0.5, 0.49),
        ("min_cosine_p1", "cosine_p1", 0.5, 0.49),
        ("max_pair_change_p99", "pair_change_p99", 0.3, 0.31),
        ("max_mean_score", "mean_score", 0.3, 0.31),
        ("max_mean_score_rise", "mean_score_rise", 0.3, 0.31),
        ("min_effective_dimension", "effective_dimension", 9.0, 8.9),
    ],
)
def test_limits_can_be_set_and_a_figure_on_the_limit_passes(
    field: str, figure: str, good: float, bad: float
) -> None:
    limits = GateLimits(**{field: good})
    check_gates(GOOD_PARITY, changed({figure: good}), limits)
    with pytest.raises(GateFailedError):
        check_gates(GOOD_PARITY, changed({figure: bad}), limits)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_equal_embeddings_differ_in_nothing(count: int) -> None:
    rows = unit_rows(count)
    found = compare_embeddings(rows, rows, faces=True)
    assert found.cosine_mean == pytest.approx(1.0, abs=1e-6)
    assert found.cosine_p1 == pytest.approx(1.0, abs=1e-6)
    assert (found.pair_change_p99, found.pair_change_worst, found.mean_score_rise) == (0, 0, 0)
    assert (found.crops, found.faces) == (count, True)


def test_golden_figures_of_three_rows() -> None:
    before = np.eye(3, dtype=np.float32)
    after = before.copy()
    after[2] = (0.6, 0.0, 0.8)
    found = compare_embeddings(before, after, faces=False)
    assert found.cosine_mean == pytest.approx((1 + 1 + 0.8) / 3)
    assert found.cosine_p1 == pytest.approx(0.8 + 0.02 * 0.2)
    assert found.pair_change_worst == pytest.approx(0.6)
    assert found.pair_change_p99 == pytest.approx(0.6 * 0.98)
    assert found.mean_score == pytest.approx(0.2)
    assert found.mean_score_rise == pytest.approx(0.2)


def test_a_collapse_is_a_rise_of_the_mean_score() -> None:
    before = unit_rows(40)
    after = np.repeat(before[:1], 40, axis=0)
    found = compare_embeddings(before, after, faces=True)
    assert found.mean_score == pytest.approx(1.0)
    assert found.mean_score_rise > 0.9
    with pytest.raises(GateFailedError, match="rise of the mean score"):
        check_gates(GOOD_PARITY, found, GateLimits())


def test_a_model_that_tells_nobody_apart_fails_although_int8_changed_nothing() -> None:
    rows = np.repeat(unit_rows(1), 40, axis=0)
    with pytest.raises(GateFailedError, match="different faces") as caught:
        check_gates(GOOD_PARITY, compare_embeddings(rows, rows, faces=True), GateLimits())
    assert "INT8" not in str(caught.value)
    with pytest.raises(GateFailedError, match="look at how it was trained"):
        require_passed(spread_gates(measure_spread(rows), GateLimits()))


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (np.zeros((0, 4), np.float32), Spread(0.0, 0.0)),
        (np.eye(4, dtype=np.float32)[:1], Spread(0.0, 1.0)),
        (np.eye(4, dtype=np.float32), Spread(0.0, 4.0)),
        (np.repeat(np.eye(4, dtype=np.float32)[:1], 9, axis=0), Spread(1.0, 1.0)),
        (np.repeat(np.eye(2, dtype=np.float32), 5, axis=0), Spread(20 / 45, 2.0)),
        (np.full((3, 4), np.nan, np.float32), Spread(0.0, 0.0)),
    ],
    ids=["none", "one", "all apart", "all alike", "two groups", "not a number"],
)
def test_spread_of_rows(rows: FloatArray, wanted: Spread) -> None:
    found = measure_spread(rows)
    assert found.mean_score == pytest.approx(wanted.mean_score, abs=1e-6)
    assert found.effective_dimension == pytest.approx(wanted.effective_dimension, abs=1e-6)


def test_what_was_tried_and_what_to_do_are_said_once() -> None:
    results = spread_gates(Spread(1.0, 1.0), GateLimits())
    with pytest.raises(GateFailedError) as caught:
        require_passed(results, "3 forms were tried")
    assert str(caught.value).count("look at how it was trained") == 1
    assert str(caught.value).endswith(". 3 forms were tried")


def test_limits_depend_on_the_crops_and_can_be_changed_by_name() -> None:
    assert limits_for(CropKind.FACES) == GateLimits()
    synthetic, pictures = (
        limits_for(kind) for kind in (CropKind.SYNTHETIC_FACES, CropKind.PICTURES)
    )
    assert pictures.min_cosine_mean < GateLimits().min_cosine_mean < synthetic.min_cosine_mean
    changed_limits = limits_for(CropKind.PICTURES, {"min_cosine_p1": 0.5})
    assert changed_limits == replace(pictures, min_cosine_p1=0.5)
    with pytest.raises(InvalidInputError, match="no limit is called 'cosine', choose of max_"):
        limits_for(CropKind.FACES, {"cosine": 1.0})
    with pytest.raises(InvalidInputError, match="max_mean_score must be a number"):
        limits_for(CropKind.FACES, {"max_mean_score": math.nan})


@pytest.mark.parametrize("count", [1, 8, 1000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 0.9])
@pytest.mark.parametrize("side", ["before", "after"])
def test_one_row_that_is_no_embedding_fails_by_its_own_gate(
    count: int, value: float, side: str
) -> None:
    rows = {"before": unit_rows(count), "after": unit_rows(count)}
    rows[side][0, 3] = value
    found = compare_embeddings(**rows, faces=True)
    assert found.unusable == 1
    assert all(math.isfinite(getattr(found, each.name)) for each in fields(found))
    with pytest.raises(GateFailedError, match=r"crops without an embedding 1 \(at most 0\)"):
        check_gates(GOOD_PARITY, found, GateLimits())


def test_rows_of_zeros_are_no_embeddings() -> None:
    rows = np.zeros((5, 32), np.float32)
    assert compare_embeddings(rows, rows, faces=True).unusable == 5


@given(st.integers(1, 30), st.integers(0, 1000), st.floats(0, 0.5))
def test_figures_stay_on_their_scales(count: int, seed: int, noise: float) -> None:
    before = unit_rows(count, seed=seed)
    after = before + noise * unit_rows(count, seed=seed + 1)
    after /= np.linalg.norm(after, axis=1, keepdims=True)
    found = compare_embeddings(before, after.astype(np.float32), faces=False)
    assert -1.001 <= found.cosine_p1 <= found.cosine_mean + 1e-9 <= 1.001
    assert 0 <= found.pair_change_p99 <= found.pair_change_worst <= 2.001


def test_figures_go_into_the_manifest_under_their_names() -> None:
    assert figures_of(GOOD_PARITY) == {
        "parity_max_difference": 1e-7,
        "parity_batch_difference": 1e-7,
        "parity_crops": 8.0,
    }
    found = GOOD.named()
    assert found["int8_cosine_mean"] == 0.995
    assert found["int8_cosine_p1"] == 0.985
    assert found["int8_effective_dimension"] == 20.0
    assert found["int8_pair_change_p99"] == 0.02
    assert found["int8_pair_change_worst"] == 0.5
    assert found["int8_mean_score"] == 0.1
    assert found["int8_unusable"] == 0.0
    assert found["int8_crops"] == 64.0
    assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize("count", [1, 5])
def test_synthetic_pictures_are_the_same_every_time_and_differ_from_each_other(count: int) -> None:
    size = Size(96, 112)
    crops = synthetic_crops(count, size)
    assert crops.shape == (count, 112, 96, 3)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops, synthetic_crops(count, size))
    assert not np.array_equal(crops, synthetic_crops(count, size, seed=1))
    assert crops.std(axis=(1, 2)).min() > 5
    # Neighbours are alike, as in natural pictures; in noise their mean step is 1.13 deviations.
    steps = np.abs(np.diff(crops.astype(float), axis=2)).mean()
    assert steps < 0.7 * crops.std()

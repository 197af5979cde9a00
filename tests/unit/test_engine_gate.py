from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeface.backends.engine_gate import (
    Agreement,
    AgreementLimits,
    check_agreement,
    measure_agreement,
    probe_crops,
    reference_rows,
)
from edgeface.errors import BackendError, GateFailedError
from edgeface.types import FloatArray, ImageArray, Size
from tests.builders import tiny_onnx

SIZE = Size(24, 40)


def rows(crops: ImageArray) -> FloatArray:
    flat = crops.reshape(len(crops), -1)[:, :64].astype(np.float32) - 127
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), np.float32)


def shaken(amount: float, seed: int) -> Any:
    def give(crops: ImageArray) -> FloatArray:
        noise = np.random.default_rng(seed).standard_normal((len(crops), 64))
        return np.asarray(rows(crops) + amount * noise / 8, np.float32)

    return give


def test_probe_crops_are_the_same_every_time_and_differ_from_each_other() -> None:
    crops = probe_crops(5, SIZE)
    assert crops.shape == (5, 40, 24, 3)
    assert crops.dtype == np.uint8
    assert np.array_equal(crops, probe_crops(5, SIZE))
    assert len({crop.tobytes() for crop in crops}) == 5


def test_the_same_rows_agree_fully() -> None:
    found = measure_agreement(rows, rows, probe_crops(8, SIZE))
    assert found.cosine_worst == pytest.approx(1.0)
    check_agreement(found, AgreementLimits(), where="x")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_rows_that_are_no_embeddings_count_as_opposite(value: float) -> None:
    def broken(crops: ImageArray) -> FloatArray:
        return np.full((len(crops), 64), value, np.float32)

    assert measure_agreement(broken, rows, probe_crops(8, SIZE)).cosine_mean == -1.0


def test_crops_go_alone_and_in_a_batch() -> None:
    seen: list[int] = []

    def watched(crops: ImageArray) -> FloatArray:
        seen.append(len(crops))
        return rows(crops)

    measure_agreement(watched, rows, probe_crops(32, SIZE))
    assert seen == [1, 1, 1, 1, 28]


def test_int8_that_rounds_elsewhere_but_loses_no_more_passes() -> None:
    crops = probe_crops(64, SIZE)
    engine, graph = shaken(0.2, 1), shaken(0.2, 2)
    alone = measure_agreement(engine, graph, crops)
    anchored = measure_agreement(engine, graph, crops, anchor=rows)
    assert alone.cosine_mean < 0.99
    assert not alone.within(AgreementLimits())
    assert anchored.loss_ratio == pytest.approx(1.0, abs=0.3)
    assert anchored.within(AgreementLimits())


def test_int8_that_loses_twice_as_much_fails_with_its_figures() -> None:
    crops = probe_crops(64, SIZE)
    found = measure_agreement(shaken(0.35, 1), shaken(0.2, 2), crops, anchor=rows)
    assert found.loss_ratio > 2
    with pytest.raises(GateFailedError, match=r"net: .*it loses \d\.\d\d times .*at most 1.5"):
        check_agreement(found, AgreementLimits(), where="net")


@pytest.mark.parametrize(
    ("agreement", "passes"),
    [
        (Agreement(0.9995, 0.996, 8), True),
        (Agreement(0.9985, 0.996, 8), False),
        (Agreement(0.9995, 0.994, 8), False),
        (Agreement(0.97, 0.9, 8, 1.4, 1.9), True),
        (Agreement(0.97, 0.9, 8, 1.4, 2.1), False),
        (Agreement(float("nan"), float("nan"), 8), False),
    ],
)
def test_an_engine_passes_on_either_ground(agreement: Agreement, *, passes: bool) -> None:
    assert agreement.within(AgreementLimits()) == passes


def test_the_reference_runs_a_graph_node_by_node() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    give = reference_rows(tiny_onnx(), where="x")
    assert give(probe_crops(3, Size(112, 112))).shape == (3, 16)
    with pytest.raises(BackendError, match="x: ONNX Runtime cannot load it"):
        reference_rows(b"no model", where="x")

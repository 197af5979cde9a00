"""Crops and their mirror images, embedded by one graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeface.errors import InvalidInputError
from edgeface_export.graph.emit import emit
from edgeface_export.graph.mirror import joined, mirrored_crops, with_mirror
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.mirror_gate import (
    MirrorFit,
    measure_mirror,
    mirror_gates,
    size_with_mirror,
)
from tests.builders_export import CROP, random_crops, small_network

pytest.importorskip("onnxruntime")
CROPS = random_crops(5, CROP)


@pytest.fixture(scope="module")
def model() -> Any:
    return emit(small_network(), name="small")


@pytest.mark.parametrize("how", ["sum", "concatenate"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_graph_joins_what_two_runs_give(model: Any, how: str, count: int) -> None:
    crops = CROPS[:count]
    single = EmbeddingSession(model)
    wanted = joined(single.embed(crops), single.embed(crops[:, :, ::-1]), how)
    found = EmbeddingSession(with_mirror(model, how)).embed(crops)
    assert found.shape == (count, size_with_mirror(wanted_size(model), how))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def wanted_size(model: Any) -> int:
    return int(model.graph.output[0].type.tensor_type.shape.dim[1].dim_value)


def test_a_crop_and_its_mirror_image_have_one_sum(model: Any) -> None:
    session = EmbeddingSession(with_mirror(model, "sum"))
    there, back = session.embed(CROPS), session.embed(mirrored_crops(CROPS))
    np.testing.assert_allclose(there, back, atol=1e-6)


def test_concatenated_rows_score_the_mean_of_both_views(model: Any) -> None:
    single = EmbeddingSession(model)
    rows, mirrored = single.embed(CROPS), single.embed(mirrored_crops(CROPS))
    both = joined(rows, mirrored, "concatenate")
    wanted = (rows @ rows.T + mirrored @ mirrored.T) / 2
    np.testing.assert_allclose(both @ both.T, wanted, atol=1e-5)


def test_none_leaves_the_graph_and_the_original_stays_as_it_was(model: Any) -> None:
    before = model.SerializeToString()
    assert with_mirror(model, "none").SerializeToString() == before
    with_mirror(model, "sum")
    assert model.SerializeToString() == before


def test_another_way_to_join_is_refused(model: Any) -> None:
    with pytest.raises(InvalidInputError, match="sum or concatenate"):
        with_mirror(model, "mean")


def test_the_gates_pass_what_is_joined_rightly_and_nothing_that_is_no_number(model: Any) -> None:
    fit = measure_mirror({"fp32": model}, CROPS, "sum")
    assert all(gate.passed for gate in mirror_gates(fit))
    nan = float("nan")
    assert not any(gate.passed for gate in mirror_gates(MirrorFit(nan, nan)))
    assert not any(gate.passed for gate in mirror_gates(MirrorFit(1e-3, 0.99)))

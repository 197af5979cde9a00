"""Networks that must be refused, and what is counted of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ArchitectureError
from edgeface.types import Size
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
    Preprocessing,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from tests.builders_export import (  # noqa: E402
    CROP,
    normal,
    random_conv,
    random_norm,
)

RGB = Preprocessing.uniform("RGB", 127.5, 64.0)


def net(*layers: Layer, crop: Size = CROP, spec: Preprocessing = RGB) -> Network:
    return Network(layers, crop, "arcface-112x112", spec)


STEM = random_conv(np.random.default_rng(0), "stem", INPUT, (3, 4), (3, 3), stride=2, padding=1)
MATRIX = np.ones((4, 192), np.float32)
FOUR = np.ones(4, np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["gamma", "beta", "mean", "variance"])
def test_a_network_with_a_nan_in_its_batchnorm_is_refused(part: str, value: float) -> None:
    norm = random_norm(np.random.default_rng(0), "norm", "stem", 4)
    array = getattr(norm, part).copy()
    array[2] = value
    broken: Any = {part: array}
    with pytest.raises(ArchitectureError, match="norm: its numbers hold NaN or infinity"):
        net(STEM, replace(norm, **broken), Flatten("flatten", "norm"))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Conv("x", "stem", np.full((4, 4, 1, 1), np.nan, np.float32)), "x: .*NaN"),
        (Conv("x", "stem", np.ones((4, 4, 1, 1), np.float32), FOUR * np.inf), "x: .*infinity"),
        (Conv("x", "stem", np.ones((4, 3, 1, 1), np.float32)), "x: .*4 input channels"),
        (Conv("x", "stem", np.ones((4, 2, 1, 1), np.float32)), "x: .*4 input channels"),
        (Conv("x", "stem", np.ones((3, 2, 1, 1), np.float32), groups=2), r"x: .*2 group\(s\)"),
        (Conv("x", "stem", np.ones((4, 4, 9, 1), np.float32)), "x: its kernel is larger"),
        (Conv("x", "stem", np.ones((4, 4, 1, 7), np.float32)), "x: its kernel is larger"),
        (PRelu("x", "stem", np.ones(3, np.float32)), "x: 3 values for 4 channels"),
        (PRelu("x", "stem", np.ones(1, np.float32)), "x: 1 values for 4 channels"),
        (PRelu("x", "stem", FOUR * np.nan), "x: .*NaN"),
        (random_norm(np.random.default_rng(0), "x", "stem", 5), "x: 5 values for 4 channels"),
        (Add("x", input="stem", skip=INPUT), "x: branch .4, 8, 6., skip .3, 16, 12."),
        (Linear("x", "stem", MATRIX), "x: weights .*do not fit"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused_by_name(layer: Layer, said: str) -> None:
    with pytest.raises(ArchitectureError, match=said):
        net(STEM, layer, Flatten("flatten", "x"))


@pytest.mark.parametrize("part", ["beta", "mean", "variance"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batchnorm_whose_arrays_differ_in_length_is_refused(part: str, channels: int) -> None:
    norm = random_norm(np.random.default_rng(0), "norm", "stem", 4)
    other: Any = {part: np.ones(channels, np.float32)}
    with pytest.raises(ArchitectureError, match=f"norm: {channels} values for 4 .* {part}"):
        net(STEM, replace(norm, **other), Flatten("flatten", "norm"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("linear", [False, True])
def test_a_bias_of_another_length_is_refused(linear: bool, channels: int) -> None:
    bias = np.ones(channels, np.float32)
    layers: list[Layer] = [replace(STEM, bias=None if linear else bias)]
    layers += [Flatten("flatten", "stem")]
    layers += [Linear("embed", "flatten", MATRIX, bias)] if linear else []
    with pytest.raises(ArchitectureError, match=f"{channels} values for 4 channels in its bias"):
        net(*layers)


def test_a_negative_variance_is_refused() -> None:
    norm = random_norm(np.random.default_rng(0), "norm", "stem", 4)
    with pytest.raises(ArchitectureError, match="norm: its variance must be 0 or more, got -"):
        net(STEM, replace(norm, variance=-norm.variance), Flatten("flatten", "norm"))


def test_a_network_that_ends_in_a_picture_is_refused() -> None:
    with pytest.raises(ArchitectureError, match=r"ends in \(4, 8, 6\), wanted one axis"):
        net(STEM)


def test_a_matrix_reads_only_a_vector_of_its_own_length() -> None:
    with pytest.raises(ArchitectureError, match=r"embed: weights \(4, 191\)"):
        net(STEM, Flatten("flatten", "stem"), Linear("embed", "flatten", MATRIX[:, :191]))


@pytest.mark.parametrize(
    ("order", "mean", "scale", "said"),
    [
        ("", (0, 0, 0), (1, 1, 1), "colour order"),
        ("rgb", (0, 0, 0), (1, 1, 1), "colour order"),
        ("GRB", (0, 0, 0), (1, 1, 1), "colour order"),
        ("RGB", (0, 0, 0), (1, 0, 1), "scale positive"),
        ("RGB", (0, 0, 0), (1, -1, 1), "scale positive"),
        ("RGB", (0, np.nan, 0), (1, 1, 1), "finite"),
        ("RGB", (0, 0, 0), (1, 1, np.inf), "finite"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(
    order: str, mean: Any, scale: Any, said: str
) -> None:
    with pytest.raises(ArchitectureError, match=said):
        Preprocessing(order, mean, scale)


def test_preprocessing_reads_as_a_formula() -> None:
    assert str(Preprocessing.uniform("RGB", 127.5, 128)) == "RGB, (x - 127.5) / 128"
    assert str(Preprocessing("BGR", (1, 2, 3), (4, 5, 6))) == "BGR, (x - (1, 2, 3)) / (4, 5, 6)"


def test_costs_are_counted_by_hand() -> None:
    rng = np.random.default_rng(0)
    network = net(
        random_conv(rng, "stem", INPUT, (3, 4), (3, 3), stride=2, padding=1),
        random_conv(rng, "depthwise", "stem", (4, 4), (3, 3), padding=1, groups=4),
        random_norm(rng, "norm", "depthwise", 4),
        PRelu("prelu", "norm", normal(rng, 4)),
        Flatten("flatten", "prelu"),
        Linear("embed", "flatten", normal(rng, 5, 192), normal(rng, 5)),
    )
    places = 8 * 6
    assert network.multiply_adds() == {
        "stem": 4 * 3 * 9 * places,
        "depthwise": 4 * 9 * places,
        "embed": 5 * 192,
    }
    assert network.parameters == 4 * 3 * 9 + 4 * 9 + 2 * 4 + 4 + 5 * 192 + 5
    assert network.embedding_size == 5
    assert network.shapes["depthwise"] == (4, 8, 6)

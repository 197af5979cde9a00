"""Cross-layer equalisation: the same function, with every channel on the range of its tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeface.errors import ActivationSetError
from edgeface.types import FloatArray, ImageArray
from edgeface_export.architectures.network import (
    INPUT,
    Conv,
    Flatten,
    Layer,
    Network,
    PRelu,
    Preprocessing,
    Relu,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edgeface_export.graph.emit import emit, fold  # noqa: E402
from edgeface_export.graph.session import EmbeddingSession  # noqa: E402
from edgeface_export.probes import synthetic_crops  # noqa: E402
from edgeface_export.quantise import QuantiseOptions, quantise  # noqa: E402
from edgeface_export.quantise.equalise import (  # noqa: E402
    Equalised,
    equalise,
    equalised_tensors,
)
from edgeface_export.quantise.placement import place  # noqa: E402
from edgeface_export.quantise.qdq import insert_qdq  # noqa: E402
from edgeface_export.quantise.ranges import (  # noqa: E402
    collect_channel_magnitudes,
    collect_ranges,
)
from tests.builders_export import (  # noqa: E402
    CROP,
    LAYOUT_NAMES,
    activations,
    random_conv,
    random_crops,
    settled_network,
    small_network,
)

LARGEST_FACTOR = 256.0
Magnitudes = Mapping[str, npt.NDArray[np.float32]]


def magnitudes_of(
    network: Network, crops: ImageArray, layers: tuple[Layer, ...] | None = None
) -> Magnitudes:
    layers = layers or fold(network.layers)
    model = emit(network, name="g", layers=layers)
    return collect_channel_magnitudes(model, equalised_tensors(layers), crops)


def equalised(network: Network, crops: ImageArray) -> Equalised:
    return equalise(fold(network.layers), magnitudes_of(network, crops))


def rows(
    network: Network, crops: ImageArray, layers: tuple[Layer, ...] | None = None
) -> FloatArray:
    return EmbeddingSession(emit(network, name="g", layers=layers)).embed(crops)


def named(layers: tuple[Layer, ...], name: str) -> Any:
    return next(layer for layer in layers if layer.name == name)


def chain(*after: Layer, channels: int = 4) -> tuple[Layer, ...]:
    """A convolution to ``channels`` channels called ``made``, then ``after``."""
    rng = np.random.default_rng(0)
    return (random_conv(rng, "made", INPUT, (3, channels), (3, 3), padding=1, bias=True), *after)


def depthwise(name: str, x: str, channels: int = 4) -> Conv:
    rng = np.random.default_rng(1)
    return random_conv(rng, name, x, (channels, channels), (3, 3), padding=1, groups=channels)


# ------------------------------------------------------------------------- the same function


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 1000), st.sampled_from([1, 2, 16]), st.sampled_from([None, 6.0]), st.booleans()
)
def test_equalised_layers_compute_the_same(
    seed: int, groups: int, ceiling: float | None, linear: bool
) -> None:
    network = small_network(seed, groups=groups, ceiling=ceiling, linear=linear)
    crops = random_crops(8, CROP, seed=seed)
    found = equalised(network, crops)
    np.testing.assert_allclose(
        rows(network, crops, found.layers), rows(network, crops), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_every_equalised_layout_computes_the_same(name: str) -> None:
    network = settled_network(name)
    crops = synthetic_crops(4, network.crop_size, seed=2)
    found = equalised(network, crops)
    np.testing.assert_allclose(
        rows(network, crops, found.layers), rows(network, crops), rtol=0, atol=1e-5
    )


def test_without_a_ceiling_it_is_the_same_on_pictures_never_measured() -> None:
    network = small_network(3, groups=16, ceiling=None)
    found = equalised(network, random_crops(2, CROP))
    others = random_crops(16, CROP, seed=9)
    np.testing.assert_allclose(
        rows(network, others, found.layers), rows(network, others), rtol=0, atol=1e-5
    )


def test_layers_keep_their_order_their_names_and_what_they_read() -> None:
    network = small_network(groups=16)
    before, after = fold(network.layers), equalised(network, random_crops(4, CROP)).layers
    assert [(type(a), a.name, a.input) for a in after] == [
        (type(b), b.name, b.input) for b in before
    ]


# ------------------------------------------------------------------------- one range


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_channel_ranges_become_equal(name: str) -> None:
    network = settled_network(name)
    crops = synthetic_crops(4, network.crop_size, seed=2)
    found = equalised(network, crops)
    before = magnitudes_of(network, crops)
    after = magnitudes_of(network, crops, found.layers)
    assert len(after) == 17
    for tensor, values in after.items():
        reached = (before[tensor] > 0) & (found.factors[tensor] < LARGEST_FACTOR)
        layer = named(found.layers, tensor)
        ceiling = layer.ceiling if isinstance(layer, Relu) else None
        target = before[tensor].max() if ceiling is None else ceiling
        np.testing.assert_allclose(values[reached], target, rtol=1e-4)
        assert (values <= target * (1 + 1e-4)).all()


@given(
    hnp.arrays(np.float64, 4, elements=st.floats(0, 1e6, width=32)),
    st.sampled_from([None, 6.0]),
)
def test_factors_are_at_least_one_and_bounded(
    magnitudes: npt.NDArray[np.float64], ceiling: float | None
) -> None:
    if ceiling is not None:
        magnitudes = np.minimum(magnitudes, ceiling)
    layers = chain(Relu("x", "made", ceiling), depthwise("read", "x"))
    factors = equalise(layers, {"x": magnitudes}).factors["x"]
    assert (factors >= 1).all()
    assert (factors <= LARGEST_FACTOR).all()
    target = magnitudes.max() if ceiling is None else ceiling
    wanted = np.clip(target / magnitudes[magnitudes > 0], 1, LARGEST_FACTOR)
    np.testing.assert_allclose(factors[magnitudes > 0], wanted)
    np.testing.assert_array_equal(factors[magnitudes == 0], 1)


@pytest.mark.parametrize(
    "magnitudes", [[0.0, 2.0, 1.0, 4.0], [0.0, 0.0, 0.0, 0.0], [np.nan, 2.0, 1.0, 4.0]]
)
def test_a_channel_that_is_always_zero_is_left_alone(magnitudes: list[float]) -> None:
    layers = chain(PRelu("x", "made", np.ones(4, np.float32)), depthwise("read", "x"))
    found = equalise(layers, {"x": np.array(magnitudes)}).layers
    for name in ("made", "read"):
        before, after = named(layers, name), named(found, name)
        np.testing.assert_array_equal(after.weight[0], before.weight[0])
    np.testing.assert_array_equal(named(found, "made").bias[0], named(layers, "made").bias[0])


def test_golden_weights_of_an_equalised_pair() -> None:
    layers = chain(PRelu("x", "made", np.full(4, 0.25, np.float32)), depthwise("read", "x"))
    found = equalise(layers, {"x": np.array([8.0, 4.0, 1.0, 0.001])})
    factors = np.array([1, 2, 8, LARGEST_FACTOR], np.float32).reshape(-1, 1, 1, 1)
    np.testing.assert_array_equal(found.factors["x"], factors.ravel())
    np.testing.assert_array_equal(found.factors["made"], factors.ravel())
    made, read = named(layers, "made"), named(layers, "read")
    np.testing.assert_array_equal(named(found.layers, "made").weight, made.weight * factors)
    np.testing.assert_array_equal(named(found.layers, "made").bias, made.bias * factors.ravel())
    np.testing.assert_array_equal(named(found.layers, "read").weight, read.weight / factors)
    assert named(found.layers, "x") is named(layers, "x")


# ------------------------------------------------------------------------- what is left alone


@pytest.mark.parametrize(
    ("groups", "tensors"),
    [(1, ["down_prelu"]), (2, ["down_prelu"]), (16, ["bounded", "down_prelu"])],
)
def test_only_what_a_depthwise_convolution_alone_reads_is_equalised(
    groups: int, tensors: list[str]
) -> None:
    """``stem_prelu`` is read by a depthwise convolution and by a sum, so it is left alone."""
    network = small_network(groups=groups)
    layers = fold(network.layers)
    assert equalised_tensors(layers) == tensors
    everything = {layer.name: np.linspace(0.1, 3, 48) for layer in layers}
    sizes = {name: network.shapes[name][0] for name in everything}
    found = equalise(layers, {name: values[: sizes[name]] for name, values in everything.items()})
    touched = {a.name for a, b in zip(found.layers, layers, strict=True) if a is not b}
    assert touched == (
        {"down", "whole_map"} | ({"depthwise", "project"} if groups == 16 else set())
    )


@pytest.mark.parametrize(
    "after",
    [
        (depthwise("read", INPUT, 3),),
        (Relu("x", INPUT), depthwise("read", "x", 3)),
        (random_conv(np.random.default_rng(1), "read", "made", (4, 4)),),
        (random_conv(np.random.default_rng(1), "read", "made", (4, 8), groups=4),),
        (random_conv(np.random.default_rng(1), "read", "made", (4, 1)),),
        (depthwise("read", "made"), Relu("other", "made")),
        (Relu("x", "made"), depthwise("read", "x"), Relu("other", "made")),
        (Relu("x", "made"), Relu("y", "x"), depthwise("read", "y")),
    ],
)
def test_what_cannot_be_equalised_is_left_alone(after: tuple[Layer, ...]) -> None:
    layers = chain(*after)
    assert equalised_tensors(layers) == []
    ones = {layer.name: np.array([1.0, 2.0, 3.0, 4.0]) for layer in layers}
    found = equalise(layers, ones)
    assert found.layers == layers
    assert found.factors == {}


def test_a_tensor_without_magnitudes_is_left_alone() -> None:
    layers = fold(small_network().layers)
    assert equalise(layers, {}).layers == layers


def test_two_depthwise_convolutions_in_a_row_are_both_equalised() -> None:
    layers = chain(depthwise("first", "made"), depthwise("second", "first"), Flatten("f", "second"))
    network = Network(layers, CROP, "arcface-112x112", Preprocessing.uniform("RGB", 127.5, 64.0))
    crops = random_crops(4, CROP)
    found = equalise(layers, magnitudes_of(network, crops))
    assert sorted(found.factors) == ["first", "made"]
    np.testing.assert_allclose(
        rows(network, crops, found.layers), rows(network, crops), rtol=0, atol=1e-5
    )
    for values in magnitudes_of(network, crops, found.layers).values():
        np.testing.assert_allclose(values, values.max(), rtol=1e-4)


# ------------------------------------------------------------------------- ReLU6


def test_under_a_ceiling_a_channel_is_cut_at_the_largest_value_measured() -> None:
    network = small_network(5, groups=16, ceiling=6.0)
    folded = fold(network.layers)
    magnitudes = magnitudes_of(network, random_crops(1, CROP))
    found = equalise(folded, magnitudes)
    others = random_crops(32, CROP, seed=4)
    before, after = (
        activations(replace(network, layers=layers), others)["bounded"]
        for layers in (folded, found.layers)
    )
    factors = found.factors["bounded"].reshape(-1, 1, 1)
    limit = np.where(factors > 1, 6.0 / factors, 6.0)
    assert (before > limit + 1e-3).any(), "no picture goes beyond what was measured"
    np.testing.assert_allclose(after / factors, np.minimum(before, limit), atol=1e-5)
    unbounded = magnitudes["bounded"] * LARGEST_FACTOR > 6
    np.testing.assert_allclose(
        limit.ravel()[unbounded], magnitudes["bounded"][unbounded], rtol=1e-5
    )


def test_a_channel_that_reaches_its_ceiling_is_not_scaled() -> None:
    layers = chain(Relu("x", "made", 6.0), depthwise("read", "x"))
    factors = equalise(layers, {"x": np.array([6.0, 3.0, 1.0, 0.0])}).factors["x"]
    np.testing.assert_array_equal(factors, [1, 2, 6, 1])


# ------------------------------------------------------------------------- magnitudes


@pytest.mark.parametrize("count", [1, 8, 11])
def test_magnitudes_are_the_true_largest_of_each_channel(count: int) -> None:
    network = small_network(2, groups=16)
    crops = random_crops(count, CROP)
    values = activations(network, crops)
    for tensor, found in magnitudes_of(network, crops).items():
        expected = np.abs(values[tensor]).max(axis=(0, 2, 3))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_no_picture_gives_no_magnitudes() -> None:
    with pytest.raises(ActivationSetError, match="no picture"):
        magnitudes_of(small_network(), random_crops(0, CROP))


# ------------------------------------------------------------------------- INT8


def cosine(before: FloatArray, after: FloatArray) -> float:
    return float((before * after).sum(axis=1).mean())


def int8_rows(
    network: Network, layers: tuple[Layer, ...], ranging: ImageArray, crops: ImageArray
) -> FloatArray:
    """Embeddings of ``crops`` by ``layers`` in INT8 and nothing else done to them."""
    model = emit(network, name="g", layers=layers)
    placement = place(model)
    ranges = collect_ranges(model, placement.tensors, ranging)
    return EmbeddingSession(insert_qdq(model, placement, ranges)).embed(crops)


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_int8_is_no_further_from_float_than_without_equalisation(name: str) -> None:
    network = settled_network(name)
    ranging = synthetic_crops(8, network.crop_size, seed=3)
    held_out = synthetic_crops(8, network.crop_size, seed=4)
    before = rows(network, held_out)
    plain = int8_rows(network, fold(network.layers), ranging, held_out)
    after = int8_rows(network, equalised(network, ranging).layers, ranging, held_out)
    # 1e-3: random nets have no channels far from the others, so there may be nothing to gain.
    assert cosine(before, after) >= cosine(before, plain) - 1e-3


def test_int8_is_closer_to_float_where_channels_differ_in_size() -> None:
    network = settled_network("mobilefacenet-xiaoccer")
    crops = synthetic_crops(8, network.crop_size, seed=3)
    spread = with_channels_apart(network, decades=2.0)
    before = rows(spread, crops)
    plain = int8_rows(spread, spread.layers, crops, crops)
    after = int8_rows(spread, equalised(spread, crops).layers, crops, crops)
    assert 1 - cosine(before, after) < 0.2 * (1 - cosine(before, plain))


def with_channels_apart(network: Network, *, decades: float) -> Network:
    """``network``, with the channels that its last depthwise convolution reads far apart."""
    layers = fold(network.layers)
    tensor = equalised_tensors(layers)[-1]
    # Said to differ, which they do not, they are driven apart.
    magnitudes = 10 ** -np.linspace(0, decades, network.shapes[tensor][0])
    return replace(network, layers=equalise(layers, {tensor: magnitudes}).layers)


def test_without_pictures_nothing_is_equalised() -> None:
    network = small_network(groups=16)
    made = quantise(network, None, QuantiseOptions())
    for layer, expected in zip(made.layers, fold(network.layers), strict=True):
        if isinstance(layer, Conv) and isinstance(expected, Conv):
            np.testing.assert_array_equal(layer.weight, expected.weight)


def test_the_layers_of_an_int8_graph_are_those_it_was_made_of() -> None:
    network = small_network(groups=16)
    crops = random_crops(8, CROP)
    made = quantise(network, crops, QuantiseOptions())
    expected = equalised(network, crops).layers
    for layer, other in zip(made.layers, expected, strict=True):
        if isinstance(layer, Conv) and isinstance(other, Conv):
            np.testing.assert_array_equal(layer.weight, other.weight)

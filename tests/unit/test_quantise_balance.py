"""Moving and scaling channels for INT8: the same function, with less noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.types import FloatArray, ImageArray, Size
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    Conv,
    Flatten,
    Gate,
    GlobalAveragePool,
    Layer,
    Linear,
    Network,
    PRelu,
    Preprocessing,
    Relu,
    Sigmoid,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edgeface_export.graph.emit import emit, fold  # noqa: E402
from edgeface_export.graph.session import EmbeddingSession  # noqa: E402
from edgeface_export.probes import synthetic_crops  # noqa: E402
from edgeface_export.quantise import QuantiseOptions, quantise  # noqa: E402
from edgeface_export.quantise.activations import Activations  # noqa: E402
from edgeface_export.quantise.balance import Read, balance  # noqa: E402
from edgeface_export.quantise.centre import centre  # noqa: E402
from edgeface_export.quantise.noise import SymmetricCoding, UnsignedCoding  # noqa: E402
from edgeface_export.quantise.offsets import offset  # noqa: E402
from edgeface_export.quantise.placement import place  # noqa: E402
from edgeface_export.quantise.qdq import insert_qdq  # noqa: E402
from edgeface_export.quantise.ranges import TensorRange, collect_ranges  # noqa: E402
from edgeface_export.quantise.spaces import gains_of, scaled, spaces_of  # noqa: E402
from edgeface_export.quantise.statistics import BINS, ChannelStatistics  # noqa: E402
from tests.builders_export import (  # noqa: E402
    CROP,
    LAYOUT_NAMES,
    random_conv,
    random_crops,
    settled_network,
    small_network,
)

RGB = Preprocessing.uniform("RGB", 127.5, 64.0)


def rows(network: Network, crops: ImageArray, layers: Any = None) -> FloatArray:
    return EmbeddingSession(emit(network, name="g", layers=layers)).embed(crops)


def balanced(network: Network, layers: tuple[Layer, ...], found: dict[str, Any]) -> Any:
    gains = gains_of(layers, {name: shape[0] for name, shape in network.shapes.items()})
    reads = {
        name: Read(SymmetricCoding(entry), gains[name], entry.variance)
        for name, entry in found.items()
    }
    return balance(layers, spaces_of(layers), reads, gains)


# ------------------------------------------------------------------------- the same function


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 1000), st.sampled_from([1, 2, 16]), st.sampled_from([None, 6.0]), st.booleans()
)
def test_the_float_graph_that_was_quantised_computes_the_same(
    seed: int, groups: int, ceiling: float | None, linear: bool
) -> None:
    network = small_network(seed, groups=groups, ceiling=ceiling, linear=linear)
    crops = random_crops(16, CROP, seed=seed)
    made = quantise(network, crops, QuantiseOptions())
    found = EmbeddingSession(made.float_model).embed(crops)
    # A ReLU6 that is cut where INT8 would cut it, and half a grey level of padding.
    np.testing.assert_allclose(found, rows(network, crops), rtol=0, atol=2e-2)


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_centred_layers_compute_the_same(name: str) -> None:
    network = settled_network(name)
    crops = synthetic_crops(4, network.crop_size, seed=2)
    activations = Activations.measure(network, crops)
    layers, shifts = centre(activations.layers, activations.measured)
    adds = {x.name for x in layers if isinstance(x, Add)}
    assert adds <= set(shifts), "a residual stream keeps its mean"
    np.testing.assert_allclose(
        rows(network, crops, layers), rows(network, crops), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_balanced_layers_compute_the_same_but_for_cut_ceilings(name: str) -> None:
    network = settled_network(name)
    crops = synthetic_crops(8, network.crop_size, seed=2)
    activations = Activations.measure(network, crops)
    tensors = place(emit(network, name="g")).tensors
    done = balanced(network, activations.layers, {t: activations.of(t) for t in tensors})
    bounded = any(isinstance(x, Relu) and x.ceiling is not None for x in activations.layers)
    difference = np.abs(rows(network, crops, done.layers) - rows(network, crops)).max()
    assert difference < (0.05 if bounded else 1e-5)
    for tensor, factors in done.factors.items():
        assert (factors > 0).all(), tensor
        assert np.isfinite(factors).all(), tensor


def test_layers_keep_their_order_their_names_and_what_they_read() -> None:
    network = small_network(groups=16)
    made = quantise(network, random_crops(8, CROP), QuantiseOptions())
    assert [(type(a), a.name, a.input) for a in made.layers] == [
        (type(b), b.name, b.input) for b in fold(network.layers)
    ]


# ------------------------------------------------------------------------- spaces


def network_of(*layers: Layer) -> Network:
    return Network(layers, CROP, "arcface-112x112", RGB)


def conv(name: str, x: str, shape: tuple[int, int] = (8, 8), **options: Any) -> Conv:
    return random_conv(np.random.default_rng(len(name)), name, x, shape, bias=True, **options)


def spaces_by_first(*layers: Layer) -> dict[str, Any]:
    return {space.tensors[0]: space for space in spaces_of(layers)}


def test_a_residual_stream_is_one_space_with_all_that_make_and_read_it() -> None:
    found = spaces_by_first(
        conv("a", INPUT, (3, 8)), conv("b", "a"), Add("s", "b", "a"), conv("c", "s")
    )
    space = found["b"]
    assert sorted(space.tensors) == ["a", "b", "s"]
    assert sorted(space.makers) == ["a", "b"]
    assert sorted(space.readers) == ["b", "c"]
    assert space.free
    assert not found[INPUT].free
    assert not found["c"].free, "the embedding must not be scaled"


def test_what_does_not_commute_with_a_factor_is_not_scaled() -> None:
    found = spaces_by_first(
        conv("a", INPUT, (3, 8)),
        GlobalAveragePool("mean", "a"),
        conv("squeeze", "mean"),
        Sigmoid("share", "squeeze"),
        Gate("gated", "a", "share"),
        conv("out", "gated"),
    )
    assert found["a"].free
    assert sorted(found["a"].tensors) == ["a", "gated", "mean"]
    assert not found["squeeze"].free
    assert not found["share"].free


def test_a_bounded_relu_in_a_sum_is_not_scaled() -> None:
    layers: list[Layer] = [conv("a", INPUT, (3, 8)), Relu("r", "a", 6.0), conv("b", "r")]
    assert spaces_by_first(*layers)["a"].ceiling == 6.0
    assert spaces_by_first(*layers)["a"].free
    found = spaces_by_first(*layers, Add("s", "b", "r"), conv("c", "s"))
    assert not found["b"].free


def test_gains_are_those_of_squared_weights_all_the_way_to_the_embedding() -> None:
    first = Conv("a", INPUT, np.ones((2, 3, 1, 1), np.float32))
    bend = PRelu("p", "a", np.array([0.5, -2.0], np.float32))
    last = Linear("e", "f", np.array([[1.0, 2.0], [3.0, 0.0]], np.float32))
    layers: list[Layer] = [first, bend, Flatten("f", "p"), last]
    channels = {INPUT: 3, "a": 2, "p": 2, "f": 2, "e": 2}
    gains = gains_of(layers, channels, {"a": np.array([0.0, 1.0])})
    np.testing.assert_allclose(gains["p"], [10.0, 4.0])
    np.testing.assert_allclose(gains["a"], [10.0, 16.0])
    np.testing.assert_allclose(gains[INPUT], [26.0] * 3)


# ------------------------------------------------------------------------- less noise


def made_of(values: npt.NDArray[np.float64]) -> ChannelStatistics:
    """The statistics of (channels, n) values."""
    low, high = values.min(axis=1), values.max(axis=1)
    counts = [np.histogram(c, BINS, (a, b))[0] for c, a, b in zip(values, low, high, strict=True)]
    return ChannelStatistics(low, high, values.mean(axis=1), np.array(counts, np.int32))


def test_the_error_told_is_the_error_made() -> None:
    values = np.random.default_rng(0).normal(size=(1, 400_000)) * 3
    for magnitude in (6.0, 12.0, 20.0):
        coding = SymmetricCoding(made_of(values))
        told = coding.error(np.array([[-magnitude]]), np.array([[magnitude]])).item()
        step = magnitude / 127
        coded = np.clip(np.rint(values / step), -127, 127) * step
        inside = np.abs(values) <= magnitude
        squares = (coded - values) ** 2 * np.where(inside, 1.0, 4.0)
        assert told == pytest.approx(squares.mean(), rel=0.1)


def test_a_negative_slope_turns_values_up_where_they_may_be_cut() -> None:
    values = np.random.default_rng(0).uniform(-4, 1, (1, 100_000))
    gentle, steep = (UnsignedCoding(made_of(values), np.array([a])) for a in (-0.1, -1.0))
    low, high = np.array([[-4.0]]), np.array([[1.0]])
    assert gentle.error(low, high) < 0.01 < steep.error(low, high)


def with_channels_apart(network: Network, *, decades: float) -> tuple[Layer, ...]:
    """The folded layers of ``network`` with the channels of every free space far apart."""
    by_name = {layer.name: layer for layer in fold(network.layers)}
    for space in spaces_of(tuple(by_name.values())):
        maker = by_name[space.makers[0]] if space.makers else None
        if space.free and isinstance(maker, Conv):
            apart = 10 ** np.linspace(0, -decades, len(maker.weight))
            by_name |= scaled(by_name, space, apart)
    return tuple(by_name.values())


def test_int8_is_closer_to_float_where_channels_differ_in_size() -> None:
    network = settled_network("mobilefacenet-xiaoccer")
    crops = synthetic_crops(8, network.crop_size, seed=3)
    spread = replace(network, layers=with_channels_apart(network, decades=1.5))
    expected = rows(network, crops)
    np.testing.assert_allclose(rows(spread, crops), expected, rtol=0, atol=1e-4)
    model = emit(spread, name="g")
    placement = place(model)
    plain = insert_qdq(model, placement, collect_ranges(model, placement.tensors, crops))
    ours = quantise(spread, crops, QuantiseOptions(float_share=0.0)).model
    lost = [
        1 - (EmbeddingSession(m).embed(crops) * expected).sum(axis=1).mean() for m in (plain, ours)
    ]
    assert lost[1] < 0.2 * lost[0]


# ------------------------------------------------------------------------- one-sided tensors


@pytest.mark.parametrize("mean", [127.5, 128.0, 127.0])
def test_the_picture_is_exact_in_int8_where_its_mean_is_the_middle(mean: float) -> None:
    network = small_network(preprocessing=Preprocessing.uniform("RGB", mean, 128.0))
    made = quantise(network, random_crops(8, CROP), QuantiseOptions())
    every = np.zeros((1, CROP.height_px, CROP.width_px, 3), np.uint8)
    every.ravel()[:256] = np.arange(256)
    codes = EmbeddingSession(
        outputs_of(made.model, f"{INPUT}.quantised"), outputs=[f"{INPUT}.quantised"]
    ).run(every)[0]
    exact = abs(mean - 128.0) <= 0.5
    assert (made.ranges[INPUT].method == "exact") == exact
    if exact:
        np.testing.assert_array_equal(
            codes[0].transpose(1, 2, 0).ravel()[:256], np.arange(256) - 128
        )


def outputs_of(model: Any, name: str) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT8, None))
    return copy


@pytest.mark.parametrize("ceiling", [None, 6.0])
def test_a_relu_that_no_padding_reads_uses_both_signs(ceiling: float | None) -> None:
    layers = (
        random_conv(np.random.default_rng(0), "stem", INPUT, (3, 16), (3, 3), padding=1, bias=True),
        Relu("bend", "stem", ceiling),
        conv("next", "bend", (16, 16)),
        Relu("end", "next", ceiling),
        random_conv(np.random.default_rng(1), "embed", "end", (16, 8), (16, 12), bias=True),
        Flatten("flat", "embed"),
    )
    network = Network(layers, Size(12, 16), "arcface-112x112", RGB)
    crops = random_crops(8, network.crop_size)
    ranges = {name: TensorRange(0.0, 3.0, "mse") for name in ("bend", "end")}
    moved = offset(network, layers, ranges, {}, name="g")
    assert {n: (e.low, e.high) for n, e in moved.ranges.items()} == dict.fromkeys(
        ("bend", "end"), (-1.5, 1.5)
    )
    assert "Relu" not in {node.op_type for node in moved.model.graph.node}
    np.testing.assert_allclose(
        EmbeddingSession(moved.model).embed(crops), rows(network, crops), rtol=0, atol=1e-5
    )


def test_what_padding_reads_keeps_its_zero() -> None:
    network = small_network(groups=16)
    made = quantise(network, random_crops(8, CROP), QuantiseOptions(float_share=0.0))
    padded = {x.input for x in network.layers if isinstance(x, Conv) and x.padding}
    centred = {t.removesuffix(".centred") for t in made.ranges if t.endswith(".centred")}
    assert centred
    assert not centred & padded


def test_pictures_not_quite_like_what_comes_get_wider_ranges() -> None:
    network = small_network()
    crops = random_crops(16, CROP)
    plain, wide = (
        quantise(network, crops, QuantiseOptions(slack=s, method="minmax")) for s in (1.0, 1.5)
    )
    assert wide.ranges[INPUT] == plain.ranges[INPUT]
    wider = [wide.ranges[t].scale / plain.ranges[t].scale for t in plain.ranges if t != INPUT]
    assert min(wider) > 0.9
    assert max(wider) > 1.2

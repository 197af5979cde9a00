"""Ranges that BatchNorm's statistics tell."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.errors import (
    ArchitectureError,
)
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    Layer,
    Linear,
    Network,
    PRelu,
    Preprocessing,
    Relu,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

helper, numpy_helper = onnx.helper, onnx.numpy_helper

from edgeface_export.graph.emit import emit  # noqa: E402
from edgeface_export.probes import synthetic_crops  # noqa: E402
from edgeface_export.quantise.data_free import data_free_ranges  # noqa: E402
from edgeface_export.quantise.placement import place  # noqa: E402
from tests.builders_export import (  # noqa: E402
    CROP,
    LAYOUT_NAMES,
    activations,
    emitted_as,
    settled_network,
    small_network,
)


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_batchnorm_tells_a_range_for_every_placed_tensor(name: str) -> None:
    network = settled_network(name)
    tensors = place(emit(network, name="g")).tensors
    found = data_free_ranges(network, tensors)
    assert sorted(found) == sorted(tensors)
    for tensor, entry in found.items():
        assert np.isfinite(entry.magnitude), tensor
        assert entry.low <= 0 <= entry.high, tensor
        assert entry.magnitude > 0, tensor
    for layer in network.layers:
        if isinstance(layer, Relu) and layer.name in found:
            assert found[layer.name].low == 0
            assert layer.ceiling is None or found[layer.name].high <= layer.ceiling


@pytest.mark.parametrize("name", LAYOUT_NAMES)
def test_data_free_ranges_cover_what_pictures_give_and_not_much_more(name: str) -> None:
    network = settled_network(name)
    tensors = place(emit(network, name="g")).tensors
    found = data_free_ranges(network, tensors)
    values = activations(network, synthetic_crops(12, network.crop_size, seed=3))
    for tensor in tensors:
        if tensor != INPUT:
            seen = np.quantile(np.abs(values[emitted_as(network, tensor)]), 0.999)
            assert 0.8 * seen < found[tensor].magnitude < 12 * seen, tensor


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        (Preprocessing.uniform("RGB", 0, 255), 0.0, 1.0),
        (Preprocessing.uniform("RGB", 127.5, 127.5), -1.0, 1.0),
        (Preprocessing.uniform("RGB", 127.5, 128), -127.5 / 128, 127.5 / 128),
        (Preprocessing.uniform("RGB", 255, 1), -255.0, 0.0),
        (Preprocessing.uniform("RGB", -10, 1), 0.0, 265.0),
        (
            Preprocessing("BGR", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
            -123.675 / 58.395,
            (255 - 103.53) / 57.375,
        ),
    ],
)
def test_the_range_of_the_input_is_exact(spec: Preprocessing, low: float, high: float) -> None:
    found = data_free_ranges(small_network(preprocessing=spec), [INPUT])[INPUT]
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.method == "exact"


def one_channel(mean: float, deviation: float, *after: Layer) -> Network:
    """A network whose first BatchNorm gives the moments stated."""
    one = np.ones(1, np.float32)
    norm = BatchNorm("n", "c", one * np.float32(deviation), one * np.float32(mean), one * 0, one)
    last = after[-1].name if after else "n"
    conv = Conv("c", INPUT, np.ones((1, 3, 1, 1), np.float32))
    return Network(
        (conv, norm, *after, Flatten("f", last)), CROP, "t", Preprocessing.uniform("RGB", 0, 1)
    )


def moments(network: Network, tensor: str) -> tuple[float, float]:
    """The mean and the deviation that a range of one channel was made of."""
    still, wide = (data_free_ranges(network, [tensor], deviations=k)[tensor] for k in (0.0, 1.0))
    mean = still.low + still.high
    return mean, wide.high - mean if mean >= 0 else mean - wide.low


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-3.0, 0.5), (2.0, 2.0), (1.0, 0.0)])
def test_batchnorm_gives_beta_and_the_size_of_gamma(mean: float, deviation: float) -> None:
    for sign in (1, -1):
        network = one_channel(mean, sign * deviation)
        assert moments(network, "c") == pytest.approx((mean, deviation))


@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.25, 1.0, 2.0])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-1.5, 0.7), (2.0, 1.0), (-4.0, 0.5)])
def test_moments_through_prelu_are_those_of_a_million_gaussians(
    mean: float, deviation: float, slope: float
) -> None:
    network = one_channel(mean, deviation, PRelu("p", "n", np.array([slope], np.float32)))
    x = np.random.default_rng(0).normal(mean, deviation, 1_000_000)
    y = np.where(x > 0, x, slope * x)
    assert moments(network, "p") == pytest.approx((y.mean(), y.std()), abs=5e-3)


def test_moments_through_relu_are_those_of_a_million_gaussians() -> None:
    x = np.random.default_rng(0).normal(-0.5, 1.0, 1_000_000)
    y = np.maximum(x, 0)
    found = moments(one_channel(-0.5, 1.0, Relu("r", "n")), "r")
    assert found == pytest.approx((y.mean(), y.std()), abs=5e-3)


@pytest.mark.parametrize(("ceiling", "high"), [(None, None), (6.0, 6.0), (1.0, 1.0), (1e6, None)])
def test_a_range_ends_at_zero_and_at_the_ceiling_of_its_relu(
    ceiling: float | None, high: float | None
) -> None:
    found = data_free_ranges(one_channel(2.0, 3.0, Relu("r", "n", ceiling)), ["r"])["r"]
    assert found.low == 0
    assert found.high == high if high is not None else found.high > 10


def test_means_of_a_sum_add_and_deviations_add_in_squares() -> None:
    network = one_channel(3.0, 2.0, Add("s", input="n", skip="n"))
    assert moments(network, "s") == pytest.approx((6.0, np.hypot(2.0, 2.0)))


def test_a_channel_that_never_varies_has_its_mean_for_a_range() -> None:
    network = one_channel(-2.0, 0.0, PRelu("p", "n", np.array([0.25], np.float32)))
    assert moments(network, "p") == pytest.approx((-0.5, 0.0))


def test_more_deviations_give_wider_ranges() -> None:
    network = one_channel(1.0, 2.0)
    found = [data_free_ranges(network, ["c"], deviations=k)["c"] for k in (0.25, 1, 6)]
    assert [entry.low for entry in found] == pytest.approx([0.0, -1.0, -11.0])
    assert [entry.high for entry in found] == pytest.approx([1.5, 3.0, 13.0])


def test_a_tensor_without_a_batchnorm_before_it_has_no_range() -> None:
    rng = np.random.default_rng(0)
    conv = Conv("c", INPUT, rng.standard_normal((16, 3, 1, 1)).astype(np.float32))
    linear = Linear("l", "f", np.ones((4, 16 * 192), np.float32))
    network = Network(
        (conv, Flatten("f", "c"), linear), CROP, "t", Preprocessing.uniform("RGB", 0, 1)
    )
    for tensor in ("c", "f", "l", "nowhere"):
        with pytest.raises(ArchitectureError, match=f"{tensor}: no BatchNorm"):
            data_free_ranges(network, [tensor])

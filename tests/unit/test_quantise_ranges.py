"""Ranges that are measured on pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeface.errors import (
    ActivationSetError,
    InvalidInputError,
)
from edgeface_export.architectures.network import (
    INPUT,
    Network,
)

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

helper, numpy_helper = onnx.helper, onnx.numpy_helper

from edgeface_export.quantise import noise, statistics  # noqa: E402
from edgeface_export.quantise.placement import place  # noqa: E402
from edgeface_export.quantise.ranges import (  # noqa: E402
    METHODS,
    TensorRange,
    choose_range,
    collect_ranges,
)
from edgeface_export.quantise.statistics import BINS, ChannelStatistics  # noqa: E402
from tests.builders_export import (  # noqa: E402
    CROP,
    activations,
    emitted_as,
    random_crops,
    set_constant,
    small_model,
)


def values_of(network: Network, model: Any, crops: Any) -> dict[str, npt.NDArray[np.float64]]:
    """Every value of each placed tensor by a float64 forward of the unfolded layers."""
    values = activations(network, crops)
    return {
        name: np.sort(values[emitted_as(network, name)].ravel()) for name in place(model).tensors
    }


@pytest.mark.parametrize(
    ("ends", "magnitude"), [((-2.0, 1.0), 2.0), ((-0.5, 1.0), 1.0), ((0.0, 3.0), 3.0)]
)
def test_the_step_of_a_range_is_that_of_its_larger_side(
    ends: tuple[float, float], magnitude: float
) -> None:
    entry = TensorRange(*ends, "minmax")
    assert entry.magnitude == magnitude
    assert entry.scale == pytest.approx(magnitude / 127)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_minmax_is_the_true_smallest_and_largest_value(count: int) -> None:
    network, model = small_model(4)
    crops = random_crops(count, CROP)
    found = collect_ranges(model, place(model).tensors, crops, method="minmax")
    for name, values in values_of(network, model, crops).items():
        assert found[name].low == pytest.approx(min(0.0, values[0]), rel=1e-5)
        assert found[name].high == pytest.approx(max(0.0, values[-1]), rel=1e-5)
        assert found[name].method == "minmax"


@pytest.mark.parametrize("symmetric", [False, True])
def test_minmax_agrees_with_the_calibrator_of_onnxruntime(tmp_path: Path, symmetric: bool) -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    _, model = small_model(5)
    crops = random_crops(10, CROP)
    onnx.save(model, tmp_path / "model.onnx")
    rows = iter([{"crops": crops[k : k + 1]} for k in range(len(crops))])
    reader = type(
        "Reader", (calibrate.CalibrationDataReader,), {"get_next": lambda self: next(rows, None)}
    )
    calibrator = calibrate.create_calibrator(
        str(tmp_path / "model.onnx"),
        augmented_model_path=str(tmp_path / "augmented.onnx"),
        extra_options={"symmetric": symmetric},
    )
    calibrator.collect_data(reader())
    theirs = calibrator.compute_data().data
    ours = collect_ranges(model, place(model).tensors, crops, method="minmax")
    for name, entry in ours.items():
        low, high = (float(np.squeeze(value)) for value in theirs[name].range_value)
        if symmetric:
            assert (low, high) == pytest.approx((-entry.magnitude, entry.magnitude), rel=1e-6)
        else:
            expected = (min(0.0, low), max(0.0, high))
            assert (entry.low, entry.high) == pytest.approx(expected, rel=1e-6)


def test_the_hundredth_percentile_is_minmax_to_within_a_bin() -> None:
    _, model = small_model(6)
    tensors, crops = place(model).tensors, random_crops(9, CROP)
    widest = collect_ranges(model, tensors, crops, method="minmax")
    hundred = collect_ranges(model, tensors, crops, method="percentile", percentile=100)
    for name in tensors:
        bin_width = (widest[name].high - widest[name].low) / BINS * (1 + 1e-6)
        assert abs(hundred[name].low - widest[name].low) <= bin_width
        assert abs(hundred[name].high - widest[name].high) <= bin_width


@pytest.mark.parametrize("percentile", [60.0, 90.0, 99.0, 99.9, 99.999])
def test_a_percentile_leaves_half_of_the_rest_on_either_side(
    percentile: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_MAX_POSITIONS", 10**6)
    network, model = small_model(7)
    tensors, crops = place(model).tensors, random_crops(20, CROP)
    found = collect_ranges(model, tensors, crops, method="percentile", percentile=percentile)
    outside = (1 - percentile / 100) / 2
    for name, values in values_of(network, model, crops).items():
        entry = found[name]
        # Zero is always in the range, whatever share lies below or above it.
        bin_width = (max(0.0, values[-1]) - min(0.0, values[0])) / BINS * 1.01
        one = 1 / len(values)
        assert (values < entry.low - bin_width).mean() <= outside + one
        assert (values > entry.high + bin_width).mean() <= outside + one
        assert entry.low == 0 or (values < entry.low + bin_width).mean() >= outside - one
        assert entry.high == 0 or (values > entry.high - bin_width).mean() >= outside - one


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_the_batches(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = small_model(8)
    tensors, crops = place(model).tensors, random_crops(11, CROP)
    found = []
    for size in (1, 4, 11, 100):
        monkeypatch.setattr(statistics, "BATCH", size)
        result = collect_ranges(model, tensors, crops, method=method)
        found.append([(result[name].low, result[name].high) for name in tensors])
    np.testing.assert_allclose(found, [found[0]] * 4, rtol=2e-4, atol=2e-3)


def test_ranges_do_not_depend_on_the_order_of_the_pictures() -> None:
    _, model = small_model(9)
    tensors, crops = place(model).tensors, random_crops(16, CROP)
    there = collect_ranges(model, tensors, crops)
    back = collect_ranges(model, tensors, crops[::-1])
    for name in tensors:
        assert there[name].low == pytest.approx(back[name].low, rel=2e-4, abs=2e-3)
        assert there[name].high == pytest.approx(back[name].high, rel=2e-4, abs=2e-3)


def test_no_picture_gives_no_range() -> None:
    _, model = small_model()
    with pytest.raises(ActivationSetError, match="no picture"):
        collect_ranges(model, place(model).tensors, random_crops(0, CROP))


@pytest.mark.parametrize(
    ("method", "percentile", "said"),
    [
        ("", 99.0, "unknown range method ''"),
        ("largest", 99.0, "auto.*minmax.*percentile.*mse.*entropy"),
        ("percentile", 50.0, "50..100"),
        ("percentile", 100.1, "50..100"),
        ("percentile", 0.999, "50..100"),
        ("percentile", np.nan, "50..100"),
    ],
)
def test_ways_to_set_ranges_that_do_not_exist_are_refused(
    method: str, percentile: float, said: str
) -> None:
    _, model = small_model()
    with pytest.raises(InvalidInputError, match=said):
        collect_ranges(model, [INPUT], random_crops(1, CROP), method=method, percentile=percentile)


@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (0.0, "is zero")]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_that_is_nan_or_zero_on_every_picture_is_named(
    method: str, value: float, said: str
) -> None:
    _, model = small_model()
    set_constant(model, "stem.bias", np.full(16, value, np.float32))
    if value == 0:
        set_constant(model, "stem.weight", np.zeros((16, 3, 3, 3), np.float32))
    with pytest.raises(ActivationSetError, match=f"'stem_prelu' .*{said}"):
        collect_ranges(model, ["stem_prelu"], random_crops(2, CROP), method=method)


def test_only_a_part_of_a_large_map_is_counted_and_tells_the_same() -> None:
    network, model = small_model(3)
    crops = random_crops(40, CROP)
    whole = statistics.collect_statistics(model, [INPUT, "stem_prelu"], crops)
    for name, entry in whole.items():
        values = activations(network, crops)[emitted_as(network, name)]
        flat = values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1)
        counted = entry.counts.sum(axis=1)
        assert (counted < flat.shape[1] if name == INPUT else counted == flat.shape[1]).all()
        np.testing.assert_allclose(entry.low, flat.min(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(entry.high, flat.max(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(entry.mean, flat.mean(axis=1), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(entry.variance, flat.var(axis=1), rtol=0.1)


# ------------------------------------------------------------------------- the choice


def made_of(*channels: npt.NDArray[np.floating]) -> ChannelStatistics:
    """The statistics of channels with the values given."""
    low, high, mean = (
        np.array([f(c) for c in channels], np.float64) for f in (np.min, np.max, np.mean)
    )
    counts = [np.histogram(c, BINS, (a, b))[0] for c, a, b in zip(channels, low, high, strict=True)]
    return ChannelStatistics(low, high, mean, np.array(counts, np.int32))


def error_of(entry: TensorRange, values: npt.NDArray[np.floating]) -> float:
    coded = np.clip(np.rint(values / entry.scale), -127, 127) * entry.scale
    return float(((coded - values) ** 2).mean())


NORMAL = np.random.default_rng(0).normal(size=200_000)
HEAVY = np.random.default_rng(1).standard_t(3, size=200_000)


@pytest.mark.parametrize("values", [NORMAL, HEAVY, np.abs(NORMAL), HEAVY - 1.0])
def test_mse_is_within_a_tenth_of_the_least_squared_error_there_is(
    values: npt.NDArray[np.floating], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "CUT_WEIGHT", 1.0)
    found = error_of(choose_range(made_of(values), method="mse"), values)
    largest = float(np.abs(values).max())
    tried = [TensorRange(-m, m, "") for m in np.geomspace(0.02, 1, 200) * largest]
    assert found < 1.1 * min(error_of(entry, values) for entry in tried)


def test_entropy_cuts_an_outlier_that_minmax_keeps() -> None:
    entry = made_of(np.append(NORMAL, [40.0]))
    assert choose_range(entry, method="minmax").magnitude == 40.0
    assert 2.5 < choose_range(entry, method="entropy").magnitude < 8.0


def test_auto_cuts_what_costs_more_steps_than_it_is_worth() -> None:
    for outlier, kept in ((4.5, True), (12.0, False)):
        found = choose_range(made_of(np.append(NORMAL, [outlier])), method="auto")
        assert (found.magnitude > 0.9 * outlier) == kept


def test_entropy_keeps_the_whole_of_an_even_distribution() -> None:
    values = np.random.default_rng(2).uniform(-1, 1, 200_000)
    assert choose_range(made_of(values), method="entropy").magnitude > 0.9


@pytest.mark.parametrize("values", [NORMAL, HEAVY, np.maximum(NORMAL, 0), np.tanh(3 * NORMAL)])
def test_auto_is_no_worse_than_any_method_and_says_which_it_took(
    values: npt.NDArray[np.floating],
) -> None:
    entry = made_of(values)
    coding = noise.SymmetricCoding(entry)
    errors = {}
    for method in METHODS:
        found = choose_range(entry, method=method)
        ends = np.array([[-found.magnitude, found.magnitude]])
        errors[method] = float(noise.ranges_error(coding, ends, np.ones(1))[0])
    assert errors["auto"] == min(errors.values())
    chosen = choose_range(entry, method="auto").method
    assert chosen in METHODS[1:]
    assert errors[chosen] == errors["auto"]


def test_auto_cares_more_about_channels_that_are_read_more() -> None:
    wide, narrow = made_of(20 * NORMAL, NORMAL), np.array([1e-6, 1.0])
    even = choose_range(wide, method="auto", gains=np.ones(2))
    small = choose_range(wide, method="auto", gains=narrow)
    assert small.magnitude <= even.magnitude


# ------------------------------------------------------------------------- memory


_GROWTH = """
import resource, sys
import numpy as np
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.quantise import QuantiseOptions, quantise
from edgeface_export.quantise.activations import Activations
from edgeface_export.quantise.integer_fit import quantise_integer
from tests.builders_export import MOBILEFACENETS, STANDARD, random_state

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

layout = MOBILEFACENETS["mobilefacenet-xiaoccer"]
network = layout.build(random_state(layout, widths=STANDARD))
crops = np.random.default_rng(0).integers(0, 256, (int(sys.argv[1]), 112, 112, 3), np.uint8)
EmbeddingSession(emit(network, name="g")).embed(crops[:8])
before = peak_mb()
activations = Activations.measure(network, crops)
quantise(network, crops, QuantiseOptions(), activations=activations)
quantise_integer(network, crops, QuantiseOptions(), activations=activations)
print(peak_mb() - before)
"""


@pytest.mark.slow
def test_a_thousand_pictures_take_less_than_300_mb_above_the_model(repository: Path) -> None:
    folders = [repository, repository / "export"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    few, many = (
        float(
            subprocess.run(
                [sys.executable, "-c", _GROWTH, str(count)],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for count in (128, 1000)
    )
    assert many < 300
    assert many < few + 50


_PEAK = """
import sys, tracemalloc
from edgeface.types import Size
from edgeface_export.graph.emit import emit
from edgeface_export.quantise.placement import place
from edgeface_export.quantise.ranges import collect_ranges
from tests.builders_export import random_crops, small_network
size = Size(32, 32)
model = emit(small_network(crop=size), name="g")
crops = random_crops(int(sys.argv[1]), size)
collect_ranges(model, place(model).tensors, crops[:8])
tracemalloc.start()
collect_ranges(model, place(model).tensors, crops)
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_does_not_grow_with_the_number_of_pictures(repository: Path) -> None:
    folders = [repository, repository / "export"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", _PEAK, str(count)],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for count in (16, 320)
    )
    assert many < 1.2 * few

"""Random networks and checkpoints, with BatchNorm statistics that belong to their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeface.bundle import Bundle, Manifest, ModelSource, Verdict
from edgeface.types import FloatArray, ImageArray, OperatingPoint, Size
from edgeface_export.architectures import LAYOUTS
from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilefacenet import Bottleneck, MobileFaceNetLayout
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
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
from edgeface_export.probes import synthetic_crops
from tests.builders import tiny_onnx

State = dict[str, FloatArray]
CROP = Size(12, 16)
"""Of the small networks."""
Activations = dict[str, npt.NDArray[np.float64]]

MOBILEFACENETS = {
    layout.name: layout for layout in LAYOUTS if isinstance(layout, MobileFaceNetLayout)
}
LAYOUT_NAMES = sorted(MOBILEFACENETS)


@dataclass(frozen=True)
class Widths:
    """Channels of a MobileFaceNet: of its stem, its three stages, its wide layers, its end."""

    stem: int = 16
    stages: tuple[int, int, int] = (16, 24, 24)
    hidden: tuple[int, int, int] = (24, 32, 32)
    hidden_strided: tuple[int, int, int] = (24, 32, 40)
    last: int = 48
    embedding: int = 32
    kernel: tuple[int, int] = (7, 7)


STANDARD = Widths(64, (64, 128, 128), (128, 256, 256), (128, 256, 512), 512, 128)
"""Those of the paper's table 1."""


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> FloatArray:
    return np.asarray(rng.standard_normal(shape) * scale, np.float32)


def random_norm(rng: np.random.Generator, name: str, x: str, channels: int) -> BatchNorm:
    gamma = np.asarray(rng.uniform(0.6, 1.4, channels), np.float32)
    mean, variance = normal(rng, channels, scale=0.3), rng.uniform(0.5, 2.0, channels)
    beta = normal(rng, channels, scale=0.3)
    return BatchNorm(name, x, gamma, beta, mean, np.asarray(variance, np.float32))


def random_conv(
    rng: np.random.Generator,
    name: str,
    x: str,
    sizes: tuple[int, int],
    kernel: tuple[int, int] = (1, 1),
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = False,
) -> Conv:
    """A convolution from ``sizes[0]`` to ``sizes[1]`` channels that keeps the variance of noise."""
    per_group = sizes[0] // groups
    scale = (per_group * kernel[0] * kernel[1]) ** -0.5
    weight = normal(rng, sizes[1], per_group, *kernel, scale=scale)
    return Conv(name, x, weight, normal(rng, sizes[1]) if bias else None, stride, padding, groups)


def small_network(
    seed: int = 0,
    *,
    preprocessing: Preprocessing | None = None,
    ceiling: float | None = 6.0,
    linear: bool = False,
    groups: int = 1,
    embedding: int = 8,
    crop: Size = CROP,
) -> Network:
    """Every kind of layer once or more, at a few thousand multiply-adds.

    Slopes of its PReLU run from -0.5 to 1.5, so that some are negative and some above one.
    """
    rng = np.random.default_rng(seed)
    rows, columns = crop.height_px // 4, crop.width_px // 4
    layers: list[Layer] = [
        random_conv(rng, "stem", INPUT, (3, 16), (3, 3), stride=2, padding=1),
        random_norm(rng, "stem_norm", "stem", 16),
        PRelu("stem_prelu", "stem_norm", np.linspace(-0.5, 1.5, 16, dtype=np.float32)),
        random_conv(rng, "depthwise", "stem_prelu", (16, 16), (3, 3), padding=1, groups=16),
        random_norm(rng, "depthwise_norm", "depthwise", 16),
        Relu("bounded", "depthwise_norm", ceiling),
        random_conv(rng, "project", "bounded", (16, 16), groups=groups, bias=True),
        random_norm(rng, "project_norm", "project", 16),
        Add("sum", input="project_norm", skip="stem_prelu"),
        random_conv(rng, "down", "sum", (16, 24), (3, 3), stride=2, padding=1, bias=True),
        random_norm(rng, "down_norm", "down", 24),
        PRelu("down_prelu", "down_norm", np.linspace(-0.5, 1.5, 24, dtype=np.float32)),
        random_conv(rng, "whole_map", "down_prelu", (24, 24), (rows, columns), groups=24),
        random_norm(rng, "whole_map_norm", "whole_map", 24),
    ]
    if linear:
        layers += [
            Flatten("flatten", "whole_map_norm"),
            Linear(
                "embed", "flatten", normal(rng, embedding, 24, scale=0.2), normal(rng, embedding)
            ),
            random_norm(rng, "embed_norm", "embed", embedding),
        ]
    else:
        layers += [
            random_conv(rng, "embed", "whole_map_norm", (24, embedding)),
            random_norm(rng, "embed_norm", "embed", embedding),
            Flatten("flatten", "embed_norm"),
        ]
    spec = preprocessing or Preprocessing.uniform("RGB", 127.5, 64.0)
    return Network(tuple(layers), crop, "arcface-112x112", spec)


def small_model(seed: int = 0, **options: Any) -> tuple[Network, Any]:
    """A small network and the graph that is emitted for it."""
    from edgeface_export.graph.emit import emit

    network = small_network(seed, **options)
    return network, emit(network, name="g")


def set_constant(model: Any, name: str, values: npt.NDArray[Any]) -> None:
    """Replace the values of one constant of a graph."""
    from onnx import numpy_helper

    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def emitted_as(network: Network, tensor: str) -> str:
    """Name of the layer whose output the emitted tensor is: of the BatchNorm where there is one."""
    return next(
        (
            layer.name
            for layer in network.layers
            if isinstance(layer, BatchNorm) and layer.input == tensor
        ),
        tensor,
    )


def random_crops(count: int, size: Size, *, seed: int = 0) -> ImageArray:
    shape = (count, size.height_px, size.width_px, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def random_state(
    layout: MobileFaceNetLayout,
    *,
    widths: Widths = Widths(),
    seed: int = 0,
) -> State:
    """Tensors for every key of ``layout``, in its order, whose shapes fit together.

    BatchNorm's running statistics are drawn, and so do not belong to the weights; see ``settled``.
    """
    rng = np.random.default_rng(seed)
    state: State = {}
    for unit, shape in _shapes(layout, widths):
        fan_in = int(np.prod(shape[1:]))
        weight = normal(rng, *shape, scale=fan_in**-0.5)
        # A deep network of random filters amplifies rounding from block to block, which trained
        # ones do not. Depthwise filters that mostly average, and activations that are mostly
        # positive, keep it calm.
        calm = np.float32(1.5)
        state[f"{unit.conv}.weight"] = weight + calm * (shape[1] == 1) / np.float32(fan_in)
        if unit.bias:
            state[f"{unit.conv}.bias"] = normal(rng, shape[0], scale=0.1)
        norm = random_norm(rng, unit.norm, "", shape[0])
        state[f"{unit.norm}.weight"] = norm.gamma
        active = bool(unit.activation or unit.plain)
        state[f"{unit.norm}.bias"] = norm.beta + calm * active
        state[f"{unit.norm}.running_mean"] = norm.mean
        state[f"{unit.norm}.running_var"] = norm.variance
        if unit.activation:
            slope = rng.uniform(-0.3, 1.2, shape[0])
            state[f"{unit.activation}.weight"] = np.asarray(slope, np.float32)
    assert tuple(state) == layout.tensor_names()
    return state


@cache
def _settled(layout_name: str, kernel: tuple[int, int], seed: int) -> State:
    layout = MOBILEFACENETS[layout_name]
    state = random_state(layout, widths=Widths(kernel=kernel), seed=seed)
    network = layout.build(state)
    crops = synthetic_crops(16, network.crop_size, seed=seed + 1)
    settle(network, crops, state)
    return state


POINTS = tuple(
    OperatingPoint(threshold, fmr, "fp32", "pairs", fnmr=0.1, n_mated=10, n_non_mated=20)
    for fmr, threshold in ((1e-2, 0.3), (1e-3, 0.4), (1e-4, 0.5))
)
MANIFEST = Manifest(
    model_id="m" * 64,
    name="tiny",
    embedding_size=16,
    crop_size=Size(96, 112),
    alignment_template="arcface-112x96",
    source=ModelSource("tiny.pt", "0" * 64, "safetensors", "MobileFaceNet", loss="ArcFace"),
    artefacts=(),
    verdict=Verdict("passed", True, {"parity_max_difference": 1e-7}, ("a note",)),
    operating_points=POINTS,
    tools={"edgeface": "0.1"},
)


def write_tiny_bundle(
    folder: Path,
    *,
    overwrite: bool = False,
    models: Mapping[str, bytes] | None = None,
    name: str = "tiny",
) -> Bundle:
    """The bundle ``folder/tiny.edgeface`` with a network of a few kilobytes, or ``models``."""
    from edgeface_export.bundle_writer import write_bundle

    return write_bundle(
        folder / "tiny.edgeface",
        replace(MANIFEST, name=name),
        {"fp32": tiny_onnx()} if models is None else models,
        {"gates": ["parity"]},
        overwrite=overwrite,
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def settled_state(layout_name: str, *, kernel: tuple[int, int] = (7, 7), seed: int = 0) -> State:
    """A random state whose BatchNorms have seen pictures, as those of a trained network have."""
    return {name: array.copy() for name, array in _settled(layout_name, kernel, seed).items()}


def settled_network(layout_name: str, *, kernel: tuple[int, int] = (7, 7)) -> Network:
    return MOBILEFACENETS[layout_name].build(settled_state(layout_name, kernel=kernel))


def settle(network: Network, crops: ImageArray, state: State) -> None:
    """Write the statistics of ``crops`` into the running statistics of ``state``."""
    at: Activations = {INPUT: normalised(network.preprocessing, crops)}
    for layer in network.layers:
        if isinstance(layer, BatchNorm):
            x = at[layer.input]
            axes = (0, *range(2, x.ndim))
            mean, variance = x.mean(axes), x.var(axes)
            layer = BatchNorm(layer.name, layer.input, layer.gamma, layer.beta, mean, variance)
            state[f"{layer.name}.running_mean"] = mean.astype(np.float32)
            state[f"{layer.name}.running_var"] = variance.astype(np.float32)
        at[layer.name] = forward_layer(layer, at)


def normalised(spec: Preprocessing, crops: ImageArray) -> npt.NDArray[np.float64]:
    order = [0, 1, 2] if spec.colour_order == "RGB" else [2, 1, 0]
    values = (crops[..., order] - np.array(spec.mean)) / np.array(spec.scale)
    return np.asarray(values.transpose(0, 3, 1, 2))


def activations(network: Network, crops: ImageArray) -> Activations:
    """Every tensor of ``network`` in float64, (n, …), by layer name."""
    at: Activations = {INPUT: normalised(network.preprocessing, crops)}
    for layer in network.layers:
        at[layer.name] = forward_layer(layer, at)
    return at


def forward_layer(
    layer: Layer, at: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    x = at[layer.input]
    match layer:
        case Conv():
            return _convolve(x, layer)
        case Linear():
            return x @ layer.weight.T.astype(np.float64) + _bias(layer.bias, 1)
        case BatchNorm():
            scale, shift = layer.scale_and_shift()
            return x * _bias(scale, x.ndim - 1) + _bias(shift, x.ndim - 1)
        case PRelu():
            return np.maximum(x, 0) + _bias(layer.slope, x.ndim - 1) * np.minimum(x, 0)
        case Relu():
            return np.clip(x, 0, np.inf if layer.ceiling is None else layer.ceiling)
        case Add() | Flatten() | GlobalAveragePool() | Sigmoid() | Gate():
            return _untrained(layer, x, at)
        case _:
            raise AssertionError(layer)


def _untrained(
    layer: Add | Flatten | GlobalAveragePool | Sigmoid | Gate,
    x: npt.NDArray[np.float64],
    at: Mapping[str, npt.NDArray[np.float64]],
) -> npt.NDArray[np.float64]:
    match layer:
        case Add():
            return x + at[layer.skip]
        case Gate():
            return x * at[layer.skip]
        case Flatten():
            return x.reshape(len(x), -1)
        case GlobalAveragePool():
            return np.asarray(x.mean((2, 3), keepdims=True))
        case Sigmoid():
            return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def _bias(values: npt.NDArray[np.floating] | None, axes: int) -> npt.NDArray[np.float64]:
    if values is None:
        return np.zeros(())
    return values.astype(np.float64).reshape(-1, *(1,) * (axes - 1))


def _convolve(x: npt.NDArray[np.float64], layer: Conv) -> npt.NDArray[np.float64]:
    pad, step = (layer.padding, layer.padding), layer.stride
    padded = np.pad(x, ((0, 0), (0, 0), pad, pad))
    out, per_group, height, width = layer.weight.shape
    weight = layer.weight.astype(np.float64).reshape(layer.groups, -1, per_group, height, width)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (2, 3))
    windows = windows[:, :, ::step, ::step]
    n, _, rows, columns = windows.shape[:4]
    shape = (n, layer.groups, per_group, rows * columns)
    y = np.zeros((n, layer.groups, weight.shape[1], rows * columns))
    for i, j in np.ndindex(height, width):
        tap = windows[..., i, j].reshape(shape)
        y += weight[:, :, 0, i, j, None] * tap if per_group == 1 else weight[..., i, j] @ tap
    return y.reshape(n, out, rows, columns) + _bias(layer.bias, 3)


def _shapes(layout: MobileFaceNetLayout, widths: Widths) -> Iterator[tuple[Unit, tuple[int, ...]]]:
    width = widths.stem
    yield layout.stem, (width, 3, 3, 3)
    if layout.stem_depthwise:
        yield layout.stem_depthwise, (width, 1, 3, 3)
    if layout.separable:
        yield layout.separable, (width, width, 1, 1)
    for block, stage in _stages(layout.blocks):
        choices = widths.hidden if block.stride == 1 else widths.hidden_strided
        hidden, out = choices[stage], widths.stages[stage]
        yield layout.expand.under(block.prefix), (hidden, width, 1, 1)
        yield layout.depthwise.under(block.prefix), (hidden, 1, 3, 3)
        yield layout.project.under(block.prefix), (out, hidden, 1, 1)
        width = out
    yield layout.last, (widths.last, width, 1, 1)
    yield layout.global_depthwise, (widths.last, 1, *widths.kernel)
    matrix = (widths.embedding, widths.last)
    yield layout.embedding, matrix if layout.flat else (*matrix, 1, 1)


def _stages(blocks: tuple[Bottleneck, ...]) -> Iterator[tuple[Bottleneck, int]]:
    stage = -1
    for block in blocks:
        stage += block.stride == 2
        yield block, max(0, stage)

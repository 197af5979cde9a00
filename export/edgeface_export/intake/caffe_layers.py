"""The layers of a Caffe description, one after the other, as layers of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edgeface.errors import ArchitectureError
from edgeface.types import FloatArray
from edgeface_export.architectures.network import (
    INPUT,
    Add,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAveragePool,
    Layer,
    Linear,
    PRelu,
    Relu,
    Sigmoid,
    sources,
)
from edgeface_export.architectures.operations import Concat, MaxPool
from edgeface_export.checkpoints.text import clip
from edgeface_export.intake.described import require_padding_fits
from edgeface_export.intake.prototxt import Message

__all__ = ["CaffeGraph"]

# What deployment passes through unchanged; lengths are brought to 1 at the end anyway.
_PASSED = frozenset({"Dropout", "Split", "DROPOUT", "SPLIT", "Normalize", "Reshape"})
_TRAINING = frozenset(
    {"Input", "Data", "ImageData", "HDF5Data", "Accuracy", "Silence", "Softmax", "SOFTMAX"}
)
# Caffe's own epsilon of BatchNorm.
_EPSILON = 1e-5


class CaffeGraph:
    """Collects layers; ``used`` are the Caffe layers whose weights were taken."""

    def __init__(self, tensors: Mapping[str, FloatArray], picture: str) -> None:
        self._tensors = tensors
        self._layers: dict[str, Layer] = {}
        # Caffe's blobs are overwritten in place: what a blob's name stands for changes.
        self._at = {picture: INPUT}
        self._flat: set[str] = set()
        self.used: set[str] = set()
        self.loss = ""

    def add(self, layer: Message) -> None:
        """Add one layer of the description.

        Raises:
            ArchitectureError: It is of an unknown type, or its weights do not fit.
        """
        kind, name = layer.text("type"), layer.text("name")
        train_only = any(rule.text("phase") == "TRAIN" for rule in layer.messages("include"))
        if kind.upper().endswith("LOSS"):
            self.loss = kind
        if train_only or kind in _TRAINING or kind.upper().endswith("LOSS"):
            return
        bottoms, top = layer.texts("bottom"), layer.text("top", name)
        missing = [bottom for bottom in bottoms if bottom not in self._at]
        if missing or not bottoms:
            raise ArchitectureError(f"layer {clip(name)}: nothing gives its input {missing[:1]}")
        inputs = [self._at[bottom] for bottom in bottoms]
        if kind in _PASSED:
            self._at[top] = inputs[0]
            return
        if kind not in _KINDS:
            raise ArchitectureError(
                f"layer {clip(name)} is of type {clip(kind)!r}, which is not known; convert the "
                f"network to ONNX. Known are {', '.join(sorted(_NAMED))}"
            )
        self.used.add(name)
        self._at[top] = _KINDS[kind](self, layer, name, inputs)

    def ended(self) -> tuple[Layer, ...]:
        """Return the layers up to the one output, matrices that end in nothing else included.

        Raises:
            ArchitectureError: There is no layer, or there are several outputs.
        """
        read = {x for layer in self._layers.values() for x in sources(layer)}
        ends = [name for name in self._layers if name not in read]
        if len(ends) != 1:
            raise ArchitectureError(
                f"the description has {len(ends)} outputs ({', '.join(map(clip, ends[:4]))}), "
                "wanted one, the embedding: leave the others out of it"
            )
        return tuple(self._layers.values())

    def put(self, layer: Layer) -> str:
        """Add a layer under its name with a prefix, and return that."""
        # Names of the description must not meet those that the emitter gives.
        layer = replace(layer, name=f"net.{layer.name}")
        if layer.name in self._layers:
            raise ArchitectureError(f"two layers are called {clip(layer.name)}")
        self._layers[layer.name] = layer
        return layer.name

    def weights(self, name: str, index: int, axes: int | None = None) -> FloatArray:
        """Return a blob of a layer, cut to its last ``axes`` axes where those before are 1."""
        array = self._tensors.get(f"{name}.{index}")
        if array is None:
            raise ArchitectureError(f"layer {clip(name)} has no blob {index} among the weights")
        if axes is None:
            return array.reshape(-1)
        if array.ndim < axes or any(side != 1 for side in array.shape[: array.ndim - axes]):
            raise ArchitectureError(f"layer {clip(name)}: weights of shape {array.shape}")
        return array.reshape(array.shape[array.ndim - axes :])

    def convolution(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add Convolution, and what stands for it where all groups have one channel."""
        of = layer.message("convolution_param")
        weight = self.weights(name, 0, 4)
        strides = set(_pair(of, "stride", 1))
        if len(strides) != 1 or set(_pair(of, "dilation", 1)) != {1}:
            raise ArchitectureError(f"layer {clip(name)}: strides that differ, or dilation")
        if of.integer("num_output", len(weight)) != len(weight):
            raise ArchitectureError(
                f"layer {clip(name)}: described with {of.text('num_output')} outputs, the weights "
                f"have {len(weight)}; is this the description of these weights?"
            )
        kernel = _pair(of, "kernel_size", 0, short="kernel")
        if kernel != weight.shape[2:]:
            raise ArchitectureError(
                f"layer {clip(name)}: described with a kernel of {kernel}, the weights have "
                f"{weight.shape[2:]}; is this the description of these weights?"
            )
        bias = self.weights(name, 1) if of.flag("bias_term", True) else None
        depthwise = "epthwise" in layer.text("type")
        groups = len(weight) if depthwise else of.integer("group", 1)
        pads = _pair(of, "pad", 0)
        require_padding_fits(f"layer {clip(name)}", pads, weight.shape[2:])
        return self.put(Conv(name, inputs[0], weight, bias, strides.pop(), pads, groups))

    def batch_norm(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add BatchNorm, whose gamma and beta come with the Scale after it."""
        factor = float(self.weights(name, 2)[:1].sum())
        by = 1.0 / factor if factor else 0.0
        mean, variance = (self.weights(name, k) * np.float32(by) for k in (0, 1))
        epsilon = layer.message("batch_norm_param").number("eps", _EPSILON)
        ones, zeros = np.ones_like(mean), np.zeros_like(mean)
        source = self._alone(name, inputs[0], len(mean))
        return self.put(BatchNorm(name, source, ones, zeros, mean, variance, epsilon))

    def scale(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add Scale: to the BatchNorm before it, or as a depthwise 1x1 convolution."""
        gamma = self.weights(name, 0)
        has_bias = layer.message("scale_param").flag("bias_term", False)
        beta = self.weights(name, 1) if has_bias else np.zeros_like(gamma)
        before = self._layers.get(inputs[0])
        if isinstance(before, BatchNorm) and before.beta.shape == beta.shape:
            self._layers[before.name] = replace(
                before, gamma=before.gamma * gamma, beta=before.beta * gamma + beta
            )
            # What the BatchNorm alone gave is no longer there to be read.
            self._at = {blob: at for blob, at in self._at.items() if at != before.name}
            return before.name
        weight = gamma.reshape(-1, 1, 1, 1)
        return self.put(Conv(name, inputs[0], weight, beta, groups=len(gamma)))

    def prelu(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add PReLU."""
        if layer.message("prelu_param").flag("channel_shared", False):
            raise ArchitectureError(f"layer {clip(name)}: one slope for all channels")
        return self.put(PRelu(name, inputs[0], self.weights(name, 0)))

    def relu(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add ReLU or ReLU6."""
        if layer.message("relu_param").number("negative_slope", 0.0):
            raise ArchitectureError(f"layer {clip(name)}: a leaky ReLU")
        ceiling = 6.0 if layer.text("type") == "ReLU6" else None
        return self.put(Relu(name, inputs[0], ceiling))

    def eltwise(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add the sum of two blobs: the later made is the branch."""
        of = layer.message("eltwise_param")
        plain = of.text("operation", "SUM") in ("SUM", "1") and not of.texts("coeff")
        if not plain or len(inputs) != 2:
            raise ArchitectureError(f"layer {clip(name)}: only sums of two blobs are known")
        order = list(self._layers)
        skip, branch = sorted(inputs, key=lambda x: order.index(x) if x in order else -1)
        return self.put(Add(name, input=branch, skip=skip))

    def inner_product(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add a matrix, on the flattened blob."""
        of = layer.message("inner_product_param")
        weight = self.weights(name, 0, 2)
        weight = weight.T.copy() if of.flag("transpose", False) else weight
        bias = self.weights(name, 1) if of.flag("bias_term", True) else None
        source = inputs[0]
        if source not in self._flat:
            source = self.flatten(layer, f"{name}.flatten", inputs)
        made = self.put(Linear(name, source, weight, bias))
        self._flat.add(made)
        return made

    def flatten(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add Flatten."""
        del layer
        made = self.put(Flatten(name, inputs[0]))
        self._flat.add(made)
        return made

    def pooling(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add the mean of whole maps, or the largest of windows."""
        of = layer.message("pooling_param")
        if of.text("pool", "MAX") in ("AVE", "1"):
            if not of.flag("global_pooling", False):
                raise ArchitectureError(f"layer {clip(name)}: means of windows, not of whole maps")
            return self.put(GlobalAveragePool(name, inputs[0]))
        kernel, stride = of.integer("kernel_size", 1), of.integer("stride", 1)
        return self.put(MaxPool(name, inputs[0], kernel, stride, of.integer("pad", 0), ceil=True))

    def sigmoid(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add Sigmoid."""
        del layer
        return self.put(Sigmoid(name, inputs[0]))

    def concat(self, layer: Message, name: str, inputs: list[str]) -> str:
        """Add the channels of several blobs."""
        if layer.message("concat_param").integer("axis", 1) != 1:
            raise ArchitectureError(f"layer {clip(name)}: only channels are put together")
        return self.put(Concat(name, inputs[0], tuple(inputs[1:])))

    def _alone(self, name: str, source: str, channels: int) -> str:
        """Return what a BatchNorm reads: a convolution's output that nothing else can read."""
        if isinstance(self._layers.get(source), Conv | Linear):
            return source
        ones = np.ones((channels, 1, 1, 1), np.float32)
        return self.put(Conv(f"{name}.in", source, ones, groups=channels))


def _pair(of: Message, name: str, default: int, *, short: str = "") -> tuple[int, int]:
    """Return (vertical, horizontal) of what Caffe writes once or twice, or as ``_h`` and ``_w``."""
    short = short or name
    values = of.integers(name) or [default]
    return (
        of.integer(f"{short}_h", values[0]),
        of.integer(f"{short}_w", values[-1]),
    )


_Adder = Callable[[CaffeGraph, Message, str, list[str]], str]
_NAMED: dict[str, _Adder] = {
    "Convolution": CaffeGraph.convolution,
    "DepthwiseConvolution": CaffeGraph.convolution,
    "ConvolutionDepthwise": CaffeGraph.convolution,
    "BatchNorm": CaffeGraph.batch_norm,
    "Scale": CaffeGraph.scale,
    "PReLU": CaffeGraph.prelu,
    "ReLU": CaffeGraph.relu,
    "ReLU6": CaffeGraph.relu,
    "Eltwise": CaffeGraph.eltwise,
    "InnerProduct": CaffeGraph.inner_product,
    "Flatten": CaffeGraph.flatten,
    "Pooling": CaffeGraph.pooling,
    "Sigmoid": CaffeGraph.sigmoid,
    "Concat": CaffeGraph.concat,
}
# V1 layers name their types in capitals, without quotes.
_V1 = {
    "CONVOLUTION": "Convolution",
    "RELU": "ReLU",
    "ELTWISE": "Eltwise",
    "INNER_PRODUCT": "InnerProduct",
    "FLATTEN": "Flatten",
    "POOLING": "Pooling",
    "SIGMOID": "Sigmoid",
    "CONCAT": "Concat",
}
_KINDS = _NAMED | {old: _NAMED[new] for old, new in _V1.items()}

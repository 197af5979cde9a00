"""Runs an INT8 graph layer by layer on pictures, so that each layer can be fitted to its inputs.

What stands between two layers is kept as the graph's own INT8 steps, a quarter of float's memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import MissingDependencyError
from edgeface.types import ImageArray
from edgeface_export.graph.emit import INPUT_NAME
from edgeface_export.quantise.placement import attribute

__all__ = ["GraphWalk", "Patches"]

_Steps: TypeAlias = npt.NDArray[Any]
_BATCH = 16
# Of float32 that patches for a covariance may take, and how many of them are enough.
_PATCH_BYTES = 24e6
_PATCHES = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """What the weights of a layer read: real ``values`` = (steps - zero) * scale.

    ``steps`` is (n, channels, height, width); of (n, channels) the last two are 1.
    """

    steps: _Steps
    scale: float
    zero: int
    kernel: tuple[int, int]
    stride: int
    padding: int
    groups: int

    @property
    def positions(self) -> int:
        """How many patches there are."""
        rows, columns = self._places()
        return len(self.steps) * len(rows) * len(columns)

    def mean(self) -> npt.NDArray[np.float64]:
        """Return the mean of each place of a patch over all patches, (channels, kernel places)."""
        rows, columns = self._places()
        height, width = self.steps.shape[2:]
        found = []
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                y, x = rows + i, columns + j
                y, x = y[(y >= 0) & (y < height)], x[(x >= 0) & (x < width)]
                total = np.zeros(self.steps.shape[1])
                if y.size and x.size:
                    cut = self.steps[
                        :, :, y[0] : y[-1] + 1 : self.stride, x[0] : x[-1] + 1 : self.stride
                    ]
                    count = cut.shape[0] * cut.shape[2] * cut.shape[3]
                    total = cut.sum(axis=(0, 2, 3), dtype=np.float64) - count * self.zero
                found.append(total)
        return np.stack(found, axis=1) * (self.scale / self.positions)

    def covariance(self) -> npt.NDArray[np.float64] | None:
        """Return the covariance of the patches of each group, (groups, k, k).

        None where there are too few patches to tell it.
        """
        channels = self.steps.shape[1]
        places = self.kernel[0] * self.kernel[1]
        size = channels // self.groups * places
        count = int(min(_PATCHES, _PATCH_BYTES / (4 * channels * places), self.positions))
        if count < 4 * size:
            return None
        patches = self._some(count).reshape(count, self.groups, size)
        patches -= patches.mean(axis=0)
        turned = np.ascontiguousarray(patches.transpose(1, 2, 0))
        return (turned @ turned.transpose(0, 2, 1)).astype(np.float64) / count

    def _places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the first row and the first column of each patch; padding is negative."""
        height, width = self.steps.shape[2:]
        rows = (height + 2 * self.padding - self.kernel[0]) // self.stride + 1
        columns = (width + 2 * self.padding - self.kernel[1]) // self.stride + 1
        return (
            np.arange(rows) * self.stride - self.padding,
            np.arange(columns) * self.stride - self.padding,
        )

    def _some(self, count: int) -> npt.NDArray[np.float32]:
        """Return ``count`` patches taken evenly, (count, channels, kernel places)."""
        rows, columns = self._places()
        _, channels, height, width = self.steps.shape
        taken = np.random.default_rng(0).choice(self.positions, count, replace=False)
        picture, place = np.divmod(np.sort(taken), len(rows) * len(columns))
        top, left = rows[place // len(columns)], columns[place % len(columns)]
        result = np.zeros((count, channels, self.kernel[0] * self.kernel[1]), np.float32)
        for k in range(result.shape[2]):
            y, x = top + k // self.kernel[1], left + k % self.kernel[1]
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            steps = self.steps[picture[inside], :, y[inside], x[inside]].astype(np.float32)
            result[inside, :, k] = (steps - self.zero) * self.scale
        return result


class GraphWalk:
    """Goes through a Q/DQ or integer ``model`` by its layers with weights.

    Between two steps of :meth:`layers` the caller may change constants of the layer just given;
    what comes after is computed with them.
    """

    def __init__(self, model: onnx.ModelProto, crops: ImageArray, layers: Sequence[str]) -> None:
        self._model = model
        self._layers = set(layers)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {output: node for node in model.graph.node for output in node.output}
        self._values: dict[str, _Steps] = {INPUT_NAME: crops}

    def layers(self) -> Iterator[onnx.NodeProto]:
        """Yield each node named at the start; its inputs are there then."""
        parts: list[list[onnx.NodeProto]] = [[]]
        for node in self._model.graph.node:
            if node.name in self._layers:
                parts.append([])
            parts[-1].append(node)
        for index, part in enumerate(parts):
            if index:
                yield part[0]
            later = [node for following in parts[index + 1 :] for node in following]
            self._run(part, later)

    def constant(self, name: str) -> npt.NDArray[Any]:
        """Return the constant ``name``."""
        values: npt.NDArray[Any] = numpy_helper.to_array(self._constants[name])
        return values

    def set_constant(self, name: str, values: npt.NDArray[Any]) -> None:
        """Replace the constant ``name`` in the model."""
        self._constants[name].CopyFrom(numpy_helper.from_array(values, name))

    def patches(self, node: onnx.NodeProto) -> Patches:
        """Return what ``node``, one that :meth:`layers` just gave, reads."""
        source, scale, zero = self._source(node)
        steps = self._values[source]
        if node.domain:
            steps = steps.transpose(0, 3, 1, 2) if steps.ndim == 4 else steps
        steps = steps.reshape(*steps.shape, *(1,) * (4 - steps.ndim))
        kernel = next((tuple(a.ints) for a in node.attribute if a.name == "kernel_shape"), (1, 1))
        stride = next((a.ints[0] for a in node.attribute if a.name == "strides"), 1)
        padding = next((a.ints[0] for a in node.attribute if a.name == "pads"), 0)
        groups = attribute(node, "group", 1)
        return Patches(steps, scale, zero, kernel, stride, padding, groups)

    def _source(self, node: onnx.NodeProto) -> tuple[str, float, int]:
        """Return the stored tensor that ``node`` reads, its scale and its zero point."""
        name = node.input[0]
        maker = self._makers.get(name)
        if node.domain:
            return name, float(self.constant(node.input[1])), int(self.constant(node.input[2]))
        if maker is not None and maker.op_type == "DequantizeLinear":
            return maker.input[0], float(self.constant(maker.input[1])), 0
        return name, 1.0, 0

    def _run(self, part: list[onnx.NodeProto], later: list[onnx.NodeProto]) -> None:
        """Compute what ``later`` nodes need of ``part``, and forget what they no longer need."""
        wanted = self._needed(later)
        made = {output for node in part for output in node.output}
        outputs = sorted(wanted & made)
        if outputs:
            nodes = self._with_dequantisers(part)
            inputs = sorted(self._needed(nodes) & set(self._values))
            self._values |= self._computed(nodes, inputs, outputs)
        for name in set(self._values) - wanted:
            del self._values[name]

    def _needed(self, nodes: Sequence[onnx.NodeProto]) -> set[str]:
        """Return what ``nodes`` read from before them: steps, where they are dequantised."""
        made = {output for node in nodes for output in node.output}
        read = {name for node in nodes for name in node.input if name} - made
        makers = {name: self._makers.get(name) for name in read if not self._is_own(name)}
        return {
            maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else name
            for name, maker in makers.items()
        }

    def _is_own(self, name: str) -> bool:
        maker = self._makers.get(name)
        stored_weight = maker is not None and maker.input and maker.input[0] in self._constants
        return name in self._constants or bool(stored_weight)

    def _with_dequantisers(self, part: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Return ``part`` behind the dequantisers, from other parts, that it reads."""
        made = {output for node in part for output in node.output}
        missing = dict.fromkeys(
            name
            for node in part
            for name in node.input
            if name not in made and name in self._makers and name not in self._values
        )
        return [self._makers[name] for name in missing] + part

    def _computed(
        self, nodes: Sequence[onnx.NodeProto], inputs: list[str], outputs: list[str]
    ) -> dict[str, _Steps]:
        session = self._session(nodes, inputs, outputs)
        count = len(self._values[inputs[0]])
        parts = [
            session.run(
                outputs,
                {name: np.ascontiguousarray(self._values[name][k : k + _BATCH]) for name in inputs},
            )
            for k in range(0, count, _BATCH)
        ]
        return {
            name: np.concatenate([part[index] for part in parts])
            for index, name in enumerate(outputs)
        }

    def _session(
        self, nodes: Sequence[onnx.NodeProto], inputs: list[str], outputs: list[str]
    ) -> Any:
        try:
            import onnxruntime
        except ImportError as exc:
            raise MissingDependencyError("onnxruntime", extra="export") from exc
        used = {name for node in nodes for name in node.input}
        infos = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(self._values[name].dtype), None
            )
            for name in inputs
        ]
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        constants = [tensor for name, tensor in self._constants.items() if name in used]
        graph = helper.make_graph(list(nodes), "part", infos, results, constants)
        model = helper.make_model(
            graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

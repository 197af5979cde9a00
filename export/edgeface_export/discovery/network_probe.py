"""Runs a network on crops under any preprocessing, and watches what its BatchNorms meet.

The graph is built once and cut off behind its own preprocessing: what a candidate does to the
pixels is done here, so that trying another costs no new session.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgeface.errors import MissingDependencyError
from edgeface.types import FloatArray, ImageArray
from edgeface_export.architectures.network import (
    INPUT,
    BatchNorm,
    Conv,
    Network,
    Preprocessing,
)
from edgeface_export.graph.emit import OUTPUT_NAME, emit

__all__ = ["NetworkProbe", "normalise", "watched_norms"]

_BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """Embeddings, and for each BatchNorm (n, 2, channels) means and mean squares of each crop."""

    rows: FloatArray
    moments: tuple[npt.NDArray[np.float64], ...]


class NetworkProbe:
    """Embeds crops of one network's size; ``threads`` 0 takes all processors."""

    def __init__(self, network: Network, *, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as exc:
            raise MissingDependencyError("onnxruntime", extra="export") from exc
        self._norms = watched_norms(network)
        self._tensors = [norm.input for norm in self._norms]
        model = _behind_preprocessing(network, self._tensors)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    @property
    def norms(self) -> tuple[BatchNorm, ...]:
        """The BatchNorms that are watched, in the order of the network."""
        return self._norms

    def embed(self, crops: ImageArray, preprocessing: Preprocessing) -> FloatArray:
        """Return (n, size) float32 unit rows for (n, height, width, 3) uint8 RGB crops."""
        return np.concatenate(
            [
                self._run(normalise(crops[k : k + _BATCH], preprocessing), [OUTPUT_NAME])[0]
                for k in range(0, len(crops), _BATCH)
            ]
        )

    def watch(self, crops: ImageArray, preprocessing: Preprocessing) -> Watched:
        """Return the embeddings of ``crops`` and what each BatchNorm met in each of them."""
        wanted = [OUTPUT_NAME, *dict.fromkeys(self._tensors)]
        rows, moments = [], []
        for start in range(0, len(crops), _BATCH):
            values = dict(
                zip(
                    wanted,
                    self._run(normalise(crops[start : start + _BATCH], preprocessing), wanted),
                    strict=True,
                )
            )
            rows.append(values[OUTPUT_NAME])
            moments.append([_moments(values[name]) for name in self._tensors])
        joined = [np.concatenate(parts) for parts in zip(*moments, strict=True)]
        return Watched(np.concatenate(rows), tuple(joined))

    def _run(self, values: FloatArray, outputs: list[str]) -> list[FloatArray]:
        return list(self._session.run(outputs, {INPUT: values}))


def normalise(crops: ImageArray, preprocessing: Preprocessing) -> FloatArray:
    """Return (n, 3, height, width) float32, as ``preprocessing`` hands ``crops`` to the network."""
    ordered = crops if preprocessing.colour_order == "RGB" else crops[..., ::-1]
    mean, scale = (
        np.asarray(part, np.float32) for part in (preprocessing.mean, preprocessing.scale)
    )
    values = (ordered.astype(np.float32) - mean) / scale
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def watched_norms(network: Network) -> tuple[BatchNorm, ...]:
    """Return the BatchNorms whose input is what one convolution of their own makes."""
    makers = {layer.name for layer in network.layers if isinstance(layer, Conv)}
    return tuple(
        layer for layer in network.layers if isinstance(layer, BatchNorm) and layer.input in makers
    )


def _behind_preprocessing(network: Network, tensors: list[str]) -> onnx.ModelProto:
    """Return the graph of ``network`` from :data:`INPUT` on; ``tensors`` are outputs as well.

    A BatchNorm is folded into the convolution before it, whose output carries its name.
    """
    plain = Preprocessing.uniform("RGB", 0.0, 1.0)
    model = emit(replace(network, preprocessing=plain), name="discovery")
    graph, size = model.graph, network.crop_size
    before = {INPUT}
    kept = []
    for node in reversed(graph.node):
        if before.intersection(node.output):
            before.update(node.input)
        else:
            kept.append(node)
    constants = [entry for entry in graph.initializer if entry.name not in before]
    del graph.node[:], graph.input[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
    shape = ["n", 3, size.height_px, size.width_px]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in dict.fromkeys(tensors)
    )
    return model


def _moments(values: FloatArray) -> npt.NDArray[np.float64]:
    axes = tuple(range(2, values.ndim))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack(
            [
                values.mean(axes, dtype=np.float64),
                np.square(values, dtype=np.float64).mean(axes, dtype=np.float64),
            ],
            axis=1,
        )

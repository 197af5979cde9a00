"""ONNX graphs that are written node by node, and what ONNX Runtime makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx  # noqa: TID253 - in tests only
from onnx import TensorProto, helper, numpy_helper  # noqa: TID253

from edgeface_export.architectures.network import Network
from edgeface_export.graph.emit import emit
from edgeface_export.graph.reference import reference_embeddings
from edgeface_export.graph.session import EmbeddingSession
from tests.builders_export import random_crops


class Graph:
    """A graph that is written node by node; each is called after its output."""

    def __init__(self, sides: tuple[Any, Any] = (112, 112)) -> None:
        self.rng = np.random.default_rng(4)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.sides = sides

    def fixed(self, name: str, values: Any, dtype: type = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def normal(self, name: str, *shape: int, scale: float = 1.0) -> str:
        return self.fixed(name, self.rng.standard_normal(shape) * scale)

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def bytes(self, *outputs: str, element: int = TensorProto.FLOAT) -> bytes:
        picture = helper.make_tensor_value_info("x", element, ["n", 3, *self.sides])
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "own", [picture], ends, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        content: bytes = model.SerializeToString()
        return content

    def norm(self, x: str, name: str, width: int) -> str:
        of = [self.normal(f"{name}.{k}", width, scale=0.3) for k in range(3)]
        return self.node(
            "BatchNormalization", [x, *of, self.fixed(f"{name}.v", np.ones(width))], name
        )


def matrix(graph: Graph, x: str, name: str, inputs: int, outputs: int) -> str:
    weight = graph.normal(f"{name}.w", outputs, inputs, scale=0.5)
    bias = graph.normal(f"{name}.b", outputs, scale=0.2)
    return graph.node("Gemm", [x, weight, bias], name, transB=1)


def own_embedding(content: bytes, output: str, crops: np.ndarray) -> np.ndarray:
    """Unit rows of ``output`` by ONNX Runtime, on crops prepared as (x - 127.5) / 127.5."""
    import onnxruntime

    model = onnx.load_model_from_string(content)
    model.graph.output.append(helper.make_tensor_value_info(output, 1, None))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    pixels = ((crops.astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
    rows = session.run([output], {"x": np.ascontiguousarray(pixels)})[0]
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def same(network: Network, content: bytes, output: str) -> None:
    crops = random_crops(3, network.crop_size)
    ours = EmbeddingSession(emit(network, name="own")).embed(crops)
    assert np.abs(ours - own_embedding(content, output, crops)).max() <= 1e-5
    assert np.abs(reference_embeddings(network, crops[:1]) - ours[:1]).max() <= 1e-5

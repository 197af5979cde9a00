"""A network from somebody's ONNX graph, and proof that it computes the same.

The graph is taken apart into layers, so that every gate and every artefact is there for it; a
length of 1 and a classification head at its end are cut, as the exporter writes its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.errors import ArchitectureError, MissingDependencyError
from edgeface.types import Size
from edgeface_export.architectures.network import (
    Layer,
    Linear,
    Network,
    Preprocessing,
    Shape,
    sources,
)
from edgeface_export.architectures.recognition import Dropped, Recognition
from edgeface_export.architectures.sums import with_convolutions_as_branches
from edgeface_export.checkpoints.text import clip
from edgeface_export.graph.emit import emit
from edgeface_export.graph.session import EmbeddingSession
from edgeface_export.intake.described import (
    DAMAGE,
    DescribedLayout,
    described,
    template_of,
)
from edgeface_export.intake.onnx_nodes import NodeReader
from edgeface_export.intake.onnx_patterns import with_whole_activations
from edgeface_export.probes import synthetic_crops

__all__ = ["onnx_recognition"]

_ASSUMED = Preprocessing.uniform("RGB", 127.5, 127.5)
# A value of a unit embedding, as in the parity gate.
_MAX_DIFFERENCE = 1e-5
_CROPS = 4
# An end of two matrices may be one of low rank, with more values than stand between them; trainers
# have more people than this.
_LARGEST_EMBEDDING = 2048
# What divides by a length, and what only changes the embedding's length or gives shares of it.
_LENGTHS = frozenset({"LpNormalization"})
_ENDS = frozenset({"Softmax", "LogSoftmax", "Identity", "Cast"})
_MADE_OF_LENGTH = frozenset(
    {"ReduceL2", "ReduceSum", "ReduceSumSquare", "Pow", "Sqrt", "Abs", "Mul", "Clip", "Max"}
    | {"Expand", "Shape", "Add", "Constant", "Identity", "Cast", "ConstantOfShape", "Unsqueeze"}
)


@dataclass(frozen=True, slots=True, eq=False)
class _Graph:
    """A graph by its parts; ``picture`` is its input, of ``shape`` without the batch."""

    model: onnx.ModelProto
    constants: dict[str, npt.NDArray[Any]]
    makers: dict[str, onnx.NodeProto]
    picture: str
    shape: Shape


def onnx_recognition(
    content: bytes, *, source: str = "onnx", trainer: str = "", size: Size | None = None
) -> Recognition:
    """Return the network that the ONNX model in ``content`` is.

    ``source`` and ``trainer`` say what it came as, and whose it is. ``size`` is that of the crops
    where the graph leaves it open. The preprocessing is assumed, which the recognition says.

    Raises:
        ArchitectureError: It is no network from one picture to one embedding, has a node that is
            not known, or what was made of it computes something else.
    """
    model = onnx.load_model_from_string(content)
    try:
        _require_order(model.graph)
        return _recognised(model, source, trainer, size)
    except DAMAGE as exc:
        raise ArchitectureError(f"the graph is damaged: {clip(exc)}") from exc


def _recognised(
    model: onnx.ModelProto, source: str, trainer: str, size: Size | None
) -> Recognition:
    graph = _taken_apart(model, size)
    embedding, cut = _embedding_of(graph)
    lengths = frozenset(
        node.output[0]
        for node in model.graph.node
        if node.op_type in _LENGTHS or _is_length(graph, node)
    )
    reader = NodeReader(graph.constants, graph.picture, graph.shape, lengths)
    needed = _needed(graph, embedding, lengths)
    for node in with_whole_activations(needed, graph.constants, embedding):
        reader.add(node)
    if embedding not in reader.at:
        raise ArchitectureError(f"nothing leads from the picture to {clip(embedding)}")
    embedding, cut = _without_head(reader, graph, embedding, cut)
    layers = with_convolutions_as_branches(_up_to(reader, reader.at[embedding]))
    crop = Size(graph.shape[2], graph.shape[1])
    network = Network(layers, crop, template_of(crop), _ASSUMED)
    difference = _difference(graph, embedding, network)
    # Written so that NaN fails.
    if not difference <= _MAX_DIFFERENCE:
        raise ArchitectureError(
            f"what was made of the graph differs from it by {difference:.3g} (at most "
            f"{_MAX_DIFFERENCE:g}): it has a part that is not understood; please report it"
        )
    layout = DescribedLayout(source, "own network", trainer or _writer(model), "", network)
    reasons = (
        f"its graph is {len(layers)} known layers; the embedding is {clip(embedding)}",
        f"what was made of it differs from it by {difference:.2g} on {_CROPS} pictures",
    )
    dropped = (Dropped("cut from the end", cut),) if cut else ()
    return described(layout, reasons=reasons, dropped=dropped, assumed=True)


def _require_order(graph: onnx.GraphProto) -> None:
    """Refuse a graph that is not in order: walks over one with a circle would not end."""
    made = {name for node in graph.node for name in node.output if name}
    seen = set[str]()
    for node in graph.node:
        early = [name for name in node.input if name in made and name not in seen]
        if early or seen.intersection(node.output):
            raise ArchitectureError(
                f"the graph is damaged: node {clip(node.name or node.output[:1])} is out of order"
            )
        seen.update(name for name in node.output if name)


def _writer(model: onnx.ModelProto) -> str:
    return f"unknown (graph written by {clip(model.producer_name or 'an unknown program')})"


def _taken_apart(model: onnx.ModelProto, size: Size | None) -> _Graph:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
            found = next(iter(value.values()), None)
            is_tensor = isinstance(found, onnx.TensorProto)
            array = numpy_helper.to_array(found) if is_tensor else np.asarray(found)
            constants[node.output[0]] = array
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    makers = {output: node for node in model.graph.node for output in node.output}
    pictures = [entry for entry in model.graph.input if entry.name not in constants]
    if len(pictures) != 1:
        raise ArchitectureError(f"the graph has {len(pictures)} inputs, wanted one picture")
    return _Graph(model, constants, makers, pictures[0].name, _picture_shape(pictures[0], size))


def _picture_shape(picture: onnx.ValueInfoProto, size: Size | None) -> Shape:
    tensor = picture.type.tensor_type
    sides = [entry.dim_value for entry in tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(sides) != 4 or sides[1] not in (0, 3):
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        raise ArchitectureError(
            f"the graph's input {clip(picture.name)} is {kind} of {len(sides)} axes {tuple(sides)},"
            " wanted float (n, 3, height, width)"
        )
    height, width = sides[2:]
    if size is not None:
        for side, wanted in ((height, size.height_px), (width, size.width_px)):
            if side not in (0, wanted):
                raise ArchitectureError(
                    f"the graph reads crops of {height}x{width} (height x width), "
                    f"not {size.height_px}x{size.width_px}"
                )
        height, width = size.height_px, size.width_px
    if not (height and width):
        raise ArchitectureError(
            "the graph leaves the size of its crops open; give it with --size, such as 112x112"
        )
    return 3, height, width


def _embedding_of(graph: _Graph) -> tuple[str, tuple[str, ...]]:
    """Return the tensor before what only scales the end, and the outputs of what was cut."""
    outputs = [entry.name for entry in graph.model.graph.output]
    if len(outputs) != 1:
        inside = [name for name in outputs if _leads_to(graph, name, outputs)]
        if len(inside) != 1:
            raise ArchitectureError(
                f"the graph has the outputs {', '.join(map(clip, outputs))}; wanted one embedding"
            )
        outputs = inside
    at, cut = outputs[0], list[str]()
    while (node := graph.makers.get(at)) is not None:
        if node.op_type in _ENDS | _LENGTHS or _is_length(graph, node):
            cut.append(at)
            at = node.input[0]
        else:
            break
    return at, tuple(cut)


def _leads_to(graph: _Graph, name: str, outputs: Sequence[str]) -> bool:
    """Return whether every other output is computed from ``name``."""
    others = [output for output in outputs if output != name]
    return all(name in _inputs_of(graph, other) for other in others)


def _inputs_of(graph: _Graph, name: str) -> set[str]:
    """Return every tensor that ``name`` is computed from."""
    found, waiting = set[str](), [name]
    while waiting:
        node = graph.makers.get(waiting.pop())
        fresh = [] if node is None else [source for source in node.input if source not in found]
        found.update(fresh)
        waiting += fresh
    return found


def _is_length(graph: _Graph, node: onnx.NodeProto) -> bool:
    """Return whether ``node`` divides a tensor by its own length."""
    if node.op_type != "Div" or node.input[1] in graph.constants:
        return False
    kinds, waiting, reached = set[str](), [node.input[1]], False
    while waiting:
        name = waiting.pop()
        maker = graph.makers.get(name)
        if name == node.input[0]:
            reached = True
        elif maker is not None and name not in graph.constants:
            kinds.add(maker.op_type)
            waiting += [source for source in maker.input if source]
        if kinds - _MADE_OF_LENGTH:
            return False
    return reached


def _needed(graph: _Graph, embedding: str, lengths: frozenset[str]) -> list[onnx.NodeProto]:
    """Return the nodes that ``embedding`` is computed by, in order, those of shapes left out."""
    wanted, nodes = {embedding}, []
    for node in reversed(graph.model.graph.node):
        if not wanted.intersection(node.output) or node.output[0] in graph.constants:
            continue
        nodes.append(node)
        first_only = node.op_type in ("Reshape", "Cast", "Dropout") or node.output[0] in lengths
        data = node.input[:1] if first_only else node.input
        wanted.update(name for name in data if name and name not in graph.constants)
    return nodes[::-1]


def _without_head(
    reader: NodeReader, graph: _Graph, embedding: str, cut: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """Return the embedding before a classification head, and what was cut.

    A last matrix is taken for one where shares of classes follow, or where it makes more values of
    an embedding than that has, and more than any embedding has.
    """
    last = reader.layers.get(reader.at[embedding])
    shares = any(graph.makers[name].op_type in ("Softmax", "LogSoftmax") for name in cut)
    if not isinstance(last, Linear):
        return embedding, cut
    outputs, inputs = last.weight.shape
    grows = outputs > max(inputs, _LARGEST_EMBEDDING) and _has_matrix(reader, last.input)
    if not shares and not grows:
        return embedding, cut
    before = next((name for name, at in reversed(reader.at.items()) if at == last.input), "")
    return before, (*cut, embedding)


def _has_matrix(reader: NodeReader, name: str) -> bool:
    while name in reader.layers:
        layer = reader.layers[name]
        if isinstance(layer, Linear):
            return True
        name = layer.input
    return False


def _up_to(reader: NodeReader, last: str) -> tuple[Layer, ...]:
    """Return the layers that ``last`` is computed by; parts of a Split may lead nowhere."""
    wanted = {last}
    for layer in reversed(reader.layers.values()):
        if layer.name in wanted:
            wanted.update(sources(layer))
    return tuple(layer for layer in reader.layers.values() if layer.name in wanted)


def _difference(graph: _Graph, embedding: str, network: Network) -> float:
    """Return the largest difference of a unit embedding to that of the graph itself."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingDependencyError("onnxruntime", extra="export") from exc
    crops = synthetic_crops(_CROPS, network.crop_size)
    theirs = onnx.ModelProto()
    theirs.CopyFrom(graph.model)
    del theirs.graph.output[:]
    theirs.graph.output.append(helper.make_tensor_value_info(embedding, 1, None))
    try:
        session = onnxruntime.InferenceSession(
            theirs.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        pixels = (crops.astype(np.float32) - 127.5) / 127.5
        rows = [
            session.run([embedding], {graph.picture: row.transpose(2, 0, 1)[None]})[0]
            for row in pixels
        ]
    except Exception as exc:  # ONNX Runtime has several error classes
        raise ArchitectureError(f"the graph itself does not run: {clip(exc)}") from exc
    expected = np.concatenate([np.asarray(row, np.float64).reshape(1, -1) for row in rows])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    ours = EmbeddingSession(emit(network, name="own")).embed(crops)
    difference = float(np.abs(ours - expected).max())
    return difference if np.isfinite(difference) else float("inf")

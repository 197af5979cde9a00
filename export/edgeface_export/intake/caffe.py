"""A Caffe network from its description (``.prototxt``) and its weights (``.caffemodel``).

Layers are those of the MobileFaceNet, SphereFace and ResNet families. What only training needs
(data, losses, accuracy) is left out. Semantics are those of Caffe's layer catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeface.errors import ArchitectureError, CheckpointError, CheckpointFormatError
from edgeface.types import FloatArray, Size
from edgeface_export.architectures.network import Network, Preprocessing
from edgeface_export.architectures.recognition import Dropped, Recognition
from edgeface_export.architectures.sums import with_convolutions_as_branches
from edgeface_export.checkpoints.source import read_source
from edgeface_export.checkpoints.text import clip
from edgeface_export.intake.caffe_layers import CaffeGraph
from edgeface_export.intake.described import (
    DAMAGE,
    DescribedLayout,
    described,
    template_of,
)
from edgeface_export.intake.prototxt import MAX_CHARACTERS, Message, parse_prototxt

__all__ = ["caffe_recognition", "find_prototxt"]

# Caffe reads pictures through OpenCV, and the trainers of SphereFace, CosFace and AM-Softmax
# subtract 127.5 and multiply by 0.0078125.
_PREPROCESSING = Preprocessing.uniform("BGR", 127.5, 128.0)


def find_prototxt(weights: Path, given: Path | None) -> Path:
    """Return the description that belongs to ``weights``: as given, or beside it.

    Raises:
        CheckpointFormatError: There is none, or several and none of them has the same name.
    """
    if given is not None:
        return given
    same = weights.with_suffix(".prototxt")
    if same.is_file():
        return same
    beside = sorted(weights.parent.glob("*.prototxt"))
    if len(beside) == 1:
        return beside[0]
    found = f"{len(beside)} other descriptions" if beside else "none"
    raise CheckpointFormatError(
        f"{weights.name} holds weights only; wanted the network's description {same.name} beside "
        f"it, found {found}; give it with --prototxt"
    )


def caffe_recognition(
    tensors: Mapping[str, FloatArray], description: Path, preprocessing: Preprocessing | None
) -> Recognition:
    """Return the network of the ``.prototxt`` at ``description`` with the weights ``tensors``.

    Raises:
        CheckpointFormatError: The description cannot be read.
        ArchitectureError: It holds a layer that is not known, or does not fit the weights.
    """
    try:
        return _recognised(tensors, description, preprocessing)
    except DAMAGE as exc:
        raise ArchitectureError(f"{description.name} contradicts itself: {clip(exc)}") from exc


def _recognised(
    tensors: Mapping[str, FloatArray], description: Path, preprocessing: Preprocessing | None
) -> Recognition:
    root = _parsed(description)
    blob, size = _input_of(root)
    graph = CaffeGraph(tensors, blob)
    for layer in [*root.messages("layer"), *root.messages("layers")]:
        graph.add(layer)
    layers = with_convolutions_as_branches(graph.ended())
    network = Network(layers, size, template_of(size), preprocessing or _PREPROCESSING)
    layout = DescribedLayout(
        "caffe", f"Caffe network {root.text('name')}".rstrip(), "Caffe", graph.loss, network
    )
    said = "Caffe's usual preprocessing was taken: " if preprocessing is None else "told: "
    reasons = (
        f"{description.name} describes {len(layers)} layers, and the weights fit them",
        f"{said}{network.preprocessing}",
    )
    return described(layout, reasons=reasons, dropped=_dropped(tensors, graph))


def _dropped(tensors: Mapping[str, FloatArray], graph: CaffeGraph) -> tuple[Dropped, ...]:
    rest = tuple(name for name in tensors if name.rpartition(".")[0] not in graph.used)
    return (Dropped("layers not described", rest),) if rest else ()


def _parsed(description: Path) -> Message:
    try:
        source = read_source(description, max_bytes=MAX_CHARACTERS)
        return parse_prototxt(source.content.decode("utf-8", "replace"))
    except CheckpointError as error:
        raise type(error)(f"{description}: {error}") from error


def _input_of(root: Message) -> tuple[str, Size]:
    """Return the name of the picture and its size."""
    name, sides = root.text("input"), root.integers("input_dim")
    sides = sides or root.message("input_shape").integers("dim")
    for layer in root.messages("layer"):
        if layer.text("type") == "Input":
            name = layer.text("top")
            sides = layer.message("input_param").message("shape").integers("dim")
    if not name or len(sides) != 4 or sides[1] != 3:
        data = [layer.text("type") for layer in root.messages("layer")][:1]
        what = f"begins with a layer of type {data[0]}" if data else "has no layer"
        raise ArchitectureError(
            f"the description {what} and no input of (n, 3, height, width), got {tuple(sides)}; "
            "give the one for deployment, not for training"
        )
    if min(sides[2:]) < 1:
        raise CheckpointFormatError(f"the input has the sides {tuple(sides)}")
    return name, Size(sides[3], sides[2])

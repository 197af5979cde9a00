"""Small real bundles for presentation attack detection: bright crops are bona fide."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from edgeface.manifest import (
    MANIFEST_NAME,
    Artefact,
    ModelSource,
    PadManifest,
    Verdict,
    manifest_to_json,
)
from edgeface.types import FloatArray, ImageArray, Size

Behaviour = Literal["brightness", "nan", "no-softmax"]
CLASSES = ("attack-0", "bona-fide", "attack-2")
_STEEPNESS = 1 / 16


def pad_onnx(*, size: Size = Size(80, 80), behaviour: Behaviour = "brightness") -> bytes:  # noqa: B008
    """An ONNX model whose class 1 grows with the mean of the crop, from 0.5 at 128 - 11."""
    import onnx
    from onnx import TensorProto, helper

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=output, **attributes)

    last = "rows" if behaviour == "no-softmax" else "logits"
    nodes = [
        node("Cast", ["crops"], "float", to=TensorProto.FLOAT),
        node("ReduceMean", ["float"], "mean", axes=[1, 2, 3], keepdims=1),
        node("Flatten", ["mean"], "flat", axis=1),
        node("Gemm", ["flat", "slope", "bias"], last),
    ]
    if behaviour != "no-softmax":
        nodes.append(node("Softmax", [last], "rows", axis=1))
    slope = np.array([[0, _STEEPNESS, 0]], np.float32)
    if behaviour == "nan":
        slope[0, 1] = np.nan
    arrays = {"slope": slope, "bias": np.array([0, -128 * _STEEPNESS, 0], np.float32)}
    graph = helper.make_graph(
        nodes,
        "bright",
        [
            helper.make_tensor_value_info(
                "crops", TensorProto.UINT8, ["n", size.height_px, size.width_px, 3]
            )
        ],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", len(CLASSES)])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def pad_manifest(*, name: str = "bright", box_scale: float = 2.7) -> PadManifest:
    return PadManifest(
        model_id=hashlib.sha256(f"{name} {box_scale}".encode()).hexdigest(),
        name=name,
        crop_size=Size(80, 80),
        box_scale=box_scale,
        classes=CLASSES,
        bona_fide_class=1,
        source=ModelSource("bright.pth", "0" * 64, "none", "bright"),
        artefacts=(Artefact("fp32", "model.fp32.onnx", "0" * 64, 1, "float32"),),
        verdict=Verdict("passed"),
    )


def make_pad_bundle(
    folder: Path,
    *,
    name: str = "bright",
    box_scale: float = 2.7,
    content: bytes | None = None,
) -> Path:
    """Write the bundle ``folder/NAME.edgeface`` and return its path."""
    content = pad_onnx() if content is None else content
    path = folder / f"{name}.edgeface"
    path.mkdir(parents=True)
    (path / "model.fp32.onnx").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    artefact = Artefact("fp32", "model.fp32.onnx", digest, len(content), "float32")
    manifest = replace(pad_manifest(name=name, box_scale=box_scale), artefacts=(artefact,))
    (path / MANIFEST_NAME).write_text(manifest_to_json(manifest), encoding="utf-8")
    return path


class FakePadNetwork:
    """A network that says ``bona_fide`` of every crop, and keeps the crops."""

    def __init__(self, bona_fide: float, *, box_scale: float = 2.7, name: str = "fake") -> None:
        self.manifest = pad_manifest(name=name, box_scale=box_scale)
        self.bona_fide = bona_fide
        self.crops: list[ImageArray] = []
        self.closed = 0

    def run(self, crops: ImageArray) -> FloatArray:
        self.crops += list(crops)
        rest = (1 - self.bona_fide) / 2
        return np.array([[rest, self.bona_fide, rest]] * len(crops), np.float32)

    def close(self) -> None:
        self.closed += 1

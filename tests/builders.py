"""Small real bundles for tests: a network of a few kilobytes that obeys the bundle contract."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeface.bundle import (
    MANIFEST_NAME,
    Artefact,
    Manifest,
    ModelSource,
    Verdict,
    manifest_to_json,
)
from edgeface.types import OperatingPoint, Size

Behaviour = Literal["random", "constant", "nan", "long"]
"""What a tiny network does: a random projection; the same row for every face; NaN; length 2."""

_PATCH_PX = 16
_CHANNELS = 8


def tiny_onnx(
    *,
    embedding_size: int = 16,
    crop_size: Size = Size(112, 112),  # noqa: B008 - frozen
    seed: int = 0,
    noise: float = 0.0,
    behaviour: Behaviour = "random",
) -> bytes:
    """An ONNX model: uint8 (n, height, width, 3) in, float32 (n, ``embedding_size``) out.

    ``seed`` sets the weights; ``noise`` disturbs them, so that two models of one seed are alike.
    """
    import onnx
    from onnx import TensorProto, helper

    height, width = crop_size.height_px, crop_size.width_px
    nodes = [
        _node("Cast", ["crops"], "float", to=TensorProto.FLOAT),
        _node("Sub", ["float", "mean"], "centred"),
        _node("Div", ["centred", "scale"], "scaled"),
        _node("Transpose", ["scaled"], "planes", perm=[0, 3, 1, 2]),
        _node("Conv", ["planes", "filters"], "patches", strides=[_PATCH_PX, _PATCH_PX]),
        _node("Flatten", ["patches"], "flat"),
        _node("Gemm", ["flat", "weights", "bias"], "raw"),
        _node("ReduceL2", ["raw"], "length", axes=[1], keepdims=1),
        _node("Div", ["raw", "length"], "unit"),
        _node("Mul", ["unit", "factor"], "embedding"),
    ]
    arrays = _weights(embedding_size, crop_size, np.random.default_rng(seed))
    jitter = np.random.default_rng(seed + 1)
    for name in ("filters", "weights"):
        arrays[name] = arrays[name] * (1 + noise * jitter.standard_normal(arrays[name].shape))
    if behaviour == "constant":
        arrays["weights"] *= 0
        arrays["bias"] += 1
    arrays["factor"] = np.array({"nan": np.nan, "long": 2.0}.get(behaviour, 1.0))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("crops", TensorProto.UINT8, ["n", height, width, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", embedding_size])],
        [onnx.numpy_helper.from_array(a.astype(np.float32), k) for k, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_bundle(
    folder: Path,
    *,
    embedding_size: int = 16,
    crop_size: Size = Size(112, 112),  # noqa: B008 - frozen
    artefacts: Mapping[str, bytes] | tuple[str, ...] = ("fp32",),
    figures: Mapping[str, float] | None = None,
    operating_points: tuple[OperatingPoint, ...] = (),
) -> Path:
    """Write the bundle ``folder/tiny.edgeface`` and return its path; open it with ``Bundle.open``.

    ``artefacts`` are names, whose networks are alike but not equal, or ONNX content by name.
    """
    if isinstance(artefacts, tuple):
        artefacts = {
            name: tiny_onnx(embedding_size=embedding_size, crop_size=crop_size, noise=0.01 * k)
            for k, name in enumerate(artefacts)
        }
    path = folder / "tiny.edgeface"
    path.mkdir(parents=True)
    entries = tuple(_write_artefact(path, name, content) for name, content in artefacts.items())
    template = f"arcface-{crop_size.height_px}x{crop_size.width_px}"
    manifest = Manifest(
        model_id=hashlib.sha256("".join(e.sha256 for e in entries).encode()).hexdigest(),
        name="tiny",
        embedding_size=embedding_size,
        crop_size=crop_size,
        alignment_template=template,
        source=ModelSource("tiny.pt", "0" * 64, "none", "tiny"),
        artefacts=entries,
        verdict=Verdict("passed", figures=dict(figures or {})),
        operating_points=operating_points,
    )
    (path / MANIFEST_NAME).write_text(manifest_to_json(manifest), encoding="utf-8")
    return path


def _write_artefact(folder: Path, name: str, content: bytes) -> Artefact:
    file = f"model.{name}.onnx"
    (folder / file).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Artefact(name, file, digest, len(content), precision=name)


def _weights(
    embedding_size: int, crop_size: Size, rng: np.random.Generator
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    cells = (crop_size.height_px // _PATCH_PX) * (crop_size.width_px // _PATCH_PX)
    flat = _CHANNELS * cells
    return {
        "mean": np.array(127.5),
        "scale": np.array(128.0),
        "filters": rng.standard_normal((_CHANNELS, 3, _PATCH_PX, _PATCH_PX)) / _PATCH_PX,
        "weights": rng.standard_normal((flat, embedding_size)) / flat**0.5,
        "bias": np.zeros(embedding_size),
    }


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, [output], name=output, **attributes)

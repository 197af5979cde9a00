from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.backends import open_backend
from edgeface.backends.ort import OrtBackend, default_threads
from edgeface.bundle import Bundle
from edgeface.errors import (
    BackendError,
    BundleFormatError,
    BundleIntegrityError,
    InvalidInputError,
    MissingDependencyError,
)
from edgeface.types import ImageArray, Size
from tests.builders import make_bundle, tiny_onnx

pytest.importorskip("onnxruntime")


def crops(n: int, height: int = 112, width: int = 112) -> ImageArray:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(make_bundle(tmp_path))


def test_no_crops_give_no_rows_and_do_not_reach_the_engine(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OrtBackend(bundle)
    monkeypatch.setattr(backend, "_session", object())
    rows = backend.run(crops(0))
    assert rows.shape == (0, 16)
    assert rows.dtype == np.float32


@pytest.mark.parametrize("n", [1, 3, 17])
def test_rows_are_of_unit_length_and_do_not_depend_on_the_batch(bundle: Bundle, n: int) -> None:
    backend = OrtBackend(bundle, threads=1)
    faces = crops(n)
    rows = backend.run(faces)
    assert rows.shape == (n, 16)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(n), abs=1e-5)
    single = np.concatenate([backend.run(face[None]) for face in faces])
    assert rows == pytest.approx(single, abs=1e-5)


def test_views_that_are_not_contiguous_are_taken(bundle: Bundle) -> None:
    backend = OrtBackend(bundle)
    faces = crops(2)
    assert backend.run(faces[..., ::-1]) == pytest.approx(backend.run(faces[..., ::-1].copy()))


@pytest.mark.parametrize(
    "bad",
    [
        crops(1)[0],
        crops(1).astype(np.float32),
        crops(1, 112, 96),
        crops(1)[..., :1],
        crops(1).transpose(0, 3, 1, 2),
    ],
)
def test_crops_of_another_type_or_shape_are_refused(bundle: Bundle, bad: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"uint8 of shape \(n, 112, 112, 3\)"):
        OrtBackend(bundle).run(bad)


def test_name_says_engine_and_version(bundle: Bundle) -> None:
    import onnxruntime

    backend = OrtBackend(bundle)
    assert backend.name == f"onnxruntime {onnxruntime.__version__} CPU"
    assert backend.artefact == "fp32"


def test_closed_backend_runs_no_more_and_closes_twice(bundle: Bundle) -> None:
    backend = OrtBackend(bundle)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run(crops(1))


def test_narrow_crops_follow_the_manifest(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, crop_size=Size(96, 112), embedding_size=5)
    assert OrtBackend(Bundle.open(path)).run(crops(2, 112, 96)).shape == (2, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiny_onnx(embedding_size=8), r"outputs are.*8.*wanted tensor\(float\) \['n', 16\]"),
        (tiny_onnx(crop_size=Size(96, 112)), r"inputs are.*96.*wanted tensor\(uint8\)"),
    ],
)
def test_model_that_differs_from_its_manifest_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    bundle = Bundle.open(make_bundle(tmp_path, artefacts={"fp32": content}))
    with pytest.raises(BackendError, match=message):
        OrtBackend(bundle)


def changed(content: bytes, change: str) -> bytes:
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    if change == "fixed batch":
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    elif change == "second output":
        graph.output.append(onnx.helper.make_tensor_value_info("raw", 1, ["n", 16]))
    elif change == "float input":
        graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    elif change == "unknown operator":
        graph.node[0].op_type = "Cast2"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    "change", ["fixed batch", "second output", "float input", "unknown operator"]
)
def test_graph_that_breaks_the_contract_is_refused(tmp_path: Path, change: str) -> None:
    content = changed(tiny_onnx(), change)
    bundle = Bundle.open(make_bundle(tmp_path, artefacts={"fp32": content}))
    with pytest.raises(BackendError, match="export the model again"):
        OrtBackend(bundle)


def test_file_changed_after_the_bundle_was_opened_is_refused(bundle: Bundle) -> None:
    file = bundle.path / "model.fp32.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleIntegrityError, match="changed"):
        OrtBackend(bundle)


def test_engine_that_is_not_installed_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"edgeface\[cpu\]"):
        OrtBackend(bundle)


def test_threads_are_chosen_within_reason(bundle: Bundle) -> None:
    assert 1 <= default_threads() <= 4
    with pytest.raises(InvalidInputError, match="threads"):
        OrtBackend(bundle, threads=0)


def test_unknown_names_are_refused_with_those_that_exist(bundle: Bundle) -> None:
    with pytest.raises(InvalidInputError, match=r"'quick', choose one of auto, .*ort"):
        open_backend(bundle, backend="quick")
    with pytest.raises(BundleFormatError, match="choose one of fp32"):
        open_backend(bundle, artefact="int8")

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.backends import open_backend
from edgeface.backends.ort import OrtBackend
from edgeface.backends.ov import OpenVinoBackend, import_openvino
from edgeface.bundle import Bundle
from edgeface.errors import (
    BackendError,
    BundleIntegrityError,
    InvalidInputError,
    MissingDependencyError,
)
from edgeface.types import ImageArray, Size
from tests.builders import make_bundle, tiny_onnx

# Not importorskip: a plain import of openvino would start its telemetry.
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def crops(n: int, height: int = 112, width: int = 112) -> ImageArray:
    return np.random.default_rng(n).integers(0, 256, (n, height, width, 3)).astype(np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(make_bundle(tmp_path))


@needs_openvino
def test_no_crops_give_no_rows(bundle: Bundle) -> None:
    rows = OpenVinoBackend(bundle).run(crops(0))
    assert rows.shape == (0, 16)
    assert rows.dtype == np.float32


@needs_openvino
@pytest.mark.parametrize("n", [1, 2, 3, 8, 17])
def test_rows_are_those_of_onnx_runtime_whatever_the_batch(bundle: Bundle, n: int) -> None:
    faces = crops(n)
    rows = OpenVinoBackend(bundle, threads=1).run(faces)
    assert rows.dtype == np.float32
    assert rows == pytest.approx(OrtBackend(bundle, threads=1).run(faces), abs=1e-5)


@needs_openvino
def test_rows_stay_when_the_engine_runs_again(bundle: Bundle) -> None:
    backend = OpenVinoBackend(bundle, threads=1)
    first = backend.run(crops(1))
    kept = first.copy()
    backend.run(crops(2)[:1])
    assert (first == kept).all()


@needs_openvino
def test_views_that_are_not_contiguous_are_taken(bundle: Bundle) -> None:
    backend = OpenVinoBackend(bundle)
    faces = crops(2)
    assert backend.run(faces[..., ::-1]) == pytest.approx(backend.run(faces[..., ::-1].copy()))


@needs_openvino
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
        OpenVinoBackend(bundle).run(bad)


@needs_openvino
def test_name_says_engine_and_version(bundle: Bundle) -> None:
    from importlib.metadata import version

    backend = open_backend(bundle, backend="openvino", artefact="fp32", threads=1)
    assert isinstance(backend, OpenVinoBackend)
    assert backend.name == f"openvino {version('openvino')} CPU"
    assert backend.artefact == "fp32"


@needs_openvino
def test_closed_backend_runs_no_more_and_closes_twice(bundle: Bundle) -> None:
    backend = OpenVinoBackend(bundle)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.run(crops(1))


@needs_openvino
def test_narrow_crops_follow_the_manifest(tmp_path: Path) -> None:
    path = make_bundle(tmp_path, crop_size=Size(96, 112), embedding_size=5)
    assert OpenVinoBackend(Bundle.open(path)).run(crops(2, 112, 96)).shape == (2, 5)


def changed(change: str) -> bytes:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(tiny_onnx())
    if change == "fixed batch":
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    elif change == "second output":
        model.graph.output.append(onnx.helper.make_tensor_value_info("raw", 1, ["n", 16]))
    elif change == "unknown operator":
        model.graph.node[0].op_type = "Cast2"
    return bytes(model.SerializeToString())


@needs_openvino
@pytest.mark.parametrize(
    "content",
    [
        tiny_onnx(embedding_size=8),
        tiny_onnx(crop_size=Size(96, 112)),
        changed("fixed batch"),
        changed("second output"),
        changed("unknown operator"),
    ],
    ids=["embedding size", "crop size", "fixed batch", "second output", "unknown operator"],
)
def test_graph_that_breaks_the_contract_is_refused(tmp_path: Path, content: bytes) -> None:
    bundle = Bundle.open(make_bundle(tmp_path, artefacts={"fp32": content}))
    with pytest.raises(BackendError, match="export the model again"):
        OpenVinoBackend(bundle)


@needs_openvino
def test_file_changed_after_the_bundle_was_opened_is_refused(bundle: Bundle) -> None:
    file = bundle.path / "model.fp32.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(BundleIntegrityError, match="changed"):
        OpenVinoBackend(bundle)


@needs_openvino
@pytest.mark.parametrize("threads", [1, 2])
def test_thread_count_and_precision_are_what_was_asked(bundle: Bundle, threads: int) -> None:
    backend = OpenVinoBackend(bundle, threads=threads)
    compiled = backend._requests[1][0].get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert "float" in str(compiled.get_property("INFERENCE_PRECISION_HINT"))


@needs_openvino
def test_importing_the_engine_starts_no_telemetry(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from edgeface.backends.ov import import_openvino\n"
        "module = import_openvino()\n"
        "assert import_openvino() is module\n"
        "assert not any(name.startswith('openvino_telemetry') for name in sys.modules)\n"
        "assert callable(module.Core)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr
    # OpenVINO's telemetry would have written the number of this user to a file here.
    assert list(tmp_path.iterdir()) == []


def test_engine_that_is_not_installed_is_named(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"edgeface\[openvino\]"):
        OpenVinoBackend(bundle)
    with pytest.raises(MissingDependencyError):
        import_openvino()


def test_thread_count_below_one_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InvalidInputError, match="threads"):
        OpenVinoBackend(bundle, threads=0)

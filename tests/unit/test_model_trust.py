"""A model that reaches outside of its bundle never comes to ONNX Runtime, whatever its version."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgeface.backends.ort import OrtBackend
from edgeface.bundle import MANIFEST_NAME, Bundle
from edgeface.errors import BundleIntegrityError
from edgeface.signatures import SigningKey

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from tests.builders import make_bundle  # noqa: E402

SECRET = b"\x00\x00\x80\x3f" * 64


def outside(folder: Path, form: str) -> str:
    """Put a secret where ``form`` says; return how a model in ``folder`` would name it."""
    secret = folder.parent / "secret.bin"
    secret.write_bytes(SECRET)
    if form == "parent":
        return "../secret.bin"
    if form == "absolute":
        return str(secret)
    name = folder / "weights.bin"
    if form == "symbolic link":
        name.symlink_to(secret)
    elif form == "hard link":
        os.link(secret, name)
    elif form == "link to a folder":
        (folder / "there").symlink_to(folder.parent)
        return "there/secret.bin"
    else:
        name.write_bytes(SECRET)
    return "weights.bin"


FORMS = (
    "parent",
    "absolute",
    "symbolic link",
    "hard link",
    "link to a folder",
    "plain file of the bundle",
)


def reaching_model(location: str, *, nested: bool = False) -> bytes:
    """A model that adds 64 numbers of another file to its input."""
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[64])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(SECRET)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    value_in = helper.make_tensor_value_info("x", kind, [64])
    value_out = helper.make_tensor_value_info("y", kind, [64])
    add = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([add], "g", [value_in], [value_out], [tensor])
    if nested:
        inner_out = helper.make_tensor_value_info("z", kind, [64])
        inner = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["z"])], "i", [], [inner_out], [tensor]
        )
        choice = helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True])
        both = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
        graph = helper.make_graph([both], "g", [value_in], [value_out], [choice])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def hostile_bundle(folder: Path, form: str, *, nested: bool) -> Path:
    """A bundle whose manifest and hashes are right, and whose artefact reaches outside."""
    path = make_bundle(folder)
    model = reaching_model(outside(path, form), nested=nested)
    (path / "model.fp32.onnx").write_bytes(model)
    manifest = json.loads((path / MANIFEST_NAME).read_text())
    manifest["artefacts"][0] |= {
        "sha256": hashlib.sha256(model).hexdigest(),
        "size_bytes": len(model),
    }
    (path / MANIFEST_NAME).write_text(json.dumps(manifest))
    return path


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that ONNX Runtime was given."""
    given: list[Any] = []
    real = onnxruntime.InferenceSession

    def spy(model: Any, *arguments: Any, **more: Any) -> Any:
        given.append(model)
        return real(model, *arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    return given


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("nested", [False, True], ids=["graph", "subgraph"])
def test_a_model_that_reaches_outside_never_comes_to_the_engine(
    tmp_path: Path, sessions: list[Any], form: str, nested: bool
) -> None:
    path = hostile_bundle(tmp_path, form, nested=nested)
    with pytest.raises(BundleIntegrityError, match="another file"):
        OrtBackend(Bundle.open(path), "fp32")
    assert sessions == []


def test_a_good_model_comes_to_the_engine_as_bytes_and_not_as_a_path(
    tmp_path: Path, sessions: list[Any]
) -> None:
    """What has no folder has nothing to be relative to."""
    OrtBackend(Bundle.open(make_bundle(tmp_path)), "fp32").close()
    assert sessions
    assert all(isinstance(model, bytes) for model in sessions)


def test_a_model_exchanged_between_opening_and_loading_is_noticed(
    tmp_path: Path, sessions: list[Any]
) -> None:
    path = make_bundle(tmp_path)
    bundle = Bundle.open(path)
    (path / "model.fp32.onnx").write_bytes(reaching_model("../secret.bin"))
    with pytest.raises(BundleIntegrityError, match="was changed"):
        OrtBackend(bundle, "fp32")
    assert sessions == []


def test_a_recogniser_takes_a_bundle_of_a_trusted_key_alone(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgeface import Recognizer, RecognizerOptions
    from edgeface.errors import BundleSignatureError

    key = SigningKey.generate().public_key
    with pytest.raises(BundleSignatureError, match="is not signed"):
        Recognizer.open(make_bundle(tmp_path), options=RecognizerOptions(trusted_keys=(key,)))


def test_a_pad_bundle_is_asked_for_its_signature_too(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgeface.bundle import sign_bundle
    from edgeface.errors import BundleSignatureError
    from edgeface.pad import PadBundle
    from tests.pad_bundles import make_pad_bundle

    path = make_pad_bundle(tmp_path)
    key = SigningKey.generate()
    with pytest.raises(BundleSignatureError, match="is not signed"):
        PadBundle.open(path, trusted_keys=[key.public_key])
    sign_bundle(path, key)
    PadBundle.open(path, trusted_keys=[key.public_key])

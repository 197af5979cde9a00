"""The head that is put in front of an older model file."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

import edgeface
from edgeface.assets.flatbuffer import Ints, Octets, Refs, Table, View, with_new_head
from edgeface.assets.landmarker_bundle import build_landmarker_bundle, join_landmark_outputs
from edgeface.errors import AssetIntegrityError


def small_model() -> bytes:
    """A model file of the attention mesh's shape: seven outputs and no operators."""
    tensors = [Table({0: Ints((1, k)), 2: 0, 3: Octets(b"t")}) for k in range(7)]
    graph = Table({0: Refs(tuple(tensors)), 1: Ints((0,)), 2: Ints(tuple(range(7))), 3: Refs(())})
    root = Table(
        {0: 3, 1: Refs((Table({3: 0}),)), 2: Refs((graph,)), 4: Refs((Table({0: Octets(b"")}),))}
    )
    return with_new_head(b"", root, b"TFL3")


def test_the_joined_model_keeps_the_old_bytes_and_has_two_outputs() -> None:
    old = small_model()
    new = join_landmark_outputs(old)
    assert new.endswith(old)
    assert (len(new) - len(old)) % 16 == 0
    assert new[4:8] == b"TFL3"
    view = View(new)
    root = view.target(0)
    (graph,) = view.refs(root, 2)
    assert view.ints(graph.at, 2) == (9, 6)
    join, gather = (operator.at for operator in view.refs(graph.at, 3))
    assert view.ints(join, 1) == (0, 1, 4, 5)
    assert view.ints(gather, 1) == (7, 8)
    assert len(view.refs(root, 1)) == 3
    index = view.refs(root, 4)[1].at
    (length,) = struct.unpack_from("<I", new, view.target(view.field(index, 0) or 0))
    assert length == 4 * 1434


def test_joining_is_the_same_every_time() -> None:
    assert join_landmark_outputs(small_model()) == join_landmark_outputs(small_model())


def test_the_bundle_holds_both_networks_and_nothing_else() -> None:
    members = {
        "face_detection_short_range.tflite": b"weights",
        "face_landmark_with_attention.tflite": small_model(),
    }
    packed = build_landmarker_bundle(members)
    with zipfile.ZipFile(io.BytesIO(packed)) as bundle:
        contents = {name: bundle.read(name) for name in bundle.namelist()}
    assert contents == {
        "face_detector.tflite": b"weights",
        "face_landmarks_detector.tflite": join_landmark_outputs(small_model()),
    }
    assert all(packed.index(content) % 16 == 0 for content in contents.values())
    assert packed == build_landmarker_bundle(members)


def test_the_package_carries_no_model_data() -> None:
    (package,) = edgeface.__path__
    own = Path(package) / "models"  # the recogniser that we trained ourselves
    files = [path for path in Path(package).rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files if own not in path.parents}
    assert kinds <= {".py", ".pyc", ".typed"}


@pytest.mark.parametrize("cut", [0, 4, 40, 120])
def test_a_truncated_model_file_is_refused(cut: int) -> None:
    with pytest.raises(AssetIntegrityError):
        join_landmark_outputs(small_model()[:cut])

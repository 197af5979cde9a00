from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.alignment import align
from edgeface.errors import ActivationSetError, InvalidInputError
from edgeface.types import Frame, ImageArray
from edgeface_calibration.activation_set_manifest import (
    CropMeasures,
    SourceKind,
    manifest_from_json,
)
from edgeface_calibration.activation_set_store import (
    CollectedFace,
    StoredActivationSet,
    cut_to_template,
    default_activation_set,
    default_activation_set_path,
    is_activation_set,
    save_activation_set,
)
from tests.unit.test_activation_set import face

cv2 = pytest.importorskip("cv2")

TEMPLATE = "arcface-112x112"
MEASURES = CropMeasures(
    yaw_deg=12.5, pitch_deg=-3.0, roll_deg=0.0, luminance=0.5, sharpness=0.4, eye_distance_px=41.0
)


def save(folder: Path, n: int = 3, **options: Any) -> StoredActivationSet:
    faces = [CollectedFace(face(k), MEASURES, SourceKind.VIDEO) for k in range(n)]
    path = options.pop("path", folder / "mine.activations")
    return save_activation_set(path, faces, template=TEMPLATE, refused={"too_small": 2}, **options)


def manifest_of(stored: StoredActivationSet) -> dict[str, Any]:
    return dict(json.loads((stored.path / "manifest.json").read_text()))


def write_manifest(stored: StoredActivationSet, data: Any) -> None:
    (stored.path / "manifest.json").write_text(json.dumps(data))


# --- what is written


def test_crops_come_back_without_loss(tmp_path: Path) -> None:
    stored = StoredActivationSet.open(save(tmp_path).path)
    wanted = {face(k).tobytes() for k in range(3)}
    assert {crop.tobytes() for crop in stored.crops()} == wanted
    assert stored.crops().shape == (3, 112, 112, 3)
    assert not stored.crops().flags.writeable
    assert (stored.crops([2])[0] == stored.crops()[2]).all()
    assert stored.crops([]).shape == (0, 112, 112, 3)


def test_what_is_known_of_a_crop_comes_back(tmp_path: Path) -> None:
    manifest = StoredActivationSet.open(save(tmp_path).path).manifest
    assert manifest.template == TEMPLATE
    assert manifest.refused == {"too_small": 2}
    assert [record.measures for record in manifest.crops] == [MEASURES] * 3
    assert {record.source_kind for record in manifest.crops} == {SourceKind.VIDEO}


def test_a_set_is_for_its_owner_alone(tmp_path: Path) -> None:
    stored = save(tmp_path)
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in stored.path.iterdir()}
    assert modes == {0o600}
    assert "personal data" in manifest_of(stored)["notice"]


def test_files_are_called_after_their_hash_and_nothing_else(tmp_path: Path) -> None:
    stored = save(tmp_path)
    names = sorted(path.name for path in stored.path.iterdir())
    hashes = [
        hashlib.sha256((stored.path / record.file).read_bytes()).hexdigest()
        for record in stored.manifest.crops
    ]
    assert names == sorted([*(f"{digest[:32]}.png" for digest in hashes), "manifest.json"])
    assert hashes == [record.sha256 for record in stored.manifest.crops] == sorted(hashes)
    assert str(tmp_path) not in (stored.path / "manifest.json").read_text()


def test_equal_crops_are_kept_once(tmp_path: Path) -> None:
    faces = [CollectedFace(face(1), MEASURES, SourceKind.PICTURE)] * 2
    stored = save_activation_set(tmp_path / "a.activations", faces, template=TEMPLATE, refused={})
    assert len(stored) == 1


@pytest.mark.parametrize("name", ["mine", "mine.edgeface", "activations"])
def test_a_name_with_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"NAME\.activations"):
        save(tmp_path, path=tmp_path / name)


def test_a_set_is_replaced_only_when_asked(tmp_path: Path) -> None:
    save(tmp_path, n=3)
    with pytest.raises(InvalidInputError, match="--force"):
        save(tmp_path, n=4)
    assert len(save(tmp_path, n=4, overwrite=True)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["mine.activations"]


def test_what_is_no_set_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.activations").mkdir()
    (tmp_path / "mine.activations" / "photo.jpg").write_bytes(b"dear")
    with pytest.raises(InvalidInputError, match="not an activation set"):
        save(tmp_path, overwrite=True)
    assert (tmp_path / "mine.activations" / "photo.jpg").read_bytes() == b"dear"


def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save(tmp_path, n=3)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgeface_calibration.activation_set_store.os.fsync", full)
    with pytest.raises(ActivationSetError, match=r"cannot be written: .*No space left"):
        save(tmp_path, n=5, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.activations"]
    assert len(StoredActivationSet.open(before.path)) == 3


def test_a_set_is_not_written_to_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ActivationSetError, match="make it first"):
        save(tmp_path, path=tmp_path / "none" / "mine.activations")


# --- what is refused


def test_a_changed_crop_is_refused(tmp_path: Path) -> None:
    stored = save(tmp_path)
    stored.crop_path(1).write_bytes(stored.crop_path(0).read_bytes())
    with pytest.raises(ActivationSetError, match="was changed"):
        StoredActivationSet.open(stored.path)


def test_a_crop_changed_after_opening_is_refused(tmp_path: Path) -> None:
    stored = save(tmp_path)
    stored.crop_path(1).write_bytes(stored.crop_path(0).read_bytes())
    with pytest.raises(ActivationSetError, match="was changed"):
        stored.crops()


def test_a_missing_crop_is_refused(tmp_path: Path) -> None:
    stored = save(tmp_path)
    stored.crop_path(0).unlink()
    with pytest.raises(ActivationSetError, match="cannot be read"):
        StoredActivationSet.open(stored.path)


@pytest.mark.parametrize("what", ["crop", "manifest"])
def test_a_link_is_refused(tmp_path: Path, what: str) -> None:
    stored = save(tmp_path)
    path = stored.crop_path(0) if what == "crop" else stored.path / "manifest.json"
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(ActivationSetError, match="link"):
        StoredActivationSet.open(stored.path)


def test_a_folder_in_the_place_of_a_crop_is_refused(tmp_path: Path) -> None:
    stored = save(tmp_path)
    stored.crop_path(0).unlink()
    stored.crop_path(0).mkdir()
    with pytest.raises(ActivationSetError, match="not a plain file"):
        StoredActivationSet.open(stored.path)


def test_a_manifest_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    stored = save(tmp_path)
    path = stored.path / "manifest.json"
    content = path.read_bytes()
    # The last byte is the end of the line.
    for length in range(0, len(content) - 1, 7):
        path.write_bytes(content[:length])
        with pytest.raises(ActivationSetError, match="not whole JSON"):
            StoredActivationSet.open(stored.path)
        assert is_activation_set(stored.path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 2}, "version"),
        ({"format": "something"}, "format"),
        ({"count": 2}, "count is 2"),
        ({"template": "eyes-64"}, "unknown template"),
        ({"template": 3}, "string"),
        ({"crop_size": {"width_px": 96, "height_px": 112}}, "crop_size"),
        ({"crops": {}}, "must be a list"),
        ({"crops": [3]}, r"crops\[0\] must be an object"),
        ({"refused": {"x": -1}}, "count"),
        ({"refused": {"x": True}}, "count"),
        ({"owner": "me"}, "unknown fields"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    stored = save(tmp_path)
    write_manifest(stored, manifest_of(stored) | change)
    with pytest.raises(ActivationSetError, match=said):
        StoredActivationSet.open(stored.path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "../../etc/passwd"}, "after its hash"),
        ({"file": "a/b.png"}, "after its hash"),
        ({"file": None}, "after its hash"),
        ({"sha256": "../../x"}, "hexadecimal"),
        ({"sha256": 7}, "hexadecimal"),
        ({"source_kind": "cloud"}, "cloud"),
        ({"source_kind": []}, "SourceKind"),
        ({"yaw_deg": float("nan")}, "finite"),
        ({"yaw_deg": "left"}, "finite"),
        ({"sharpness": True}, "finite"),
        ({"name": "Ada"}, "unknown fields"),
    ],
)
def test_a_crop_that_is_described_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    stored = save(tmp_path)
    data = manifest_of(stored)
    data["crops"][1] |= change
    write_manifest(stored, data)
    with pytest.raises(ActivationSetError, match=said):
        StoredActivationSet.open(stored.path)


def test_a_crop_listed_twice_is_refused(tmp_path: Path) -> None:
    stored = save(tmp_path)
    data = manifest_of(stored)
    data["crops"][1] = data["crops"][0]
    write_manifest(stored, data)
    with pytest.raises(ActivationSetError, match="twice"):
        StoredActivationSet.open(stored.path)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "[" * 100_000, "{}"])
def test_json_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ActivationSetError):
        manifest_from_json(text, where="here")


def test_a_manifest_that_is_no_text_is_refused(tmp_path: Path) -> None:
    stored = save(tmp_path)
    (stored.path / "manifest.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ActivationSetError, match="UTF-8"):
        StoredActivationSet.open(stored.path)


@pytest.mark.parametrize("pixels", [np.zeros((112, 96, 3)), np.zeros((2000, 2000, 3))])
def test_a_picture_of_another_size_is_refused(tmp_path: Path, pixels: np.ndarray[Any, Any]) -> None:
    stored = swap_in(save(tmp_path), cv2.imencode(".png", pixels.astype(np.uint8))[1].tobytes())
    with pytest.raises(ActivationSetError, match="wanted 112x112"):
        stored.crops()


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    stored = swap_in(save(tmp_path), b"hello")
    with pytest.raises(ActivationSetError, match="not a picture"):
        stored.crops()


def swap_in(stored: StoredActivationSet, content: bytes) -> StoredActivationSet:
    """Put ``content`` in the place of the first crop, with a hash that is right."""
    data = manifest_of(stored)
    digest = hashlib.sha256(content).hexdigest()
    data["crops"][0] |= {"sha256": digest, "file": f"{digest[:32]}.png"}
    (stored.path / f"{digest[:32]}.png").write_bytes(content)
    write_manifest(stored, data)
    return StoredActivationSet.open(stored.path)


def test_a_folder_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ActivationSetError, match="activation-set collect"):
        StoredActivationSet.open(tmp_path / "none.activations")


# --- where it is


def test_the_default_set_is_found_where_it_was_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_activation_set() is None
    path = default_activation_set_path()
    assert path == tmp_path / "data" / "edgeface" / "activations" / "default.activations"
    save(tmp_path, path=path)
    assert default_activation_set() == path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_default_place_is_below_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert default_activation_set_path().is_relative_to(tmp_path / ".local" / "share")


def test_a_folder_of_photos_is_no_set_whatever_manifest_it_has(tmp_path: Path) -> None:
    assert not is_activation_set(tmp_path)
    (tmp_path / "manifest.json").write_text('{"photos": 3}')
    assert not is_activation_set(tmp_path)
    renamed = tmp_path / "renamed"
    shutil.copytree(save(tmp_path).path, renamed)
    assert is_activation_set(renamed)
    assert is_activation_set(tmp_path / "mine.activations")


# --- the narrower template


def test_a_crop_is_cut_to_the_narrower_template(tmp_path: Path) -> None:
    crops = save(tmp_path).crops()
    assert (cut_to_template(crops, TEMPLATE, "arcface-112x96") == crops[:, :, 8:-8]).all()
    assert (cut_to_template(crops, TEMPLATE, TEMPLATE) == crops).all()


def test_columns_are_not_made_up(tmp_path: Path) -> None:
    crops: ImageArray = np.zeros((2, 112, 96, 3), np.uint8)
    with pytest.raises(ActivationSetError, match=f"--template {TEMPLATE}"):
        cut_to_template(crops, "arcface-112x96", TEMPLATE)


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_crop_is_the_crop_aligned_to_the_narrower_template(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = Frame(cv2.GaussianBlur(rng.integers(0, 256, (250, 250, 3), np.uint8), (0, 0), 3))
    points = np.array([[100, 110], [145, 112], [122, 140], [105, 160], [140, 161]], np.float32)
    points += rng.normal(0, 4, (5, 2)).astype(np.float32)
    wide = align(frame, points, TEMPLATE).pixels[None]
    narrow = align(frame, points, "arcface-112x96").pixels
    cut = cut_to_template(wide, TEMPLATE, "arcface-112x96")[0]
    difference = np.abs(cut.astype(int) - narrow)
    # OpenCV rounds the two products of a coordinate apart, in steps of 1/1024 px.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="file modes of POSIX")
def test_a_wide_umask_makes_no_file_readable(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        stored = save(tmp_path)
    finally:
        os.umask(before)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in stored.path.iterdir())

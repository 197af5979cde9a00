"""``edgeface activation-set`` on real photos and clips, with the runtime's own detector."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeface.assets import asset_state
from edgeface.cli.activation_set_command import activation_set_app
from edgeface.errors import ActivationSetError, EdgefaceError
from edgeface.types import ImageArray, OperatingPoint
from edgeface_calibration.activation_set_manifest import CropMeasures, SourceKind
from edgeface_calibration.activation_set_store import (
    CollectedFace,
    StoredActivationSet,
    default_activation_set,
    save_activation_set,
)
from tests.builders import make_bundle

cv2 = pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.integration

NEEDED = ("blaze_face_short_range.tflite", "blaze_face_full_range_sparse.tflite")


def run(*arguments: object) -> tuple[int, str]:
    """Return the exit code and stdout of one command; an error made on purpose is raised."""
    done = CliRunner().invoke(activation_set_app, [str(each) for each in arguments])
    if isinstance(done.exception, EdgefaceError):
        raise done.exception
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done.exit_code, done.stdout


def need_detector() -> None:
    """Skip where the model files of the detector and the landmarker are not at hand."""
    if "missing" in {asset_state(name).state for name in NEEDED}:
        pytest.skip("the detector's model files are not at hand: edgeface assets fetch")


@pytest.fixture(scope="module")
def photos(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """115 photos of the press, each of another person, under their names."""
    need_detector()
    folder = tmp_path_factory.mktemp("photos")
    for path in sorted((test_data / "data" / "lfw" / "extra").glob("*/*_0001.jpg"))[:115]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def clip(test_data: Path) -> Path:
    return test_data / "data" / "video" / "sathya-pramodh__slownod.mp4"


@pytest.fixture(scope="module")
def collected(photos: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sets") / "mine.activations"
    code, out = run("collect", photos, clip, "-o", target, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["set"] == str(target)
    assert said["faces"] == len(StoredActivationSet.open(target))
    assert said["notes"] == [f"{said['faces']} faces are few: 300 or more give steadier ranges"]
    return target


def test_faces_of_photos_and_a_clip_become_a_set_without_names(collected: Path) -> None:
    stored = StoredActivationSet.open(collected)
    kinds = [record.source_kind for record in stored.manifest.crops]
    assert kinds.count(SourceKind.PICTURE) >= 105
    # The person hardly moves, and looks up for half of the three seconds.
    assert 1 <= kinds.count(SourceKind.VIDEO) <= 6
    assert stat.S_IMODE(collected.stat().st_mode) == 0o700
    names = " ".join(path.name for path in collected.iterdir())
    assert "Aaron" not in names + (collected / "manifest.json").read_text()


def test_the_report_says_what_a_set_covers(collected: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    code, out = run("report", collected, "--sheet", sheet, "--json")
    said = json.loads(out)
    assert code == 0
    assert said["verdict"] == "warned"
    assert said["near_duplicates"] == 0
    assert said["blue_skin_share"] < 0.02
    assert said["people"] is None
    assert 38 < said["measures"]["eye_distance_px"]["median"] < 44
    assert abs(said["measures"]["yaw_deg"]["median"]) < 5
    assert cv2.imread(str(sheet)).shape[1] > 1000
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600


def test_the_report_for_people_has_the_verdict_and_the_people(
    collected: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    point = OperatingPoint(0.999, 1e-4, "fp32", "made up", provisional=True)
    bundle = make_bundle(tmp_path, operating_points=(point,))
    code, out = run("report", collected, "--model", bundle)
    assert code == 0
    assert "people           about 1" in out
    assert "provisional operating point at FMR 0.0001" in out
    assert "usable, with a warning" in out


def test_a_set_is_not_replaced_unasked(collected: Path, photos: Path) -> None:
    with pytest.raises(EdgefaceError, match="--force"):
        run("collect", photos, "-o", collected)


def test_a_set_without_a_name_goes_where_export_finds_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    code, out = run("collect", photos, "--max", 100)
    found = default_activation_set()
    assert code == 0
    assert found is not None
    assert str(found) in out
    assert "personal data" in out
    assert len(StoredActivationSet.open(found)) == 100


@pytest.mark.parametrize("what", ["noise", "blank", "no face"])
def test_pictures_without_faces_are_refused(tmp_path: Path, what: str) -> None:
    need_detector()
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(12):
        picture = np.full((250, 250, 3), 20 * k, np.uint8)
        if what == "noise":
            picture = rng.integers(0, 256, picture.shape, np.uint8)
        if what == "no face":
            cv2.circle(picture, (60 + 10 * k, 120), 50, (200, 50, 20 * k), -1)
        cv2.imwrite(str(folder / f"{k}.png"), picture)
    with pytest.raises(ActivationSetError, match=r"gives 0 faces .refused: 12 no_face"):
        run("collect", folder, "-o", tmp_path / "x.activations")
    assert not (tmp_path / "x.activations").exists()


def test_one_short_clip_of_one_person_is_too_little(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ActivationSetError, match=r"turned_away.*wanted at least 100"):
        run("collect", clip, "-o", tmp_path / "x.activations")


def test_photos_with_red_and_blue_exchanged_are_refused(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exchanged"
    folder.mkdir()
    for path in photos.iterdir():
        cv2.imwrite(str(folder / f"{path.stem}.png"), cv2.imread(str(path))[..., ::-1])
    with pytest.raises(ActivationSetError, match="Red and blue are exchanged"):
        run("collect", folder, "-o", tmp_path / "x.activations")


def test_crops_are_aligned_again_when_they_come_as_photos(collected: Path, tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    for crop, name in zip(StoredActivationSet.open(collected).crops(), range(200), strict=False):
        padded = cv2.copyMakeBorder(crop[..., ::-1], 40, 90, 60, 70, cv2.BORDER_REPLICATE)
        cv2.imwrite(str(folder / f"{name}.png"), padded)
    code, _ = run("collect", folder, "-o", tmp_path / "x.activations")
    assert code == 0
    assert run("report", tmp_path / "x.activations")[0] == 0


RUINED: dict[str, Callable[[ImageArray], ImageArray]] = {
    "turned by a quarter": lambda crops: np.ascontiguousarray(crops.transpose(0, 2, 1, 3)),
    "moved by 8 px": lambda crops: np.roll(crops, 8, axis=2),
    "noise": lambda crops: np.random.default_rng(1).integers(0, 256, crops.shape, np.uint8),
    "dark": lambda crops: crops // 16,
}


@pytest.mark.parametrize("how", RUINED)
def test_a_ruined_set_is_refused(collected: Path, tmp_path: Path, how: str) -> None:
    crops = RUINED[how](StoredActivationSet.open(collected).crops())
    with pytest.raises(ActivationSetError, match="no crops of `edgeface activation-set collect`"):
        run("report", saved(tmp_path, crops))


def test_a_set_with_red_and_blue_exchanged_is_refused(collected: Path, tmp_path: Path) -> None:
    crops = np.ascontiguousarray(StoredActivationSet.open(collected).crops()[..., ::-1])
    code, out = run("report", saved(tmp_path, crops), "--json")
    assert code == 1
    assert json.loads(out)["verdict"] == "refused"
    assert json.loads(out)["blue_skin_share"] > 0.9


def test_a_changed_set_is_refused(collected: Path, tmp_path: Path) -> None:
    stored = saved(tmp_path, StoredActivationSet.open(collected).crops())
    manifest = stored / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-100])
    with pytest.raises(ActivationSetError, match="not whole JSON"):
        run("report", stored)


@pytest.mark.parametrize(
    "arguments",
    [["collect"], ["collect", "x", "--max", "50"], ["collect", "x", "--every-s", "-1"], ["report"]],
)
def test_a_mistake_of_the_user_exits_with_two(arguments: list[str]) -> None:
    assert run(*arguments)[0] == 2


def saved(folder: Path, crops: ImageArray) -> Path:
    measures: dict[str, Any] = dict.fromkeys(CropMeasures.__dataclass_fields__, 0.5)
    faces = [CollectedFace(crop, CropMeasures(**measures), SourceKind.PICTURE) for crop in crops]
    path = folder / "ruined.activations"
    return save_activation_set(path, faces, template="arcface-112x112", refused={}).path

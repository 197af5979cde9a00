"""A gallery of real faces: enrolled from folders and a video, moved to another model and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeface.assets import asset_state
from tests.integration.test_cli_run import run

pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytest.importorskip("onnx")
pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

OLD = "arcface-mobilefacenet-relu-112-foamliu.pt"
NEW = "arcface-mobilefacenet-112x96-xiaoccer.ckpt"
PEOPLE, PHOTOS = 12, 4


@pytest.fixture(scope="module")
def bundles(
    checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    if "missing" in {asset_state(name).state for name in ("blaze_face_short_range.tflite",)}:
        pytest.skip("the detector's model files are not at hand: edgeface assets fetch")
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for name in (OLD, NEW):
        made[name] = folder / f"{Path(name).stem}.edgeface"
        assert run("export", checkpoints / name, "-o", made[name])[0] == 0
    yield made
    shutil.rmtree(folder)


@pytest.fixture
def people(test_data: Path, tmp_path: Path) -> Path:
    """People of LFW outside the folds: photos 1 to 3 to enrol; the fourth is a probe."""
    target = tmp_path / "people"
    found = [
        entry
        for entry in sorted((test_data / "data" / "lfw" / "extra").iterdir())
        if entry.is_dir() and len(list(entry.iterdir())) >= PHOTOS
    ]
    for entry in found[:PEOPLE]:
        photos = sorted(entry.iterdir())
        (target / entry.name).mkdir(parents=True)
        for photo in photos[: PHOTOS - 1]:
            shutil.copyfile(photo, target / entry.name / photo.name)
        shutil.copyfile(photos[PHOTOS - 1], tmp_path / f"{entry.name}.jpg")
    return target


def recognised(
    probes: list[Path], where: list[str], bundle: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, int]:
    """Return how many probes were known as who they are, and as somebody else."""
    out = run("identify", *probes, "-m", bundle, *where, "--json", capture=capsys)[1]
    right = wrong = 0
    for probe, line in zip(probes, out.splitlines(), strict=True):
        subjects = {face["subject"] for face in json.loads(line)["faces"]} - {None}
        right += probe.stem in subjects
        wrong += bool(subjects - {probe.stem})
    return right, wrong


def test_a_gallery_of_one_checkpoint_is_migrated_to_another_and_back(
    bundles: dict[str, Path], people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["-g", str(tmp_path / "people.db")]
    consent = ["--consent", "public photographs", "--keep-crops"]
    out = run(
        "gallery", "enrol-folder", people, "-m", bundles[OLD], *where, *consent, "--json",
        capture=capsys,
    )[1]  # fmt: skip
    enrolled = json.loads(out)["enrolled"]
    probes = [tmp_path / f"{name}.jpg" for name in enrolled]
    assert len(enrolled) >= PEOPLE // 2
    before = recognised(probes, where, bundles[OLD], capsys)
    assert before[0] >= len(probes) // 2
    assert before[1] == 0

    def move(bundle: Path, *options: str) -> dict[str, object]:
        words = ("gallery", "migrate", "--to", bundle, *where, *options, "--json")
        value: dict[str, object] = json.loads(run(*words, capture=capsys)[1])
        return value

    assert len(move(bundles[NEW], "--dry-run")["people"]) == len(enrolled)  # type: ignore[arg-type]
    done = move(bundles[NEW])
    assert (done["active"], done["made"], done["lacking"]) == (True, len(enrolled), [])
    assert run("identify", probes[0], "-m", bundles[OLD], *where, capture=capsys)[0] == 2
    after = recognised(probes, where, bundles[NEW], capsys)
    assert after[0] >= len(probes) // 2
    assert after[1] == 0
    assert move(bundles[OLD])["made"] == 0
    assert recognised(probes, where, bundles[OLD], capsys) == before


def test_a_person_is_enrolled_from_a_video_with_advice(
    bundles: dict[str, Path], test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["-m", bundles[OLD], "-g", tmp_path / "people.db"]
    clip = test_data / "data" / "video" / "sathya-pramodh__slownod.mp4"
    code, out, err = run("gallery", "enrol", "Nod", clip, *where, "--consent", "x", capture=capsys)
    assert code == 0, err
    assert out.startswith("enrolled Nod from ")
    assert "edge of the picture" in err
    code, out, _ = run("watch", clip, *where, "--json", capture=capsys)
    assert code == 0
    known = {json.loads(line).get("subject") for line in out.splitlines()}
    assert known - {None} == {"Nod"}
    crowd = test_data / "data" / "video" / "Linzaer__test2.mp4"
    code, _, err = run(
        "gallery", "enrol", "Crowd", crowd, *where, "--consent", "x", "--most-frames", 40,
        capture=capsys,
    )  # fmt: skip
    assert code != 0
    assert "no frame shows one person" in err

"""A real clip watched with PAD and recorded, and the record judged again, as people type it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgeface.assets import asset_state
from edgeface.cli import main

cv2 = pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytestmark = pytest.mark.integration

NETWORKS = ("2.7_80x80_MiniFASNetV2.pth", "4_0_0_80x80_MiniFASNetV1SE.pth")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Return (exit code, stdout, stderr) of one command, run in this process."""
    saved, sys.argv = sys.argv, ["edgeface", *map(str, arguments)]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = saved
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def clip(test_data: Path) -> Path:
    if asset_state("blaze_face_short_range.tflite").state == "missing":
        pytest.skip("the detector's model files are not at hand: edgeface assets fetch")
    return test_data / "data" / "video" / "sathya-pramodh__slownod.mp4"


@pytest.fixture
def gallery(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The person of the clip, enrolled from its third frame."""
    video = cv2.VideoCapture(str(clip))
    video.set(cv2.CAP_PROP_POS_FRAMES, 2)
    _, pixels = video.read()
    cv2.imwrite(str(tmp_path / "person.png"), pixels)
    path = tmp_path / "people.db"
    assert run(capsys, "enrol", "Nora", tmp_path / "person.png", "-g", path)[0] == 0
    return path


def events(out: str, kind: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in out.splitlines()]
    return [line for line in lines if line.get("event") == kind]


def test_a_recorded_run_holds_no_name_and_can_be_judged_again(
    clip: Path, gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "run.jsonl"
    code, out, _ = run(capsys, "watch", clip, "-g", gallery, "--record", record, "--json")
    assert code == 0
    assert [event["subject"] for event in events(out, "arrived")] == ["Nora"]
    assert "Nora" not in record.read_text(encoding="utf-8")

    code, out, _ = run(capsys, "replay", record)
    assert (code, "0 changed" in out) == (0, True)
    code, out, _ = run(capsys, "replay", record, "--threshold", "0.9999", "--json")
    assert code == 1
    (track,) = json.loads(out)["tracks"]
    assert (track["recorded"], track["replayed"]) == ("known", "unknown")

    code, _, err = run(capsys, "watch", clip, "-g", gallery, "--record", record)
    assert code == 2
    assert "name a new file" in err


def test_a_living_person_is_counted_and_a_still_of_them_is_not(
    clip: Path, gallery: Path, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pad: list[object] = []
    for name in NETWORKS:
        target = tmp_path / f"{name}.edgeface"
        file = test_data / "models" / "antispoof" / name
        assert run(capsys, "export", file, "-o", target)[0] == 0
        pad += ["--pad", target]
    code, out, _ = run(capsys, "watch", clip, "-g", gallery, "--json", *pad)
    assert code == 0
    (arrived,) = events(out, "arrived")
    assert arrived["subject"] == "Nora"
    # Five scores over half a second, and a second and a half of movement, at least.
    assert 0.5 <= float(str(arrived["time_s"])) <= 2.5

    photo = cv2.imread(str(tmp_path / "person.png"))
    still = tmp_path / "still.avi"
    size = photo.shape[1], photo.shape[0]
    writer = cv2.VideoWriter(str(still), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, size)
    for _ in range(40):
        writer.write(photo)
    writer.release()
    code, out, _ = run(capsys, "watch", still, "-g", gallery, "--json", *pad)
    assert code == 1
    assert events(out, "arrived") == []
    last = events(out, "left")[-1]
    assert last["subject"] is None
    assert last["reasons"] == ["liveness_undecided"]


def test_options_that_need_another_are_refused(
    clip: Path, gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point = tmp_path / "point.json"
    assert run(capsys, "watch", clip, "-g", gallery, "--pad-operating-point", point)[0] == 2
    assert run(capsys, "watch", clip, "-g", gallery, "--record-names")[0] == 2
    assert run(capsys, "watch", clip, "-g", gallery, "--pad", tmp_path)[0] == 2

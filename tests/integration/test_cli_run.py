"""Commands as people type them, on a bundle exported from a real checkpoint and real pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeface.assets import asset_state
from edgeface.bundle import Bundle
from edgeface.cli import main

cv2 = pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def bundle(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ReLU6 checkpoint as a bundle with both artefacts, made by the command itself."""
    if "missing" in {asset_state(name).state for name in ("blaze_face_short_range.tflite",)}:
        pytest.skip("the detector's model files are not at hand: edgeface assets fetch")
    target = tmp_path_factory.mktemp("export") / "model.edgeface"
    file = checkpoints / "arcface-mobilefacenet-relu-112-foamliu.pt"
    assert run("export", file, "--int8", "-o", target)[0] == 0
    return target


def run(
    *arguments: object, capture: pytest.CaptureFixture[str] | None = None
) -> tuple[int, str, str]:
    """Return (exit code, stdout, stderr) of one command, run in this process."""
    saved, sys.argv = sys.argv, ["edgeface", *map(str, arguments)]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = saved
    out, err = capture.readouterr() if capture else ("", "")
    return code, out, err


def photos(test_data: Path, *names: str) -> list[Path]:
    return [test_data / "data" / "photo" / name for name in names]


def test_export_as_people_type_it_says_data_free(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    names = {entry.name for entry in manifest.artefacts}
    assert names - {"cpu-fp32"} == {"fp32", "int8", "cpu-int8"}
    assert manifest.verdict.data_free
    assert any("data-free" in note for note in manifest.verdict.notes)
    assert manifest.verdict.figures["parity_max_difference"] <= 1e-5
    assert all(point.provisional for point in manifest.operating_points)


def test_export_does_not_replace_a_bundle_unasked(
    bundle: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Bundle.open(bundle).manifest
    file = checkpoints / "arcface-mobilefacenet-112-bubbliiiing.pth"
    code, _, err = run("export", file, "-o", bundle, capture=capsys)
    assert code == 2
    assert "--force" in err
    assert Bundle.open(bundle).manifest == before


@pytest.mark.parametrize(
    ("file", "code", "words"),
    [
        ("triplet-embedding-mlp-fdbtrs.pt", 1, "not a backbone"),
        ("cosface-toy.pth", 1, "reads 1 channel"),
        ("cosface-edgeface-xxs-dynamic-int8.pt", 0, "edgeface-xxs"),
        ("damaged-storage-size-xuexingyu24.pt", 2, "damaged"),
        ("amsoftmax-mobilefacenet-112x96-zhanglaplace.caffemodel", 0, "describes 145 layers"),
        ("arcface-mobilefacenet-112x96-xiaoccer.ckpt", 0, "mobilefacenet-xiaoccer"),
    ],
)
def test_inspect_says_what_a_file_is_and_whether_it_exports(
    checkpoints: Path, capsys: pytest.CaptureFixture[str], file: str, code: int, words: str
) -> None:
    got, out, err = run("inspect", checkpoints / file, capture=capsys)
    assert got == code
    assert words in out + err
    if code == 2:
        assert err.count("\n") == 1


def test_inspect_as_json_has_the_facts(
    checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkpoints / "arcface-mobilefacenet-small-112x96-lh.ckpt"
    code, out, _ = run("inspect", file, "--json", capture=capsys)
    facts = json.loads(out)
    assert code == 0
    assert facts["wrappers"] == ["net_state_dict"]
    assert (facts["crop_height_px"], facts["crop_width_px"]) == (112, 96)
    assert facts["embedding_size"] == 128
    assert facts["scalars"] == {"epoch": 70}


def test_person_is_enrolled_identified_listed_and_removed(
    bundle: Path, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = tmp_path / "people.db"
    where = ("-m", bundle, "-g", gallery)
    obama, biden, both = photos(
        test_data, "ageitgey__obama.jpg", "ageitgey__biden.jpg", "ageitgey__two_people.jpg"
    )
    assert run("enrol", "Barack", obama, *where, capture=capsys)[0] == 0
    code, out, _ = run("identify", both, biden, *where, "--json", capture=capsys)
    pictures = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert sorted(str(face["subject"]) for face in pictures[0]["faces"]) == ["Barack", "None"]
    assert [face["subject"] for face in pictures[1]["faces"]] == [None]
    assert "Barack" in run("gallery", "list", *where, capture=capsys)[1]
    assert run("gallery", "remove", "Barack", *where, capture=capsys)[0] == 0
    assert run("identify", obama, *where, capture=capsys)[0] == 1


def test_gallery_of_another_model_is_refused(
    bundle: Path,
    checkpoints: Path,
    test_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gallery, other = tmp_path / "people.db", tmp_path / "other.edgeface"
    (obama,) = photos(test_data, "ageitgey__obama.jpg")
    run("enrol", "Barack", obama, "-m", bundle, "-g", gallery, capture=capsys)
    file = checkpoints / "arcface-mobilefacenet-small-112x96-lh.ckpt"
    assert run("export", file, "-o", other, capture=capsys)[0] == 0
    before = gallery.read_bytes()
    code, _, err = run("identify", obama, "-m", other, "-g", gallery, capture=capsys)
    assert code == 2
    assert "another model" in err or "belongs to model" in err
    assert gallery.read_bytes() == before


def nodding_person(test_data: Path, folder: Path) -> tuple[Path, Path]:
    """A frame of the nodding clip as a photo, and the clip."""
    clip = test_data / "data" / "video" / "sathya-pramodh__slownod.mp4"
    _, pixels = cv2.VideoCapture(str(clip)).read()
    photo = folder / "person.png"
    cv2.imwrite(str(photo), pixels)
    return photo, clip


def watch_lines(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> list[dict]:
    _, out, _ = run("watch", *arguments, "--json", "--every-frame", capture=capsys)
    return [json.loads(line) for line in out.splitlines()]


def test_person_enrolled_from_one_frame_is_recognised_in_the_clip_and_nobody_elsewhere(
    bundle: Path, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, clip = nodding_person(test_data, tmp_path)
    where = ("-m", bundle, "-g", tmp_path / "people.db")
    assert run("enrol", "nodder", photo, *where, capture=capsys)[0] == 0
    video = tmp_path / "annotated.mp4"
    lines = watch_lines([clip, *where, "--save", video], capsys)
    faces = [face for line in lines if line["type"] == "frame" for face in line["faces"]]
    compared = [face for face in faces if face["frame_outcome"] != "rejected"]
    named = [face for face in compared if face["subject"] == "nodder"]
    assert len(compared) >= 40
    assert len(named) / len(compared) >= 0.9
    assert int(cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT)) == 83

    trailer = test_data / "data" / "video" / "ageitgey__short_hamilton_clip.mp4"
    lines = watch_lines([trailer, *where], capsys)
    outcomes = {
        face["frame_outcome"] for line in lines if line["type"] == "frame" for face in line["faces"]
    }
    assert "unknown" in outcomes
    assert "known" not in outcomes


def test_ctrl_c_ends_a_watch_cleanly(bundle: Path, tmp_path: Path) -> None:
    video = tmp_path / "part.mp4"
    # A source that never ends by itself.
    command = [sys.executable, "-m", "edgeface", "watch", "test:320x240@10", "-m", str(bundle)]
    command += ["-g", str(tmp_path / "people.db"), "--save", str(video), "--json", "--every-frame"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    # The camera's own lines come first.
    while '"type": "frame"' not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert "Traceback" not in err
    assert "stopped" in err
    # What was recorded until then is a whole video.
    assert int(cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT)) >= 1


def test_activation_set_is_gated_on_faces(
    checkpoints: Path, test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkpoints / "arcface-mobilefacenet-small-112x96-lh.ckpt"
    folder = tmp_path / "faces"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (120, 250, 250, 3), dtype=np.uint8)
    for k, picture in enumerate(noise):
        cv2.imwrite(str(folder / f"{k}.png"), picture)
    target = tmp_path / "m.edgeface"
    code, _, err = run(
        "export", file, "--int8", "--activation-set", folder, "-o", target, capture=capsys
    )
    assert code == 2
    assert "100" in err
    assert not target.exists()

    people = sorted((test_data / "data" / "lfw" / "extra").glob("*/*_0001.jpg"))[:110]
    for k, path in enumerate(people):
        (folder / f"{k}.png").unlink()
        (folder / f"{k}.jpg").write_bytes(path.read_bytes())
    code, out, _ = run(
        "export", file, "--int8", "--activation-set", folder, "-o", target, "--json", capture=capsys
    )
    assert code == 0
    result = json.loads(out)
    assert result["data_free"] is False
    assert result["report"]["figures"]["int8_cosine_mean"] > 0.97


def test_every_error_of_the_user_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.pt").write_text("not a checkpoint")
    for arguments in (
        ["inspect", tmp_path / "missing.pt"],
        ["inspect", tmp_path / "text.pt"],
        ["export", tmp_path / "text.pt", "-o", tmp_path / "x.edgeface"],
        ["identify", tmp_path / "missing.jpg", "-m", tmp_path / "none.edgeface"],
        ["watch", tmp_path / "missing.mp4", "-m", tmp_path / "none.edgeface"],
        ["bench", tmp_path / "none.edgeface"],
        ["gallery", "list", "-m", tmp_path / "none.edgeface", "-g", tmp_path / "none.db"],
    ):
        code, _, err = run(*arguments, capture=capsys)
        assert code == 2, arguments
        assert err.startswith("edgeface: "), err
        assert err.count("\n") == 1, err


def test_demo_recognises_the_enrolled_person_and_leaves_the_other_unknown(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    code, out, _ = run("demo", "-m", bundle, "-o", tmp_path, "--json", capture=capsys)
    result = json.loads(out)
    assert code == 0
    assert result["as_expected"]
    assert result["false_identifications"] == 0
    subjects = [e["subject"] for e in result["events"] if e["event"] == "identified"]
    assert "Grace Hopper" in subjects
    assert None in subjects
    assert (tmp_path / "demo.mp4").stat().st_size > 10_000
    assert (tmp_path / "contact_sheet.png").stat().st_size > 10_000


def test_bench_measures_artefacts_path_and_start(
    bundle: Path, test_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = test_data / "data" / "video" / "sathya-pramodh__slownod.mp4"
    arguments = ("bench", bundle, "--clip", clip, "--threads", 1, "--batch", 1, "--rounds", 5)
    code, out, _ = run(*arguments, "--json", capture=capsys)
    figures = json.loads(out)
    assert code == 0
    names = {entry["artefact"] for entry in figures["engines"]}
    assert names >= {"fp32", "int8", "cpu-int8"}
    assert all(entry["p50_ms"] > 0 for entry in figures["engines"])
    assert {entry["artefact"] for entry in figures["start"]} == names
    assert figures["path"]["frames"] == 83
    assert set(figures["path"]["stages_mean_ms"]) >= {"detect", "landmarks", "embed"}

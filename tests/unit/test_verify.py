from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edgeface.alignment import alignment_template
from edgeface.bundle import Bundle
from edgeface.camera.images import read_image
from edgeface.cli.verify import verify
from edgeface.errors import CameraError, GateFailedError, InvalidInputError, OperatingPointError
from edgeface.testing import FakeDetector, FakeLandmarkFinder
from edgeface.types import AlignedFace, BoundingBox, FaceDetection, FaceLandmarks, Frame
from edgeface_calibration.crops import DetectorCrops, LandmarkFileCrops, read_landmarks
from edgeface_calibration.pairs import PairProtocol, parse_folds, read_folder, read_pairs
from edgeface_calibration.verify import fit_report, verify_bundle
from tests.builders import Behaviour, make_bundle, tiny_onnx
from tests.people import draw_people

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")

TEMPLATE = "arcface-112x112"
app = typer.Typer()
app.command()(verify)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "images"
    draw_people(folder, people=30, images=4, noise=30.0)
    return folder


@pytest.fixture(scope="module")
def landmarks(people: Path) -> Path:
    return people.parent / "images-landmarks.txt"


@pytest.fixture
def protocol(people: Path) -> PairProtocol:
    return read_folder(people, max_non_mated=500)


@pytest.fixture
def crops(people: Path, landmarks: Path) -> LandmarkFileCrops:
    return LandmarkFileCrops(landmarks, people, TEMPLATE)


def bundle_of(folder: Path, **behaviours: Behaviour) -> Bundle:
    artefacts = {
        name: tiny_onnx(behaviour=behaviour, noise=0.05 * k)
        for k, (name, behaviour) in enumerate(behaviours.items())
    }
    return Bundle.open(make_bundle(folder, artefacts=artefacts))


class Without:
    """A crop source that finds no face in the images named."""

    def __init__(self, source: LandmarkFileCrops, *names: str) -> None:
        self._source, self._names = source, names

    def crop(self, path: Path) -> AlignedFace | None:
        return None if path.name in self._names else self._source.crop(path)


def test_artefacts_are_measured_side_by_side(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    report = verify_bundle(bundle_of(tmp_path, fp32="random", int8="random"), protocol, crops)
    fp32, int8 = report.artefacts
    assert (fp32.artefact, int8.artefact) == ("fp32", "int8")
    assert (fp32.n_mated, fp32.n_non_mated) == (30 * 6, 500)
    for figures in report.artefacts:
        assert 0.8 < figures.accuracy <= 1.0
        assert figures.accuracy_interval.low < figures.accuracy <= figures.accuracy_interval.high
        assert figures.accuracy_counting_missing == pytest.approx(figures.accuracy, abs=0.01)
        assert figures.mean_mated_score > figures.mean_non_mated_score
        assert figures.auc > 0.9 > 0.1 > figures.eer
        assert 2 < figures.effective_dimension <= 16
    assert fp32.drift is None
    assert int8.drift is not None
    assert 0.9 < int8.drift.cosine_min <= int8.drift.cosine_p1 <= int8.drift.cosine_mean < 1
    assert 0 < int8.drift.pair_change_p99 <= int8.drift.pair_change_worst < 0.5
    assert report.passed


def test_drift_is_measured_when_fp32_is_not_asked_for(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    bundle = bundle_of(tmp_path, fp32="random", int8="random")
    (int8,) = verify_bundle(bundle, protocol, crops, artefacts=["int8"]).artefacts
    assert int8.artefact == "int8"
    assert int8.drift is not None


def test_faces_not_found_are_named_and_counted_both_ways(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    source = Without(crops, "Person_003_0001.jpg")
    report = verify_bundle(bundle_of(tmp_path, fp32="random"), protocol, source)
    (figures,) = report.artefacts
    missing = "Person_003/Person_003_0001.jpg"
    lost = sum(missing in (pair.image_a, pair.image_b) for pair in protocol.pairs)
    assert report.faces_not_found == (missing,)
    assert figures.n_pairs == len(protocol.pairs) - lost
    share = figures.n_pairs / len(protocol.pairs)
    assert figures.accuracy_counting_missing == pytest.approx(figures.accuracy * share, abs=0.01)
    assert figures.n_unusable == 0


def test_report_can_be_written_as_json(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    bundle = bundle_of(tmp_path, fp32="random", int8="random")
    data = json.loads(json.dumps(verify_bundle(bundle, protocol, crops).to_dict(), allow_nan=False))
    assert data["n_pairs_listed"] == len(protocol.pairs)
    assert data["artefacts"][0]["tar"][0]["target_fmr"] == 0.01
    assert data["artefacts"][0]["tar"][1]["tar"] is None
    assert data["artefacts"][1]["drift"]["cosine_mean"] > 0.9


def test_collapsed_artefact_is_at_chance(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    report = verify_bundle(bundle_of(tmp_path, fp32="random", int8="constant"), protocol, crops)
    fp32, int8 = report.artefacts
    assert not fp32.at_chance
    assert not fp32.collapsed
    assert int8.collapsed
    assert int8.effective_dimension == pytest.approx(1.0)
    assert int8.mean_non_mated_score == pytest.approx(1.0)
    assert int8.eer == pytest.approx(0.5)


def test_artefact_without_a_usable_row_fails_the_gate(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    with pytest.raises(GateFailedError, match=r"'fp32'.*120 without a usable embedding"):
        verify_bundle(bundle_of(tmp_path, fp32="nan"), protocol, crops)


def test_no_face_found_at_all_is_the_users_mistake(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    nobody = Without(crops, *(Path(name).name for name in protocol.image_names))
    with pytest.raises(InvalidInputError, match="120 faces not found"):
        verify_bundle(bundle_of(tmp_path, fp32="random"), protocol, nobody)


def test_fitted_points_use_every_two_people(
    tmp_path: Path, protocol: PairProtocol, crops: LandmarkFileCrops
) -> None:
    report = verify_bundle(bundle_of(tmp_path, fp32="random", int8="random"), protocol, crops)
    points = fit_report(report)
    n_cross = 30 * 29 // 2 * 4 * 4
    assert {point.n_non_mated for point in points} == {n_cross}
    assert [point.target_fmr for point in points] == [1e-2, 1e-3] * 2
    assert points[0].n_mated == 30 * 6
    assert "every two of 120 images" in points[0].protocol


def test_fitted_points_use_the_listed_pairs_where_people_are_not_named(
    tmp_path: Path, people: Path, crops: LandmarkFileCrops
) -> None:
    listed = read_folder(people, max_non_mated=250).pairs
    rows = [f"{p.image_a},{p.image_b},{int(p.same)}" for p in listed]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["image_a,image_b,same", *rows]), encoding="utf-8")
    report = verify_bundle(bundle_of(tmp_path, fp32="random"), read_pairs(path, people), crops)
    (point,) = fit_report(report)
    assert (point.n_non_mated, point.protocol) == (250, "pairs.csv")


# Crop sources.


def test_detector_crops_take_the_face_nearest_the_centre(people: Path) -> None:
    def found(left_px: float, score: float) -> FaceDetection:
        return FaceDetection(BoundingBox(left_px, 40, 60, 80), score)

    seen: list[float] = []

    def find(_: Frame, detection: FaceDetection) -> FaceLandmarks | None:
        seen.append(detection.box.left_px)
        return FaceLandmarks((alignment_template(TEMPLATE) + 24).astype(np.float32))

    detector = FakeDetector([[found(0, 0.9), found(52, 0.6), found(95, 0.8)], []])
    source = DetectorCrops(detector, FakeLandmarkFinder(find), TEMPLATE)
    path = people / "Person_000" / "Person_000_0001.jpg"
    face = source.crop(path)
    assert face is not None
    assert seen == [52]
    # The identity but for a shift: the crop is a cut-out of the image.
    assert face.pixels == pytest.approx(read_image(path).pixels[24:136, 24:136])
    assert source.crop(path) is None


def test_landmarks_that_cannot_be_a_face_give_no_crop(people: Path) -> None:
    detection = FaceDetection(BoundingBox(40, 40, 80, 80), 0.9)
    points = (alignment_template(TEMPLATE) + 24).astype(np.float32)
    upside_down = FaceLandmarks(points[[3, 4, 2, 0, 1]])
    finder = FakeLandmarkFinder(lambda *_: upside_down)
    source = DetectorCrops(FakeDetector([[detection]]), finder, TEMPLATE)
    assert source.crop(people / "Person_000" / "Person_000_0001.jpg") is None


def test_damaged_image_is_named(tmp_path: Path, protocol: PairProtocol) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "landmarks.txt").write_text(
        "x.jpg\t" + "\t".join(map(str, alignment_template(TEMPLATE).ravel())) + "\n"
    )
    source = LandmarkFileCrops(tmp_path / "landmarks.txt", tmp_path, TEMPLATE)
    with pytest.raises(CameraError, match=r"x\.jpg"):
        source.crop(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    "line", ["a.jpg\t1\t2", "a.jpg" + "\t1" * 11, "a.jpg" + "\tnan" * 10, "ok.jpg" + "\t1" * 10]
)
def test_malformed_landmark_line_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "landmarks.txt"
    path.write_text("ok.jpg" + "\t1" * 10 + "\n" + line + "\n")
    with pytest.raises(InvalidInputError, match="line 2"):
        read_landmarks(path)


def test_image_without_landmarks_has_no_crop(people: Path, tmp_path: Path) -> None:
    path = tmp_path / "landmarks.txt"
    path.write_text("")
    source = LandmarkFileCrops(path, people, TEMPLATE)
    assert source.crop(people / "Person_000" / "Person_000_0001.jpg") is None
    with pytest.raises(InvalidInputError, match="does not lie under"):
        source.crop(tmp_path / "elsewhere.jpg")


# The command.


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_command_prints_a_table_and_writes_points_and_pictures(
    tmp_path: Path, people: Path, landmarks: Path
) -> None:
    pytest.importorskip("matplotlib")
    bundle = bundle_of(tmp_path, fp32="random", int8="random")
    pictures = tmp_path / "h.png", tmp_path / "d.png"
    code, text = run(
        bundle.path, "--images", people, "--landmarks", landmarks, "--fit", "--threads", 1,
        "--histogram", pictures[0], "--det", pictures[1],
    )  # fmt: skip
    assert code == 0
    assert "accuracy over folds" in text
    assert "cosine to fp32, lowest" in text
    assert "wrote 4 operating points" in text
    assert len(Bundle.open(bundle.path).manifest.operating_points) == 4
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_command_gives_json_of_one_artefact(tmp_path: Path, people: Path, landmarks: Path) -> None:
    bundle = bundle_of(tmp_path, fp32="random", int8="random")
    code, text = run(
        bundle.path, "--images", people, "--landmarks", landmarks, "--artefact", "int8", "--json"
    )
    data = json.loads(text)
    assert code == 0
    assert [entry["artefact"] for entry in data["artefacts"]] == ["int8"]
    assert data["operating_points_written"] == []
    assert Bundle.open(bundle.path).manifest.operating_points == ()


def test_command_exits_1_and_writes_nothing_where_an_artefact_guesses(
    tmp_path: Path, landmarks: Path, people: Path
) -> None:
    listed = read_folder(people, max_non_mated=180).pairs
    rows = [f"{p.image_a},{p.image_b},{int(p.same)}" for p in listed]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(["image_a,image_b,same", *rows]), encoding="utf-8")
    bundle = bundle_of(tmp_path, fp32="random", int8="constant")
    code, text = run(
        bundle.path, "--images", people, "--pairs", pairs, "--landmarks", landmarks, "--fit"
    )
    assert code == 1
    assert "int8: does no better than guessing" in text
    assert Bundle.open(bundle.path).manifest.operating_points == ()


def test_command_prints_the_figures_before_it_refuses_to_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "few"
    landmarks = draw_people(images, people=4, images=3)
    bundle = bundle_of(tmp_path, fp32="random")
    result = CliRunner().invoke(
        app, [str(bundle.path), "--images", str(images), "--landmarks", str(landmarks), "--fit"]
    )
    assert isinstance(result.exception, OperatingPointError)
    assert "accuracy over folds" in result.stdout


def test_figures_agree_with_the_independent_evaluator(test_data: Path, tmp_path: Path) -> None:
    """The evaluator lies with the test data and shares no code with the project."""
    evaluator = test_data / "tools" / "lfw.py"
    folder = test_data / "data" / "lfw"
    bundle = Bundle.open(make_bundle(tmp_path, embedding_size=64))
    protocol = read_pairs(folder / "pairs.txt", folder / "pairs", parse_folds("1-2"))
    crops = LandmarkFileCrops(folder / "landmarks.txt", folder / "pairs", TEMPLATE)
    (figures,) = verify_bundle(bundle, protocol, crops, threads=1).artefacts
    command: list[str | Path] = [
        sys.executable, evaluator, bundle.path / "model.fp32.onnx", "--images", folder / "pairs",
        "--pairs", folder / "pairs.txt", "--landmarks", folder / "landmarks.txt",
        "--folds", "1-2", "--threads", "1",
    ]  # fmt: skip
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    said = {name: float(value) for name, value in zip(printed[::2], printed[1::2], strict=True)}
    assert figures.accuracy * 100 == pytest.approx(said["acc"], abs=0.03)
    assert figures.tar[0].tar is not None
    assert figures.tar[0].tar * 100 == pytest.approx(said["TAR@1e-2"], abs=0.03)

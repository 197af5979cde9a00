"""The published anti-spoofing checkpoints, exported by our exporter, on real pictures and clips."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgeface.assets import AssetState, asset_path, asset_state
from edgeface.camera import open_source, read_image
from edgeface.cli import main
from edgeface.errors import AssetMissingError
from edgeface.pad import (
    Challenge,
    ChallengeFace,
    PadBundle,
    PadModel,
    PadOperatingPoint,
    PadOutcome,
    PresentationAttackDetector,
)
from edgeface.types import Frame

pytestmark = pytest.mark.integration

CHECKPOINTS = ("2.7_80x80_MiniFASNetV2.pth", "4_0_0_80x80_MiniFASNetV1SE.pth")
BONA_FIDE = ("models/antispoof/minivision-ai__image_T1.jpg",)
ATTACKS = (
    "models/antispoof/minivision-ai__image_F1.jpg",
    "models/antispoof/minivision-ai__image_F2.jpg",
    "data/photo/HyperInspire__rgb_fake.jpg",
)
NOD = "data/video/sathya-pramodh__slownod.mp4"
SELFIE = "data/video/HyperInspire__810_1684206192.mp4"


@pytest.fixture(scope="module")
def checkpoint_files(test_data: Path) -> list[Path]:
    folder = test_data / "models" / "antispoof"
    missing = [name for name in CHECKPOINTS if not (folder / name).is_file()]
    if missing:
        pytest.skip(f"no anti-spoofing checkpoints in {folder}: {missing}")
    return [folder / name for name in CHECKPOINTS]


def run(*arguments: object) -> int:
    """Return the exit code of one command, run in this process."""
    saved, sys.argv = sys.argv, ["edgeface", *map(str, arguments)]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = saved
    return 0


@pytest.fixture(scope="module")
def bundles(checkpoint_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("pad")
    targets = [folder / f"{path.stem}.edgeface" for path in checkpoint_files]
    for path, target in zip(checkpoint_files, targets, strict=True):
        assert run("export", path, "-o", target) == 0
    return targets


@pytest.fixture(scope="module")
def assets(test_data: Path) -> Iterator[None]:
    pytest.importorskip("mediapipe")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("EDGEFACE_TEST_DATA", str(test_data))
        try:
            asset_path("blaze_face_short_range.tflite")
            asset_path("blaze_face_full_range_sparse.tflite")
        except AssetMissingError as error:
            pytest.skip(str(error))
        yield


def options(bundles: list[Path]) -> list[object]:
    return [part for path in bundles for part in ("-b", path)] + ["--threads", 1]


@pytest.mark.parametrize("index", [0, 1])
def test_the_exported_network_equals_the_torch_forward(
    bundles: list[Path], checkpoint_files: list[Path], test_data: Path, index: int
) -> None:
    torch = pytest.importorskip("torch")
    from tests.reference.minifasnets import MiniFasNet

    loaded = torch.load(checkpoint_files[index], map_location="cpu", weights_only=True)
    state = {key.removeprefix("module."): value for key, value in loaded.items()}
    module = MiniFasNet(state)
    module.load_state_dict(state, strict=True)
    module.eval()
    cv2 = pytest.importorskip("cv2")
    pictures = [cv2.imread(str(test_data / name)) for name in (*BONA_FIDE, *ATTACKS)]
    crops = np.stack([cv2.resize(picture, (80, 80)) for picture in pictures])  # BGR
    with torch.no_grad():
        expected = module(torch.from_numpy(crops).permute(0, 3, 1, 2).float()).numpy()
    with closing(PadModel.open(bundles[index], threads=1)) as model:
        got = model.run(np.ascontiguousarray(crops[..., ::-1]))
    assert np.abs(got - expected).max() <= 1e-4


def test_the_bundles_say_what_piece_of_the_frame_they_want(bundles: list[Path]) -> None:
    manifests = [PadBundle.open(path).manifest for path in bundles]
    assert [m.box_scale for m in manifests] == [2.7, 4.0]
    assert [m.source.architecture for m in manifests] == ["MiniFASNet", "MiniFASNet-SE"]
    assert all(m.verdict.figures["parity_max_difference"] <= 1e-5 for m in manifests)


@pytest.mark.parametrize(
    ("picture", "code"), [*((name, 0) for name in BONA_FIDE), *((name, 1) for name in ATTACKS)]
)
def test_bona_fide_passes_and_attacks_do_not(
    assets: None, bundles: list[Path], test_data: Path, picture: str, code: int
) -> None:
    assert run("pad", "check", test_data / picture, *options(bundles)) == code


def test_a_nodding_person_is_bona_fide_by_networks_window_and_stillness(
    assets: None,
    bundles: list[Path],
    test_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("pad", "check", test_data / NOD, "--json", *options(bundles)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    outcomes = [line["faces"][0]["outcome"] for line in lines]
    assert "attack" not in outcomes
    assert lines[-1]["faces"][0]["stillness"]["change"] > 0.05


def test_a_picture_held_still_is_held_back_even_if_the_networks_like_it(
    assets: None, bundles: list[Path], test_data: Path
) -> None:
    from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
    from edgeface.pipeline.pad_stream import PadParts, PadStream

    picture = read_image(test_data / BONA_FIDE[0]).pixels
    rng = np.random.default_rng(0)
    with AutoRangeDetector() as detector, MediaPipeLandmarkFinder() as finder:
        assessor = PresentationAttackDetector([PadModel.open(bundles[0], threads=1)])
        point = PadOperatingPoint.of_trainer(assessor.model_ids)
        stream = PadStream(PadParts(detector, assessor, point, finder))
        faces = []
        for k in range(20):
            noisy = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
            faces += stream.process(Frame(noisy, k / 10, k))
    face = faces[-1]
    assert face.score is not None
    assert face.score.bona_fide > 0.9
    assert face.decision.outcome is PadOutcome.UNDECIDED
    assert [reason.value for reason in face.decision.reasons] == ["too_still"]


def test_evaluate_counts_pictures_by_species(
    assets: None,
    bundles: list[Path],
    test_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for folder, names in (("people", BONA_FIDE), ("attacks/photo", ATTACKS)):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(test_data / name, tmp_path / folder)
    folders = (tmp_path / "people", tmp_path / "attacks")
    assert run("pad", "evaluate", *folders, "--json", *options(bundles)) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["bpcer"]["errors"], data["bpcer"]["trials"]) == (0, 1)
    assert [
        (s["species"], s["apcer"]["errors"], s["apcer"]["trials"]) for s in data["species"]
    ] == [("photo", 0, 3)]
    assert data["species"][0]["apcer"]["interval"]["high"] > 0.5
    # Three presentations cannot show an APCER of 5 %, and nothing pretends they do.
    file = tmp_path / "point.json"
    assert run("pad", "evaluate", *folders, "--fit", file, *options(bundles)) == 2
    assert not file.exists()
    fitted = ("--fit", file, "--target-apcer", 0.4)
    assert run("pad", "evaluate", *folders, *fitted, *options(bundles)) == 0
    assert PadOperatingPoint.read(file).n_attacks == 3
    checked = ("--operating-point", file)
    # One attack of the three may pass at such a target; the other two are below the threshold.
    codes = [run("pad", "check", test_data / name, *checked, *options(bundles)) for name in ATTACKS]
    assert sorted(codes) == [0, 1, 1]
    # The point was made for the scores of both models.
    assert run("pad", "check", test_data / ATTACKS[0], *checked, "-b", bundles[0]) == 2
    capsys.readouterr()


def test_a_recogniser_command_refuses_a_pad_bundle_and_the_other_way_round(
    bundles: list[Path], test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.builders import make_bundle

    picture = test_data / BONA_FIDE[0]
    assert run("identify", picture, "-m", bundles[0], "-g", tmp_path / "people.db") == 2
    assert "presentation-attack-detection" in capsys.readouterr().err
    assert run("pad", "check", picture, "-b", make_bundle(tmp_path)) == 2
    assert "recognition" in capsys.readouterr().err


@pytest.fixture(scope="module")
def selfie_faces(assets: None, test_data: Path) -> list[tuple[float, ChallengeFace, Frame]]:
    """Faces of a person who looks about and blinks, ten a second; needs Google's landmarker."""
    if asset_state("face_landmarker.task").state is AssetState.MISSING:
        pytest.skip("face_landmarker.task, which knows blinks, is not at hand")
    from edgeface.detection import MediaPipeFaceDetector, MediaPipeLandmarkFinder

    seen = []
    with (
        MediaPipeFaceDetector() as detector,
        MediaPipeLandmarkFinder(blendshapes=True) as finder,
        open_source(test_data / SELFIE) as frames,
    ):
        for frame in frames:
            found = detector.detect(frame) if frame.index % 3 == 0 else []
            landmarks = finder.find(frame, found[0]) if found else None
            if landmarks is not None:
                seen.append((frame.timestamp_s, ChallengeFace.of(landmarks), frame))
    return seen


def test_blinks_of_a_real_person_are_seen(
    selfie_faces: list[tuple[float, ChallengeFace, Frame]],
) -> None:
    shut = [time_s for time_s, face, _ in selfie_faces if face.eyes_shut >= 0.5]
    opened = [time_s for time_s, face, _ in selfie_faces if face.eyes_open <= 0.35]
    assert 2 <= len(shut) <= 10
    assert len(opened) > len(selfie_faces) / 2


def test_a_clip_of_a_person_who_does_not_follow_passes_no_challenge(
    selfie_faces: list[tuple[float, ChallengeFace, Frame]],
) -> None:
    for _ in range(20):
        challenge = Challenge()
        decisions = [challenge.step(face, time_s) for time_s, face, _ in selfie_faces]
        assert not any(decision.passed for decision in decisions)
        assert challenge.done < len(challenge.actions)
        later_s = selfie_faces[-1][0] + 60
        assert challenge.step(None, later_s).outcome is PadOutcome.ATTACK

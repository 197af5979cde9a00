"""Quality measures on real pictures. Needs mediapipe and its model files; skips without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeface.alignment import align
from edgeface.assets import asset_or_stand_in, asset_path
from edgeface.camera.images import read_image
from edgeface.detection import AutoRangeDetector, MediaPipeLandmarkFinder
from edgeface.errors import AssetMissingError
from edgeface.quality import PROFILES, QualityGateOptions, assess
from edgeface.types import Frame, QualityMeasure, QualityReport, RejectionReason

pytestmark = pytest.mark.integration

M, R = QualityMeasure, RejectionReason

# LFW people outside every fold, judged by eye.
CLOSED_EYES = ("Franco_Cangele/Franco_Cangele_0001.jpg", "Mark_Stuart/Mark_Stuart_0001.jpg")
OPEN_MOUTHS = ("Lleyton_Hewitt/Lleyton_Hewitt_0015.jpg",)


class Watcher:
    """Detection, landmarks, alignment and assessment of the largest face of a picture."""

    def __init__(self) -> None:
        self.detector = AutoRangeDetector()
        self.finder = MediaPipeLandmarkFinder()

    def assess(self, frame: Frame, options: QualityGateOptions) -> QualityReport:
        found = self.detector.detect(frame)
        face = max(found, key=lambda each: each.box.area_px)
        landmarks = self.finder.find(frame, face)
        assert landmarks is not None
        aligned = align(frame, landmarks.points_px, "arcface-112x112")
        return assess(frame, face, landmarks, aligned, options, others=found)

    def close(self) -> None:
        self.detector.close()
        self.finder.close()


@pytest.fixture(scope="module")
def watcher(test_data: Path) -> Iterator[Watcher]:
    pytest.importorskip("mediapipe")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("EDGEFACE_TEST_DATA", str(test_data))
        try:
            asset_path("blaze_face_short_range.tflite")
            asset_path("blaze_face_full_range_sparse.tflite")
            asset_or_stand_in("face_landmarker.task")
        except AssetMissingError as error:
            pytest.skip(str(error))
        opened = Watcher()
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def portrait(test_data: Path) -> Frame:
    return read_image(test_data / "data" / "photo" / "ageitgey__obama.jpg")


@pytest.mark.parametrize("profile", PROFILES)
def test_a_portrait_passes_every_profile(watcher: Watcher, portrait: Frame, profile: str) -> None:
    report = watcher.assess(portrait, PROFILES[profile]())
    assert report.reasons == ()
    assert set(report.values) == set(M) - {M.EMBEDDING_AGREEMENT}
    assert report.score > 0.5


@pytest.mark.parametrize("name", CLOSED_EYES)
def test_closed_eyes_are_refused_at_enrolment_and_at_a_door_but_not_by_watch(
    watcher: Watcher, test_data: Path, name: str
) -> None:
    frame = read_image(test_data / "data" / "lfw" / "extra" / name)
    for profile in ("enrol", "door"):
        assert R.EYES_CLOSED in watcher.assess(frame, PROFILES[profile]()).reasons
    assert watcher.assess(frame, PROFILES["watch"]()).passed


@pytest.mark.parametrize("name", OPEN_MOUTHS)
def test_a_wide_open_mouth_is_refused_at_enrolment(
    watcher: Watcher, test_data: Path, name: str
) -> None:
    frame = read_image(test_data / "data" / "lfw" / "extra" / name)
    assert R.MOUTH_OPEN in watcher.assess(frame, PROFILES["enrol"]()).reasons


def test_two_people_are_too_many_for_a_door(watcher: Watcher, test_data: Path) -> None:
    frame = read_image(test_data / "data" / "photo" / "ageitgey__two_people.jpg")
    assert R.SEVERAL_FACES in watcher.assess(frame, PROFILES["door"]()).reasons
    assert R.SEVERAL_FACES not in watcher.assess(frame, PROFILES["watch"]()).reasons


def test_a_worse_picture_of_the_same_face_has_a_lower_score(
    watcher: Watcher, portrait: Frame
) -> None:
    cv2 = pytest.importorskip("cv2")
    watch = PROFILES["watch"]()
    scores = [
        watcher.assess(Frame(cv2.GaussianBlur(portrait.pixels, (0, 0), blur_px)), watch).score
        for blur_px in (0.5, 8, 16)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < scores[0] - 0.1


def test_watch_refuses_few_of_lfw(watcher: Watcher, test_data: Path) -> None:
    folder = test_data / "data" / "lfw" / "extra"
    paths = sorted(folder.rglob("*.jpg"))[::78]
    watch = PROFILES["watch"]()
    passed = np.array([watcher.assess(read_image(path), watch).passed for path in paths])
    assert len(passed) == 40
    assert (~passed).sum() <= 2, "1 % of 3,107"

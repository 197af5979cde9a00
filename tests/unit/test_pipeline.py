"""The whole path with fakes at its seams: faces are patterns pasted into frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.decision import DecisionOptions
from edgeface.embedding import FaceEmbedder
from edgeface.errors import EnrolmentError, GalleryModelError, SubjectExistsError
from edgeface.gallery import InMemoryGallery, SqliteGallery
from edgeface.pipeline import FaceFinder, Recognizer, RecognizerOptions
from edgeface.quality import QualityGateOptions
from edgeface.testing import FakeBackend, FakeDetector, FakeLandmarkFinder, FakeSource
from edgeface.types import (
    BoundingBox,
    Event,
    EventKind,
    FaceDetection,
    Frame,
    ImageArray,
    OperatingPoint,
    Outcome,
    RejectionReason,
    Template,
)
from tests.builders import make_bundle

pytest.importorskip("cv2")

POINT = OperatingPoint(0.6, 1e-4, "fp32", "test")
LENIENT = QualityGateOptions(
    min_detection_score=0.5,
    min_eye_distance_px=5,
    min_sharpness=0,
    min_luminance=0,
    max_luminance=1,
)
FACE_PX = 80


def pattern(person: int) -> ImageArray:
    """A face-sized picture that the fake engine tells apart from any other person's."""
    blocks = np.random.default_rng(person).integers(40, 216, (8, 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((FACE_PX // 8, FACE_PX // 8, 1), np.uint8))


def scene(*people: int | None, left_px: int = 20) -> ImageArray:
    """A frame with people side by side; None leaves a place empty."""
    frame = np.full((160, 400, 3), 128, np.uint8)
    for k, person in enumerate(people):
        if person is not None:
            x = left_px + 120 * k
            frame[40 : 40 + FACE_PX, x : x + FACE_PX] = pattern(person)
    return frame


def face(place: int = 0, *, left_px: int = 20, score: float = 0.9) -> FaceDetection:
    return FaceDetection(BoundingBox(left_px + 120 * place, 40, FACE_PX, FACE_PX), score)


class Setup:
    """A recogniser over fakes; the detector follows the script."""

    def __init__(
        self,
        folder: Path,
        script: Sequence[Sequence[FaceDetection]],
        *,
        finder: FakeLandmarkFinder | None = None,
    ) -> None:
        self.manifest = Bundle.open(make_bundle(folder, embedding_size=64)).manifest
        self.backend = FakeBackend(64)
        self.detector = FakeDetector(script)
        self.landmarks = finder or FakeLandmarkFinder()
        self.gallery = InMemoryGallery(model_id=self.manifest.model_id, embedding_size=64)
        self.recognizer = Recognizer(
            manifest=self.manifest,
            finder=FaceFinder(
                self.detector, self.landmarks, template=self.manifest.alignment_template
            ),
            embedder=FaceEmbedder(self.backend, self.manifest),
            gallery=self.gallery,
            operating_point=POINT,
            options=RecognizerOptions(watch_quality=LENIENT, enrol_quality=LENIENT),
        )


def kinds(events: Sequence[Event]) -> list[tuple[str, str, str | None]]:
    return [(event.kind.value, event.outcome.value, event.subject) for event in events]


def test_picture_without_a_face_gives_no_observation(tmp_path: Path) -> None:
    assert Setup(tmp_path, [[]]).recognizer.identify(scene()) == []


def test_empty_gallery_identifies_nobody(tmp_path: Path) -> None:
    (seen,) = Setup(tmp_path, [[face()]]).recognizer.identify(scene(1))
    assert seen.result.outcome is Outcome.UNKNOWN
    assert seen.result.subject is None
    assert seen.result.score is None


def test_enrolled_person_is_known_and_a_stranger_beside_is_unknown(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()], [face(0), face(1)]])
    setup.recognizer.enrol("ann", [scene(1)])
    seen = setup.recognizer.identify(scene(1, 2))
    assert [entry.result.outcome for entry in seen] == [Outcome.KNOWN, Outcome.UNKNOWN]
    assert seen[0].result.subject == "ann"
    assert seen[0].result.score == pytest.approx(1.0, abs=1e-4)
    # Both faces went through the engine in one batch.
    assert setup.backend.batch_sizes[-1] == 2


def test_enrolment_reports_images_that_it_left_out(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()], [], [face(0), face(1)]])
    report = setup.recognizer.enrol("ann", [scene(1), scene(), scene(1, 2)])
    assert report.accepted == ("image 1",)
    assert [entry.reasons for entry in report.rejected] == [
        (RejectionReason.NO_FACE,),
        (RejectionReason.SEVERAL_FACES,),
    ]
    assert all(entry.sentence.startswith(entry.image) for entry in report.rejected)


def test_enrolment_without_a_usable_image_stores_nothing(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[]])
    with pytest.raises(EnrolmentError, match="no usable image of ann") as caught:
        setup.recognizer.enrol("ann", [scene()])
    assert len(caught.value.reasons) == 1
    assert setup.gallery.subjects() == []
    with pytest.raises(EnrolmentError, match="no image was given"):
        setup.recognizer.enrol("ann", [])


def test_images_of_two_people_are_not_enrolled_as_one(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()], [face()]])
    with pytest.raises(EnrolmentError, match="does not look like"):
        setup.recognizer.enrol("ann", [scene(1), scene(2)])
    assert setup.gallery.subjects() == []


def test_person_enrolled_under_another_name_is_noticed(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()]] * 3)
    setup.recognizer.enrol("ann", [scene(1)])
    with pytest.raises(EnrolmentError, match="already enrolled as ann"):
        setup.recognizer.enrol("beth", [scene(1)])
    setup.recognizer.enrol("beth", [scene(1)], allow_duplicate=True)
    assert [person.name for person in setup.gallery.subjects()] == ["ann", "beth"]


def test_enrolling_a_name_twice_needs_extend(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()]] * 3)
    setup.recognizer.enrol("ann", [scene(1)])
    with pytest.raises(SubjectExistsError):
        setup.recognizer.enrol("ann", [scene(1)])
    setup.recognizer.enrol("ann", [scene(1)], extend=True)
    assert setup.gallery.subjects()[0].template_count == 2


def test_face_without_landmarks_is_rejected_with_the_reason(tmp_path: Path) -> None:
    finder = FakeLandmarkFinder(lambda frame, detection: None)
    (seen,) = Setup(tmp_path, [[face()]], finder=finder).recognizer.identify(scene(1))
    assert seen.result.outcome is Outcome.REJECTED
    assert seen.result.reasons == (RejectionReason.LANDMARKS_NOT_FOUND,)


def test_face_that_fails_a_gate_is_not_embedded(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face(score=0.51)]])
    strict = QualityGateOptions(min_detection_score=0.9)
    finder = FaceFinder(setup.detector, setup.landmarks, template="arcface-112x112")
    (found,) = finder.find(Frame(scene(1)), strict)
    assert found.aligned is None
    assert RejectionReason.DETECTION_UNSURE in found.reasons
    assert setup.backend.batch_sizes == []


def test_crowd_is_cut_to_the_largest_faces(tmp_path: Path) -> None:
    boxes = [FaceDetection(BoundingBox(0, 0, side, side), 0.9) for side in (10, 40, 20, 30)]
    finder = FaceFinder(
        FakeDetector([boxes]), FakeLandmarkFinder(), template="arcface-112x112", max_faces=2
    )
    assert [f.box.width_px for f in finder.detect(Frame(scene()))] == [40, 30]


def test_stream_names_a_track_after_enough_frames_and_says_when_it_left(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()]] * 6 + [[]] * 12)
    setup.gallery.add("ann", [template_of(setup, 1)])
    events = list(setup.recognizer.watch(FakeSource([scene(1)] * 6 + [scene()] * 12)))
    assert kinds(events) == [
        ("appeared", "known", "ann"),
        ("identified", "known", "ann"),
        ("arrived", "known", "ann"),
        ("left", "known", "ann"),
        ("departed", "known", "ann"),
    ]
    assert [event.frame_index for event in events[:3]] == [2, 2, 2]
    assert [event.frame_index for event in events[3:]] == [17, 17]


def test_track_that_is_still_there_at_the_end_leaves_with_the_stream(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()]] * 5)
    events = list(setup.recognizer.watch(FakeSource([scene(2)] * 5)))
    assert events[-1].kind is EventKind.LEFT
    assert events[-1].outcome is Outcome.UNKNOWN


def test_slip_of_the_detector_makes_no_event(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[], [face()], [face()]] + [[]] * 15)
    assert list(setup.recognizer.watch(FakeSource([scene(1)] * 18))) == []


def test_every_still_picture_stands_alone(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()], [face()]])
    setup.gallery.add("ann", [template_of(setup, 1)])
    events = list(setup.recognizer.watch(FakeSource([scene(1), scene(2)], fps=None)))
    assert [(e.kind.value, e.subject) for e in events if e.kind is not EventKind.APPEARED] == [
        ("identified", "ann"),
        ("left", "ann"),
        ("identified", None),
        ("left", None),
    ]
    assert len({event.track_id for event in events}) == 2


def test_observe_reports_the_time_of_every_stage(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()]])
    (result,) = setup.recognizer.observe(FakeSource([scene(1)]))
    assert set(result.times_ms) >= {"detect", "landmarks", "align", "quality", "embed", "search"}
    assert all(value >= 0 for value in result.times_ms.values())
    assert result.observations[0].track_id == 1


def test_closing_frees_every_part_and_may_be_repeated(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [])
    with setup.recognizer:
        pass
    setup.recognizer.close()
    assert setup.detector.closed
    assert setup.landmarks.closed
    assert setup.backend.closed


def test_gallery_of_another_model_is_refused(tmp_path: Path) -> None:
    SqliteGallery.open(tmp_path / "people.db", model_id="a" * 64, embedding_size=64).close()
    with pytest.raises(GalleryModelError):
        SqliteGallery.open(tmp_path / "people.db", model_id="b" * 64, embedding_size=64)


def test_decision_options_travel_to_the_stream(tmp_path: Path) -> None:
    setup = Setup(tmp_path, [[face()]] * 8)
    options = RecognizerOptions(
        watch_quality=LENIENT, decision=DecisionOptions(min_frames=5, window=7, switch_frames=6)
    )
    recognizer = Recognizer(
        manifest=setup.manifest,
        finder=FaceFinder(setup.detector, setup.landmarks, template="arcface-112x112"),
        embedder=FaceEmbedder(setup.backend, setup.manifest),
        gallery=setup.gallery,
        operating_point=POINT,
        options=options,
    )
    events = list(recognizer.watch(FakeSource([scene(3)] * 8)))
    identified = [event for event in events if event.kind is EventKind.IDENTIFIED]
    assert [event.frame_index for event in identified] == [4]


def template_of(setup: Setup, person: int) -> Template:
    """The template of a person, made by the same path with a detector of its own."""
    finder = FaceFinder(FakeDetector([[face()]]), FakeLandmarkFinder(), template="arcface-112x112")
    (found,) = finder.find(Frame(scene(person)), LENIENT)
    assert found.aligned is not None
    (template,) = FaceEmbedder(FakeBackend(64), setup.manifest).embed([found.aligned])
    assert template is not None
    return template

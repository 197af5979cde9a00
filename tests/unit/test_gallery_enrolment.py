"""Enrolment from streams and folders: which frames are taken, what is said, who is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.embedding import FaceEmbedder
from edgeface.errors import EnrolmentError, GalleryModelError, InvalidInputError
from edgeface.gallery import Consent, SqliteGallery
from edgeface.pipeline import FaceFinder, Recognizer, RecognizerOptions
from edgeface.pipeline.coach import (
    Coaching,
    CoachOptions,
    EnrolmentCoach,
    Pose,
    collect_references,
)
from edgeface.pipeline.new_model import NewModel, learn_from, require_comparable
from edgeface.pipeline.people_folder import enrol_folders, people_in
from edgeface.pipeline.references import align_reference, cut_reference
from edgeface.quality import QualityGateOptions
from edgeface.testing import FakeBackend, FakeDetector, FakeLandmarkFinder, FakeSource
from edgeface.types import (
    BoundingBox,
    FaceDetection,
    FaceLandmarks,
    Frame,
    IdentificationResult,
    Observation,
    OperatingPoint,
    Outcome,
    QualityMeasure,
    QualityReport,
    RejectionReason,
)
from tests.builders import make_bundle

cv2 = pytest.importorskip("cv2")

GATE = QualityGateOptions(
    min_detection_score=0.5, min_eye_distance_px=5, min_sharpness=0, max_yaw_deg=30
)
POINT = OperatingPoint(0.6, 1e-4, "fp32", "test")
CONSENT = Consent("on paper", "2026-01-01", keep_crops=True)
POINTS = np.array([[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]], np.float32)
DETECTION = FaceDetection(BoundingBox(10, 10, 40, 40), 0.9)


LOST = Observation(
    DETECTION,
    IdentificationResult(Outcome.REJECTED, reasons=(RejectionReason.LANDMARKS_NOT_FOUND,)),
)


def frame(number: int = 0) -> Frame:
    return Frame(np.full((64, 64, 3), number, np.uint8), index=number)


def seen(yaw_deg: float, *, score: float = 0.5, sharpness: float = 0.5) -> Observation:
    values = {
        QualityMeasure.DETECTION_SCORE: 0.9,
        QualityMeasure.EYE_DISTANCE: 40.0,
        QualityMeasure.SHARPNESS: sharpness,
        QualityMeasure.LUMINANCE: 0.5,
        QualityMeasure.YAW: yaw_deg,
        QualityMeasure.PITCH: 0.0,
        QualityMeasure.ROLL: 0.0,
        QualityMeasure.INSIDE_FRAME: 1.0,
    }
    return Observation(
        DETECTION,
        IdentificationResult(Outcome.UNKNOWN),
        QualityReport(values, (), score),
        FaceLandmarks(POINTS, yaw_deg=yaw_deg),
    )


def coached(
    script: Sequence[Sequence[Observation]], **options: object
) -> tuple[EnrolmentCoach, list[Coaching]]:
    """Return the coach after the frames of ``script``, and what it said of each."""
    chosen = CoachOptions(quality=GATE, **options)  # type: ignore[arg-type]
    coach = EnrolmentCoach(lambda each: list(script[each.index]), chosen)
    return coach, [coach.look(frame(number)) for number in range(len(script))]


# ------------------------------------------------------------------------------ the coach


def test_the_best_frame_of_each_pose_is_kept() -> None:
    script = [
        [seen(0, score=0.3)],
        [seen(0, score=0.9)],
        [seen(0, score=0.5)],
        [seen(-20)],
        [seen(20)],
    ]
    coach, said = coached(script, settle_frames=0)
    assert [one.index for one in coach.frames] == [1, 3, 4]
    assert [one.pose for one in said] == [Pose.FRONT, Pose.FRONT, None, Pose.LEFT, Pose.RIGHT]
    assert said[-1].is_done
    assert [one.settled for one in said] == [1, 1, 1, 2, 3]


def test_the_coach_asks_for_what_is_missing() -> None:
    _, said = coached(
        [[seen(0)], [seen(10)], [seen(-20)], [seen(-20)], [seen(20)]], settle_frames=0
    )
    assert "left edge" in said[0].advice
    assert said[1].pose is None
    assert "right edge" in said[2].advice
    assert said[-1].advice.startswith("That is all")


def test_a_pose_is_settled_after_frames_that_are_no_better() -> None:
    _, said = coached([[seen(0)]] * 4, settle_frames=2, poses=(Pose.FRONT,))
    assert [one.settled for one in said] == [0, 0, 1, 1]
    assert said[0].advice == "Hold still."


@pytest.mark.parametrize(
    ("faces", "advice"),
    [
        ([], RejectionReason.NO_FACE),
        ([seen(0), seen(0)], RejectionReason.SEVERAL_FACES),
        ([seen(60)], RejectionReason.TURNED_AWAY),
        ([LOST], RejectionReason.LANDMARKS_NOT_FOUND),
    ],
    ids=["nobody", "two", "turned", "no landmarks"],
)
def test_a_frame_that_is_not_taken_says_why(
    faces: list[Observation], advice: RejectionReason
) -> None:
    from edgeface.quality import advice as sentence

    coach, said = coached([faces])
    assert coach.frames == []
    assert (said[0].advice, said[0].pose) == (sentence(advice), None)


def test_a_recording_gives_what_it_shows() -> None:
    script: list[list[Observation]] = [[], [seen(0)], [seen(20)]]
    coach = EnrolmentCoach(lambda each: script[each.index], CoachOptions(quality=GATE))
    said: list[Coaching] = []
    taken = collect_references(map(frame, range(3)), coach, said.append, most=10)
    assert [one.index for one in taken] == [1, 2]
    assert len(said) == 3
    for frames, most in ((range(1), 10), (range(3), 1)):
        coach = EnrolmentCoach(lambda each: script[each.index], CoachOptions(quality=GATE))
        with pytest.raises(EnrolmentError, match="no frame shows one person"):
            collect_references(map(frame, frames), coach, said.append, most=most)


def test_a_coach_stops_when_all_poses_are_settled() -> None:
    coach = EnrolmentCoach(
        lambda _each: [seen(0)], CoachOptions(quality=GATE, poses=(Pose.FRONT,), settle_frames=1)
    )
    endless = (frame(number % 200) for number in iter(int, 1))
    assert len(collect_references(endless, coach, lambda _: None, most=100)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"poses": ()},
        {"poses": (Pose.FRONT, Pose.FRONT)},
        {"front_deg": 0.0},
        {"front_deg": 20.0, "turned_deg": 10.0},
        {"turned_deg": 40.0},
        {"settle_frames": -1},
    ],
)
def test_impossible_options_of_a_coach_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        CoachOptions(quality=GATE, **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ kept crops


@pytest.mark.parametrize("template", ["arcface-112x112", "arcface-112x96"])
def test_a_kept_crop_aligns_like_the_picture_it_was_cut_from(template: str) -> None:
    from edgeface.alignment import align

    rng = np.random.default_rng(3)
    picture = cv2.resize(rng.integers(0, 256, (40, 60, 3), np.uint8), (600, 400))
    whole = Frame(picture)
    for middle, size, turn in (
        ((300, 200), 1.0, 0.0),
        ((200, 150), 1.2, 0.5),
        ((20, 30), 0.8, -0.3),
    ):
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = ((POINTS - POINTS.mean(0)) * size * 1.5) @ turned.T + middle
        crop = cut_reference(whole, points.astype(np.float32))
        assert crop.pixels.size < picture.size / 4
        again = align_reference(crop, template).pixels.astype(int)
        difference = np.abs(again - align(whole, points, template).pixels.astype(int))
        assert difference.max() <= 1, (middle, size, turn)


def test_a_large_face_is_kept_small() -> None:
    rng = np.random.default_rng(4)
    picture = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (1600, 1200))
    points = (POINTS - POINTS.mean(0)) * 16 + (800, 600)
    crop = cut_reference(Frame(picture), points.astype(np.float32))
    assert max(crop.pixels.shape) < 300
    assert float(np.linalg.norm(crop.points_px[1] - crop.points_px[0])) == pytest.approx(48, abs=1)
    from edgeface.alignment import align

    again = align_reference(crop, "arcface-112x112").pixels.astype(int)
    direct = align(Frame(picture), points, "arcface-112x112").pixels.astype(int)
    assert np.abs(again - direct).mean() < 3


def test_a_face_at_the_very_edge_is_cut_without_leaving_the_picture() -> None:
    for middle in ((0, 0), (63, 63), (-30, 10)):
        crop = cut_reference(frame(), (POINTS - POINTS.mean(0) + middle).astype(np.float32))
        assert 0 not in crop.pixels.shape


# ------------------------------------------------------------------------------ recognisers

FACE_PX = 80


def pattern(person: int) -> np.ndarray:
    blocks = np.random.default_rng(person).integers(40, 216, (8, 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((FACE_PX // 8, FACE_PX // 8, 1), np.uint8))


def photo(person: int, shade: int = 0) -> np.ndarray:
    picture = np.full((160, 160, 3), 128, np.uint8)
    picture[40 : 40 + FACE_PX, 20 : 20 + FACE_PX] = pattern(person) + np.uint8(shade)
    return picture


def recognizer_over(
    folder: Path, gallery: SqliteGallery | None = None, *, detections: int = 100
) -> Recognizer:
    bundle = Bundle.open(make_bundle(folder, embedding_size=64))
    manifest = bundle.manifest
    script = [[FaceDetection(BoundingBox(20, 40, FACE_PX, FACE_PX), 0.9)]] * detections
    people = gallery or SqliteGallery.open(
        folder / "people.db", model_id=manifest.model_id, embedding_size=64
    )
    return Recognizer(
        manifest=manifest,
        finder=FaceFinder(
            FakeDetector(script), FakeLandmarkFinder(), template=manifest.alignment_template
        ),
        embedder=FaceEmbedder(FakeBackend(64), manifest),
        gallery=people,
        operating_point=POINT,
        options=RecognizerOptions(watch_quality=GATE, enrol_quality=GATE),
    )


def gallery_of(recognizer: Recognizer) -> SqliteGallery:
    assert isinstance(recognizer.gallery, SqliteGallery)
    return recognizer.gallery


def test_enrolment_keeps_consent_and_crops_only_when_agreed(tmp_path: Path) -> None:
    with recognizer_over(tmp_path) as recognizer:
        recognizer.enrol("ann", [photo(1)], consent=CONSENT)
        recognizer.enrol("bob", [photo(2)], consent=Consent("by mail", "2026-01-01"))
        recognizer.enrol("cleo", [photo(3)])
        gallery = gallery_of(recognizer)
        assert [gallery.details(name).crops for name in ("ann", "bob", "cleo")] == [1, 0, 0]
        assert gallery.details("ann").consent == CONSENT
        assert gallery.details("cleo").consent is None


def test_somebody_else_is_not_added_to_a_person(tmp_path: Path) -> None:
    with recognizer_over(tmp_path) as recognizer:
        recognizer.enrol("ann", [photo(1)])
        with pytest.raises(EnrolmentError, match="does not look like the person enrolled"):
            recognizer.enrol("ann", [photo(2)], extend=True)
        recognizer.enrol("ann", [photo(1, shade=2)], extend=True)
        recognizer.enrol("new", [photo(5)], extend=True)
        assert [info.template_count for info in recognizer.gallery.subjects()] == [2, 1]


def write_people(folder: Path) -> Path:
    for person, name in enumerate(("ann", "bob", "twin of ann", "empty", "no picture")):
        (folder / name).mkdir(parents=True)
        if name not in ("empty", "no picture"):
            shown = 0 if name == "twin of ann" else person
            cv2.imwrite(str(folder / name / "1.png"), photo(shown)[..., ::-1])
    (folder / "no picture" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "ann" / "notes.txt").write_text("no photo")
    (folder / ".hidden").mkdir()
    (folder / "file.txt").write_text("no person")
    return folder


def test_a_folder_of_people_is_enrolled_and_reported(tmp_path: Path) -> None:
    people = people_in(write_people(tmp_path / "people"))
    assert [person.name for person in people] == [
        "ann",
        "bob",
        "empty",
        "no picture",
        "twin of ann",
    ]
    with recognizer_over(tmp_path) as recognizer:
        results = {one.name: one for one in enrol_folders(recognizer, people, CONSENT)}
        assert [info.name for info in recognizer.gallery.subjects()] == ["ann", "bob"]
        again = list(enrol_folders(recognizer, people[:1], CONSENT, allow_duplicate=True))
    assert {name for name, one in results.items() if not one.problem} == {"ann", "bob"}
    assert "already enrolled as ann" in results["twin of ann"].problem
    assert "no image was given" in results["empty"].problem
    assert len(results["no picture"].left_out) == 1
    assert "enrolled already" in again[0].problem


def test_a_folder_without_people_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is no folder"):
        people_in(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="holds no folders"):
        people_in(tmp_path)


# ------------------------------------------------------------------------------ a new model


def new_model(folder: Path) -> NewModel:
    folder.mkdir()
    manifest = Bundle.open(make_bundle(folder, embedding_size=48)).manifest
    return NewModel(manifest, FaceEmbedder(FakeBackend(48), manifest), POINT)


def test_templates_of_a_new_model_are_made_of_kept_crops(tmp_path: Path) -> None:
    with new_model(tmp_path / "new") as new:
        crop = cut_reference(Frame(photo(1)), POINTS + 30)
        (template,) = new.templates_of([crop], [0.7])
        assert template is not None
        assert (template.model_id, template.quality) == (new.manifest.model_id, 0.7)
        assert template.vector.shape == (48,)
        assert new.templates_of([]) == []


def known(frame_says: str | None, track_says: str | None, **quality: float) -> Observation:
    def result(name: str | None) -> IdentificationResult:
        return IdentificationResult(Outcome.KNOWN if name else Outcome.UNKNOWN, name)

    face = seen(quality.pop("yaw_deg", 0.0), **quality)
    return dataclasses.replace(
        face, result=result(frame_says), track_result=result(track_says), track_id=1
    )


def test_what_the_old_model_is_sure_of_is_learnt_and_nothing_else(tmp_path: Path) -> None:
    script = [
        [known("ann", None)],  # one frame alone
        [known(None, "ann")],  # this face is not like ann
        [known("bob", "ann")],
        [known("ann", "ann", yaw_deg=60.0)],  # too poor to enrol
        [dataclasses.replace(known("ann", "ann"), quality=None)],
        [known("ann", "ann", score=0.5)],
        [known("ann", "ann", score=0.4)],  # no better than before
        [known("ann", "ann", score=0.6), known("bob", "bob", score=0.6)],
        [known("ann", "ann", score=0.7)],
        [known("ann", "ann", score=0.8)],  # enough of ann
    ]

    class Scripted:
        def stream(self, _source: object) -> Scripted:
            return self

        def process(self, each: Frame) -> SimpleNamespace:
            return SimpleNamespace(observations=script[each.index])

    with new_model(tmp_path / "new") as new:
        source = FakeSource([frame(number) for number in range(len(script))])
        learnt = list(learn_from(source, Scripted(), new, most=3, quality=GATE))  # type: ignore[arg-type]
    assert [name for name, _ in learnt] == ["ann", "ann", "bob", "ann"]
    assert [template.quality for _, template in learnt] == [0.5, 0.6, 0.6, 0.7]
    assert {template.model_id for _, template in learnt} == {new.manifest.model_id}


def test_artefacts_are_comparable_only_where_that_was_measured(tmp_path: Path) -> None:
    manifest = Bundle.open(make_bundle(tmp_path)).manifest
    bare = dataclasses.replace(manifest, verdict=dataclasses.replace(manifest.verdict, figures={}))
    figures = {"int8_cosine_p1": 0.97, "int8_pair_change_p99": 0.02}
    measured = dataclasses.replace(
        manifest, verdict=dataclasses.replace(manifest.verdict, figures=figures)
    )
    assert require_comparable(bare, "fp32", "fp32") == {}
    assert require_comparable(bare, "fp32", "cpu-fp32") == {}
    assert require_comparable(measured, "fp32", "int8") == figures
    for first, second in (("fp32", "int8"), ("cpu-int8", "fp32"), ("fp32", "other")):
        with pytest.raises(GalleryModelError, match="nothing was measured"):
            require_comparable(bare, first, second)

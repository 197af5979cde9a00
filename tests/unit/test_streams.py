"""Streams: which faces are compared when, whose evidence it is, visits, several sources."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeface.bundle import Bundle
from edgeface.embedding import FaceEmbedder
from edgeface.errors import CameraError, InvalidInputError
from edgeface.gallery import InMemoryGallery
from edgeface.pipeline import (
    ComparisonOptions,
    FaceFinder,
    FrameResult,
    Recognizer,
    RecognizerOptions,
    StreamOptions,
    VisitOptions,
)
from edgeface.pipeline.interest import ComparisonBudget, promise
from edgeface.quality import QualityGateOptions
from edgeface.testing import FakeBackend, FakeCamera, FakeLandmarkFinder, FakeSource
from edgeface.types import (
    BoundingBox,
    Event,
    EventKind,
    FaceDetection,
    FaceLandmarks,
    Frame,
    ImageArray,
    OperatingPoint,
    RejectionReason,
)
from tests.builders import make_bundle

pytest.importorskip("cv2")

POINT = OperatingPoint(0.6, 1e-4, "fp32", "test")
LENIENT = QualityGateOptions(
    min_detection_score=0.3,
    min_eye_distance_px=5,
    min_sharpness=0,
    min_luminance=0,
    max_luminance=1,
)
FACE_PX = 80
FPS = 25.0

Place = tuple[int, float]
"""A person, and the left edge of the face."""


def pattern(person: int) -> ImageArray:
    blocks = np.random.default_rng(person).integers(40, 216, (8, 8, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((FACE_PX // 8, FACE_PX // 8, 1), np.uint8))


def scene(*people: Place) -> ImageArray:
    """People on a grey wall; later ones stand in front."""
    frame = np.full((160, 640, 3), 128, np.uint8)
    for person, left in people:
        x = round(left)
        frame[40 : 40 + FACE_PX, x : x + FACE_PX] = pattern(person)
    return frame


class SceneDetector:
    """Finds the people of a script; a face is hidden when another covers half of it."""

    def __init__(self, script: dict[str, Sequence[Sequence[Place]]]) -> None:
        self._script = script

    def detect(self, frame: Frame) -> list[FaceDetection]:
        places = self._script[frame.source][frame.index]
        return [
            FaceDetection(BoundingBox(left, 40, FACE_PX, FACE_PX), 0.9)
            for k, (_, left) in enumerate(places)
            if not any(abs(left - other) < FACE_PX / 2 for _, other in places[k + 1 :])
        ]

    def close(self) -> None:
        pass


class Rig:
    """A recogniser over scripts of places, one for each source."""

    def __init__(
        self,
        folder: Path,
        *scripts: Sequence[Sequence[Place]],
        landmarks: Callable[[Frame, FaceDetection], FaceLandmarks | None] | None = None,
        **stream: object,
    ) -> None:
        self.scripts = {f"camera {k}": script for k, script in enumerate(scripts)}
        manifest = Bundle.open(make_bundle(folder, embedding_size=64)).manifest
        self.backend = FakeBackend(64)
        gallery = InMemoryGallery(model_id=manifest.model_id, embedding_size=64)
        detector = SceneDetector(self.scripts | {"photo": [[(person, 20)] for person in range(9)]})
        self.recognizer = Recognizer(
            manifest=manifest,
            finder=FaceFinder(
                detector, FakeLandmarkFinder(landmarks), template=manifest.alignment_template
            ),
            embedder=FaceEmbedder(self.backend, manifest),
            gallery=gallery,
            operating_point=POINT,
            options=RecognizerOptions(
                watch_quality=LENIENT,
                enrol_quality=LENIENT,
                stream=StreamOptions(**stream),  # type: ignore[arg-type]
            ),
        )
        for person, name in ((1, "ann"), (2, "beth")):
            frame = Frame(scene((person, 20)), 0.0, person, "photo")
            if landmarks is None:
                self.recognizer.enrol(name, [frame])
        self.backend.batch_sizes.clear()

    def frames(self, k: int = 0) -> list[Frame]:
        name = f"camera {k}"
        return [
            Frame(scene(*places), index / FPS, index, name)
            for index, places in enumerate(self.scripts[name])
        ]

    def source(self, k: int = 0) -> FakeSource:
        return FakeSource(self.frames(k), name=f"camera {k}", fps=FPS)

    def run(self) -> tuple[list[FrameResult], list[Event]]:
        source = self.source()
        stream = self.recognizer.stream(source)
        results = [stream.process(frame) for frame in source]
        events = [event for result in results for event in result.events]
        return results, [*events, *stream.finish()]


def subjects(results: Sequence[FrameResult]) -> list[dict[int, str | None]]:
    """What each track says, frame by frame."""
    return [
        {
            face.track_id or 0: face.track_result.subject if face.track_result else None
            for face in result.observations
        }
        for result in results
    ]


def kinds(events: Sequence[Event], *wanted: EventKind) -> list[tuple[str, str | None]]:
    return [(e.kind.value, e.subject) for e in events if not wanted or e.kind in wanted]


def standing(person: int, frames: int, left: float = 20) -> list[list[Place]]:
    return [[(person, left)]] * frames


def test_new_face_is_named_from_its_first_frames_and_then_compared_now_and_then(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, standing(1, 100))
    results, _ = rig.run()
    assert [s.get(1) for s in subjects(results)[:4]] == [None, None, "ann", "ann"]
    # Three at once, then one a second.
    assert len(rig.backend.batch_sizes) == 6
    assert [face.is_carried for face in results[50].observations] == [True]
    assert results[50].observations[0].result.subject == "ann"


def test_every_frame_options_compare_every_face_in_every_frame(tmp_path: Path) -> None:
    every = StreamOptions.every_frame()
    rig = Rig(tmp_path, standing(1, 30), scan=every.scan, comparison=every.comparison)
    results, _ = rig.run()
    assert len(rig.backend.batch_sizes) == 30
    assert not any(face.is_carried for result in results for face in result.observations)


def test_comparisons_of_a_crowd_stay_within_the_budget_and_none_is_starved(
    tmp_path: Path,
) -> None:
    crowd: list[Place] = [(10 + k, 100 * k) for k in range(6)]
    rig = Rig(tmp_path, [crowd] * 100, comparison=ComparisonOptions(per_second=5.0, burst=2))
    results, _ = rig.run()
    # Two at first and five a second for four seconds.
    assert sum(rig.backend.batch_sizes) <= 22
    compared = {
        face.track_id for result in results for face in result.observations if not face.is_carried
    }
    assert compared == {1, 2, 3, 4, 5, 6}


def test_face_whose_turn_has_not_come_says_so(tmp_path: Path) -> None:
    rig = Rig(
        tmp_path, [[(1, 20), (2, 320)]] * 2, comparison=ComparisonOptions(per_second=1.0, burst=1)
    )
    results, _ = rig.run()
    waiting = [f for f in results[0].observations if f.is_carried]
    assert [face.result.reasons for face in waiting] == [(RejectionReason.NOT_COMPARED,)]
    assert waiting[0].track_result is None


def test_turned_away_face_is_tried_again_and_named_when_it_turns_back(tmp_path: Path) -> None:
    def landmarks(frame: Frame, detection: FaceDetection) -> FaceLandmarks | None:
        found = FakeLandmarkFinder().find(frame, detection)
        if found is None or frame.source == "photo" or frame.index >= 40:
            return found
        return FaceLandmarks(found.points_px, yaw_deg=80.0)

    rig = Rig(tmp_path, standing(1, 60), landmarks=landmarks)
    rig.recognizer.enrol("ann", [Frame(scene((1, 20)), 0.0, 1, "photo")])
    rig.backend.batch_sizes.clear()
    results, _ = rig.run()
    said = [s.get(1) for s in subjects(results)]
    assert said[39] is None
    first = said.index("ann")
    # Half a second at 25 frames a second.
    assert 40 < first <= 52


def test_detection_without_landmarks_is_soon_no_face_and_never_an_event(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(5, 50), landmarks=lambda frame, detection: None)
    results, events = rig.run()
    assert events == []
    # Two looks, a fifth of a second apart, find no face in it.
    assert all(result.observations == () for result in results[8:])


def test_another_person_on_the_same_track_never_gets_the_first_ones_name_for_long(
    tmp_path: Path,
) -> None:
    # The picture is cut: a stranger stands where Ann stood.
    rig = Rig(tmp_path, [*standing(1, 20), *standing(7, 30)], comparison=ComparisonOptions())
    results, events = rig.run()
    said = subjects(results)
    assert said[19] == {1: "ann"}
    # Without a look at the new face the name stays; the next look is at most a second away.
    changed = next(k for k, s in enumerate(said) if k >= 20 and s.get(1) != "ann")
    assert changed <= 20 + FPS + 2
    assert all(s.get(1) is None for s in said[changed:])
    assert ("identified", None) in kinds(events)


def test_face_swapped_for_another_known_one_starts_from_nothing(tmp_path: Path) -> None:
    every = StreamOptions.every_frame().comparison
    rig = Rig(tmp_path, [*standing(1, 10), *standing(2, 10)], comparison=every)
    results, events = rig.run()
    said = [s[1] for s in subjects(results)]
    # One look that disagrees may be a slip; with the second the track starts anew.
    assert said[10] == "ann"
    assert said[11:13] == [None, "beth"]
    assert kinds(events, EventKind.ARRIVED) == [("arrived", "ann"), ("arrived", "beth")]


def test_one_bad_look_changes_nothing(tmp_path: Path) -> None:
    every = StreamOptions.every_frame().comparison
    rig = Rig(tmp_path, [*standing(1, 10), *standing(7, 1), *standing(1, 10)], comparison=every)
    results, _ = rig.run()
    assert {s[1] for s in subjects(results)[2:]} == {"ann"}


def crossing() -> list[list[Place]]:
    return [[(1, 12.0 * k), (2, 500 - 12.0 * k)] for k in range(42)]


def test_people_who_cross_keep_their_tracks_and_names(tmp_path: Path) -> None:
    results, events = Rig(tmp_path, crossing()).run()
    said = subjects(results)
    assert said[5] == said[-1] == {1: "ann", 2: "beth"}
    assert kinds(events, EventKind.ARRIVED) == [("arrived", "ann"), ("arrived", "beth")]
    assert len({event.track_id for event in events}) == 2


def test_tracks_that_changed_faces_are_put_right(tmp_path: Path) -> None:
    # Both are hidden while they turn back: by their motion they have passed each other.
    meeting: list[list[Place]] = [[(1, 80.0 + 12 * k), (2, 520.0 - 12 * k)] for k in range(11)]
    hidden: list[list[Place]] = [[]] * 17
    rig = Rig(tmp_path, [*meeting, *hidden, *[[(1, 200.0), (2, 400.0)]] * 20])
    results, events = rig.run()
    said = subjects(results)
    assert said[10] == {1: "ann", 2: "beth"}
    assert said[-1] == {1: "ann", 2: "beth"}
    places = [
        {face.track_id: face.detection.box.left_px for face in result.observations}
        for result in results
    ]
    # The tracker alone takes each for the other; the second look puts it right.
    assert places[28][1] > places[28][2]
    assert places[31] == {1: pytest.approx(200, abs=20), 2: pytest.approx(400, abs=20)}
    # Landmarks, of which templates are made, stay with the face that they are of.
    for result in results:
        for face in result.observations:
            if face.landmarks is not None:
                distance = face.landmarks.points_px.mean(0)[0] - face.detection.box.centre_px[0]
                assert abs(distance) < FACE_PX / 2
    assert kinds(events, EventKind.ARRIVED) == [("arrived", "ann"), ("arrived", "beth")]
    assert len(kinds(events, EventKind.APPEARED)) == 2


def test_short_loss_of_a_face_is_the_same_visit(tmp_path: Path) -> None:
    nobody: list[list[Place]] = [[]]
    script = [*standing(1, 10), *nobody * 50, *standing(1, 10, left=300), *nobody * 30]
    _, events = Rig(tmp_path, script, visits=VisitOptions(absence_s=3.0)).run()
    assert kinds(events, EventKind.ARRIVED, EventKind.DEPARTED) == [
        ("arrived", "ann"),
        ("departed", "ann"),
    ]
    (departed,) = [event for event in events if event.kind is EventKind.DEPARTED]
    assert departed.visit is not None
    assert departed.visit.arrived_s == pytest.approx(2 / FPS)
    assert departed.visit.last_seen_s == pytest.approx(69 / FPS)


def test_long_absence_makes_two_visits(tmp_path: Path) -> None:
    nobody: list[list[Place]] = [[]]
    script = [*standing(1, 10), *nobody * 60, *standing(1, 10)]
    _, events = Rig(tmp_path, script, visits=VisitOptions(absence_s=1.0)).run()
    visits = [e for e in events if e.kind in (EventKind.ARRIVED, EventKind.DEPARTED)]
    assert [(e.kind.value, e.visit.number if e.visit else 0) for e in visits] == [
        ("arrived", 1),
        ("departed", 1),
        ("arrived", 2),
        ("departed", 2),
    ]
    assert visits[1].frame_index < 70


def test_two_faces_with_one_name_are_one_visit(tmp_path: Path) -> None:
    _, events = Rig(tmp_path, [[(1, 20), (1, 320)]] * 10).run()
    assert len(kinds(events, EventKind.ARRIVED)) == 1
    assert len(kinds(events, EventKind.DEPARTED)) == 1


def test_strangers_make_no_visit(tmp_path: Path) -> None:
    _, events = Rig(tmp_path, standing(7, 30)).run()
    assert kinds(events, EventKind.ARRIVED, EventKind.DEPARTED) == []


def test_evidence_says_what_an_outcome_rests_on(tmp_path: Path) -> None:
    results, _ = Rig(tmp_path, standing(1, 10)).run()
    result = results[-1].observations[0].track_result
    assert result is not None
    assert result.evidence is not None
    assert result.evidence.compared == 3
    assert result.evidence.votes == (("ann", 3),)
    assert result.evidence.margin is not None
    assert result.evidence.margin > 0.1


def test_time_that_goes_back_loses_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 30))
    stream = rig.recognizer.stream(rig.source())
    events: list[Event] = []
    for frame in rig.frames():
        jumped = 1000.0 if frame.index < 10 else frame.timestamp_s
        again = Frame(frame.pixels, jumped + frame.index / FPS, frame.index, frame.source)
        events += stream.process(again).events
    events += stream.finish()
    times = [event.timestamp_s for event in events]
    assert times == sorted(times)
    assert kinds(events, EventKind.ARRIVED, EventKind.DEPARTED) == [
        ("arrived", "ann"),
        ("departed", "ann"),
    ]


def test_faces_of_one_moment_go_through_the_engine_together(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 4), standing(2, 4), standing(7, 4))
    streams = [rig.recognizer.stream(rig.source(k)) for k in range(3)]
    from edgeface.pipeline.group import StreamGroup

    group = StreamGroup([rig.source(k) for k in range(3)], streams, rig.recognizer._comparer)
    with group:
        prepared = [(k, streams[k].prepare(rig.frames(k)[0])) for k in range(3)]
        results = list(group._round(prepared))
    assert rig.backend.batch_sizes == [3]
    assert [result.stream for result in results] == [0, 1, 2]


def test_every_source_is_recognised_and_events_name_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 10), standing(2, 10), [[]] * 10)
    events = list(rig.recognizer.watch_many([rig.source(k) for k in range(3)]))
    said = {(e.source, e.subject) for e in events if e.kind is EventKind.IDENTIFIED}
    assert said == {("camera 0", "ann"), ("camera 1", "beth")}


def test_somebody_seen_by_two_cameras_arrives_and_departs_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 10), standing(1, 10))
    events = list(rig.recognizer.watch_many([rig.source(0), rig.source(1)]))
    assert kinds(events, EventKind.ARRIVED, EventKind.DEPARTED) == [
        ("arrived", "ann"),
        ("departed", "ann"),
    ]


def test_slow_camera_delays_no_other(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 30), standing(2, 30))
    release = threading.Event()

    class Stuck(FakeCamera):
        def __iter__(self) -> Iterator[Frame]:
            release.wait(20)
            yield from super().__iter__()

    stuck = Stuck(rig.frames(1), name="camera 1")
    with rig.recognizer.group([rig.source(0), stuck]) as group:
        seen = []
        for result in group:
            seen.append(result.stream)
            if len(seen) == 30:
                release.set()
        # All of the first camera came while the other had given nothing.
        assert seen[:30] == [0] * 30
        assert 1 in seen


def test_source_that_fails_ends_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 10), standing(2, 10))
    broken = FakeSource(rig.frames(1), name="camera 1", fail_after=2)
    with rig.recognizer.group([rig.source(0), broken]) as group:
        counts = [result.stream for result in group]
        assert counts.count(0) == 10
        assert counts.count(1) == 2
        assert list(group.failures) == ["camera 1"]


def test_group_whose_sources_all_fail_raises(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 5))
    broken = FakeSource(rig.frames(0), name="camera 0", fail_after=0)
    with pytest.raises(CameraError, match="stopped giving frames"):
        list(rig.recognizer.watch_many([broken]))
    assert broken.closed


def test_fault_of_the_program_in_a_source_is_not_swallowed(tmp_path: Path) -> None:
    class Faulty(FakeSource):
        def __iter__(self) -> Iterator[Frame]:
            raise ZeroDivisionError

    rig = Rig(tmp_path, standing(1, 5))
    faulty = Faulty([], name="camera 1")
    with pytest.raises(ZeroDivisionError):
        list(rig.recognizer.watch_many([rig.source(0), faulty]))


def test_group_that_is_closed_early_ends_its_threads(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 50), standing(2, 50))
    with rig.recognizer.group([rig.source(0), rig.source(1)]) as group:
        next(iter(group))
    deadline_s = time.monotonic() + 5.0
    while time.monotonic() < deadline_s:
        if not any(t.name.startswith("edgeface-source") for t in threading.enumerate()):
            break
        time.sleep(0.01)
    assert not any(t.name.startswith("edgeface-source") for t in threading.enumerate())


def test_group_of_nothing_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 1))
    with pytest.raises(InvalidInputError, match="sources"):
        rig.recognizer.group([])


def test_source_that_cannot_be_opened_leaves_none_open(tmp_path: Path) -> None:
    rig = Rig(tmp_path, standing(1, 1))
    good = rig.source(0)
    with pytest.raises(CameraError):
        rig.recognizer.group([good, tmp_path / "missing.mp4"])
    assert good.closed


def test_budget_is_earned_by_time_and_by_nothing_else() -> None:
    budget = ComparisonBudget(ComparisonOptions(per_second=10.0, burst=4))
    assert budget.take(10, 100.0) == 4
    assert budget.take(10, 100.0) == 0
    assert budget.take(10, 100.25) == 2
    # Another stream, or a clock that was set back.
    assert budget.take(10, 5.0) == 0
    assert budget.take(10, 100.3) == 1
    assert budget.take(10, 1000.0) == 4


def test_smaller_turned_and_unsure_faces_promise_less() -> None:
    def face(side: float, score: float, nose: float) -> FaceDetection:
        shares = [(0.3, 0.4), (0.7, 0.4), (nose, 0.6), (0.5, 0.8), (0.1, 0.5), (0.9, 0.5)]
        points = np.array(shares, np.float32) * np.float32(side)
        return FaceDetection(BoundingBox(0, 0, side, side), score, points)

    best = promise(face(200, 0.9, 0.5))
    assert best == pytest.approx(0.9)
    assert promise(face(40, 0.9, 0.5)) < best
    assert promise(face(200, 0.6, 0.5)) < best
    assert promise(face(200, 0.9, 0.2)) < best / 2
    assert promise(FaceDetection(BoundingBox(0, 0, 200, 200), 0.9)) == pytest.approx(0.9)


@pytest.mark.parametrize(
    "change",
    [{"per_second": 0.0}, {"burst": 0}, {"better": 0.5}, {"retry_s": -1.0}, {"urgent_s": np.nan}],
)
def test_impossible_comparison_options_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        ComparisonOptions(**change)  # type: ignore[arg-type]


def test_impossible_absence_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        VisitOptions(absence_s=float("nan"))


def test_frames_without_people_are_results_too(tmp_path: Path) -> None:
    results, events = Rig(tmp_path, [[]] * 5).run()
    assert [len(result.observations) for result in results] == [0] * 5
    assert events == []

"""Tracks through overlapping boxes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import InvalidInputError
from edgeface.tracking import Tracker, TrackerOptions
from edgeface.types import BoundingBox, FaceDetection


def face(left_px: float, top_px: float = 0.0, size_px: float = 100.0) -> FaceDetection:
    return FaceDetection(BoundingBox(left_px, top_px, size_px, size_px), 0.9)


def test_no_faces_are_no_tracks() -> None:
    tracker = Tracker()
    assert tracker.update([]) == []
    assert (tracker.active, tracker.lost, tracker.finish()) == ((), (), ())


def test_a_moving_face_keeps_its_track() -> None:
    tracker = Tracker()
    for step in range(20):
        assert tracker.update([face(20.0 * step), face(20.0 * step, 400.0)]) == [1, 2]
    assert tracker.lost == ()


def test_tracks_do_not_depend_on_the_order_of_faces() -> None:
    tracker = Tracker()
    assert tracker.update([face(0), face(500)]) == [1, 2]
    assert tracker.update([face(510), face(1000), face(10)]) == [2, 3, 1]


def test_the_best_overlap_wins() -> None:
    tracker = Tracker()
    assert tracker.update([face(0)]) == [1]
    assert tracker.update([face(30), face(5)]) == [2, 1]


def test_a_face_that_jumps_is_a_new_track() -> None:
    tracker = Tracker()
    assert tracker.update([face(0)]) == [1]
    assert tracker.update([face(60)]) == [2]
    assert tracker.active == (1, 2)


def test_a_track_bridges_missed_frames_and_ends_after_more() -> None:
    tracker = Tracker(TrackerOptions(max_missed_frames=2))
    tracker.update([face(0)])
    for _ in range(2):
        tracker.update([])
    assert tracker.update([face(0)]) == [1]
    for _ in range(2):
        tracker.update([])
        assert tracker.lost == ()
    tracker.update([])
    assert list(tracker.lost) == [1]
    assert tracker.update([face(0)]) == [2]
    assert list(tracker.lost) == []


def test_the_end_of_a_stream_ends_every_track() -> None:
    tracker = Tracker()
    tracker.update([face(0), face(500)])
    assert tracker.finish() == tracker.lost == (1, 2)
    assert tracker.active == ()
    assert tracker.update([face(0)]) == [3]


@pytest.mark.parametrize(("min_iou", "missed"), [(0.0, 1), (1.1, 1), (float("nan"), 1), (0.3, -1)])
def test_impossible_options_are_refused(min_iou: float, missed: int) -> None:
    with pytest.raises(InvalidInputError):
        TrackerOptions(min_iou=min_iou, max_missed_frames=missed)


boxes = st.builds(
    face, st.integers(0, 6).map(lambda n: 40.0 * n), st.just(0.0), st.sampled_from([60.0, 100.0])
)


@given(st.lists(st.lists(boxes, max_size=5), max_size=12))
def test_a_track_is_one_face_at_a_time_and_ends_once(script: list[list[FaceDetection]]) -> None:
    tracker, ended, seen = Tracker(TrackerOptions(max_missed_frames=1)), set[int](), set[int]()
    for detections in script:
        ids = tracker.update(detections)
        assert len(ids) == len(set(ids)) == len(detections)
        assert not ended & set(tracker.lost)
        ended |= set(tracker.lost)
        assert not ended & set(ids)
        assert set(ids) <= set(tracker.active)
        seen |= set(ids)
    ended |= set(tracker.finish())
    assert ended == seen == set(range(1, len(seen) + 1))

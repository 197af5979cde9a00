"""Tracks through overlapping boxes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import InvalidInputError
from edgeface.tracking import MotionOptions, Tracker, TrackerOptions
from edgeface.tracking.assignment import best_pairs
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


@settings(deadline=None)
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


def positions(script: list[list[float]], tracker: Tracker, *, fps: float = 10.0) -> list[list[int]]:
    """The tracks of faces at the given x, 100 px wide, in frames 1 / fps apart."""
    ids = []
    for step, places in enumerate(script):
        found = tracker.follow([face(x) for x in places], time_s=step / fps, looked=tracker.active)
        ids.append([number for number in found if number is not None])
    return ids


def test_a_face_that_is_hidden_for_a_moment_keeps_its_track() -> None:
    walk = [[40.0 * k] for k in range(8)]
    hidden: list[list[float]] = [[]] * 6
    later = [[40.0 * k] for k in range(14, 18)]
    assert positions(walk + hidden + later, Tracker()) == [[1]] * 8 + [[]] * 6 + [[1]] * 4


def test_faces_that_cross_keep_their_tracks() -> None:
    # The one behind is not seen while they overlap by more than half.
    script = [[25.0 * k, 500.0 - 25.0 * k] for k in range(21)]
    seen = [places if abs(places[0] - places[1]) > 50 else places[:1] for places in script]
    ids = positions(seen, Tracker())
    assert ids[0] == ids[-1] == [1, 2]
    assert {number for frame in ids for number in frame} == {1, 2}


def test_tracks_after_a_crossing_are_doubtful_for_a_moment() -> None:
    tracker = Tracker()
    doubtful = []
    for k in range(21):
        places = [25.0 * k, 500.0 - 25.0 * k]
        tracker.follow([face(x) for x in places], time_s=k / 10, looked=tracker.active)
        doubtful.append(set(tracker.doubtful))
    assert doubtful[0] == doubtful[5] == set()
    assert doubtful[10] == {1, 2}
    assert doubtful[-1] == set()


def test_a_track_that_was_not_searched_for_is_not_missed() -> None:
    tracker = Tracker(TrackerOptions(max_missed_s=0.5))
    tracker.follow([face(0)], time_s=0.0, looked=())
    for step in range(1, 15):
        tracker.follow([], time_s=step / 10, looked=())
        assert tracker.active == (1,)
    tracker.follow([], time_s=1.5, looked={1})
    assert list(tracker.lost) == [1]


def test_a_weak_detection_continues_a_track_and_begins_none() -> None:
    tracker = Tracker()
    weak = FaceDetection(face(0).box, 0.35)
    assert tracker.follow([weak], time_s=0.0, looked=()) == [None]
    assert tracker.follow([face(0)], time_s=0.1, looked=()) == [1]
    assert tracker.follow([weak], time_s=0.2, looked={1}) == [1]


def test_weak_detections_alone_do_not_keep_a_track() -> None:
    tracker = Tracker(TrackerOptions(max_unsure_s=1.0))
    tracker.follow([face(0)], time_s=0.0, looked=())
    weak = FaceDetection(face(0).box, 0.35)
    for step in range(1, 11):
        tracker.follow([weak], time_s=step / 10, looked={1})
        assert tracker.active == (1,)
    tracker.follow([weak], time_s=1.1, looked={1})
    assert tracker.lost == (1,)


def test_swapped_tracks_go_on_with_each_others_faces() -> None:
    tracker = Tracker()
    assert positions([[0.0, 500.0]] * 3, tracker) == [[1, 2]] * 3
    tracker.swap(1, 2)
    assert tracker.follow([face(0), face(500)], time_s=0.3, looked={1, 2}) == [2, 1]
    with pytest.raises(InvalidInputError):
        tracker.swap(1, 9)


def test_a_clock_that_is_set_back_moves_nothing() -> None:
    tracker = Tracker()
    positions([[20.0 * k] for k in range(5)], tracker)
    assert tracker.follow([face(90)], time_s=-100.0, looked={1}) == [1]
    assert tracker.follow([face(100)], time_s=0.5, looked={1}) == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"min_iou_after_miss": 0.0},
        {"max_missed_s": -1.0},
        {"max_unsure_s": float("inf")},
        {"min_new_score": 2.0},
    ],
)
def test_impossible_times_and_scores_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        TrackerOptions(**change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change", [{"place_gain": 0.0}, {"speed_gain": 1.5}, {"speed_life_s": 0.0}]
)
def test_impossible_motion_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        MotionOptions(**change)


gain_tables = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.floats(0.01, 1.0), max_size=10
)


@settings(deadline=None)
@given(gain_tables)
def test_pairs_have_the_largest_sum_of_gains(gains: dict[tuple[int, int], float]) -> None:
    best = 0.0
    for count in range(5):
        for chosen in itertools.combinations(gains, count):
            rows, columns = {row for row, _ in chosen}, {column for _, column in chosen}
            if len(rows) == len(columns) == count:
                best = max(best, sum(gains[pair] for pair in chosen))
    joined = best_pairs(gains)
    assert len(set(joined.values())) == len(joined)
    assert sum(gains[pair] for pair in joined.items()) == pytest.approx(best)

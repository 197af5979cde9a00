"""Where a stream is searched: sweeps, regions around tracks, one detection for each face."""

from __future__ import annotations

import numpy as np
import pytest

from edgeface.detection.regions import REGIONS_PER_RUN, find_in_regions
from edgeface.detection.scanning import EveryFrameScanner, ScanOptions, SpreadScanner
from edgeface.detection.suppression import overlap_of_smaller, same_face, unique_faces
from edgeface.detection.sweep import Sweep
from edgeface.errors import InvalidInputError
from edgeface.testing import FakeDetector
from edgeface.types import BoundingBox, FaceDetection, Frame, ImageArray, Size

pytest.importorskip("cv2")

WIDE, SMALL = Size(1920, 1080), Size(640, 480)


class SquareDetector:
    """Finds bright squares, as a detector finds faces: in whatever part it is given."""

    def __init__(self, score: float = 0.9, least_px: int = 4) -> None:
        self.sizes: list[Size] = []
        self._score, self._least_px = score, least_px

    def detect(self, frame: Frame) -> list[FaceDetection]:
        import cv2

        self.sizes.append(frame.size)
        mask = (frame.pixels[..., 0] > 200).astype(np.uint8)
        count, _, boxes, _ = cv2.connectedComponentsWithStats(mask)
        return [
            FaceDetection(BoundingBox(*(float(v) for v in boxes[k][:4])), self._score)
            for k in range(1, count)
            if boxes[k][2] >= self._least_px
        ]

    def close(self) -> None:
        pass


def picture(size: Size, *squares: tuple[int, int, int]) -> ImageArray:
    """A dark picture with bright squares at (left, top, side)."""
    pixels = np.full((size.height_px, size.width_px, 3), 30, np.uint8)
    for left, top, side in squares:
        pixels[top : top + side, left : left + side] = 255
    return pixels


def face(left: float, top: float, side: float, score: float = 0.9) -> FaceDetection:
    return FaceDetection(BoundingBox(left, top, side, side), score)


def scanner(
    options: ScanOptions | None = None, **detectors: SquareDetector
) -> tuple[SpreadScanner, dict[str, SquareDetector]]:
    used = {name: SquareDetector() for name in ("short", "full", "regions")} | detectors
    return SpreadScanner(used["short"], used["full"], used["regions"], options), used


def close_to(found: FaceDetection, left: float, top: float, side: float) -> bool:
    return found.box.iou(BoundingBox(left, top, side, side)) > 0.8


@pytest.mark.parametrize(
    ("one", "other", "cover", "same"),
    [
        ((0, 0, 10), (20, 0, 10), 0.0, False),
        ((0, 0, 10), (10, 0, 10), 0.0, False),
        ((0, 0, 10), (0, 0, 10), 1.0, True),
        ((0, 0, 10), (5, 0, 10), 0.5, False),
        ((0, 0, 10), (3, 0, 10), 0.7, True),
        ((0, 0, 100), (10, 10, 20), 1.0, True),
    ],
)
def test_boxes_of_one_face_overlap_or_lie_in_one_another(
    one: tuple[int, int, int], other: tuple[int, int, int], cover: float, same: bool
) -> None:
    first, second = face(*one).box, face(*other).box
    assert overlap_of_smaller(first, second) == pytest.approx(cover)
    assert overlap_of_smaller(second, first) == pytest.approx(cover)
    assert same_face(first, second) is same


def test_of_several_detections_of_a_face_the_surest_stays() -> None:
    assert unique_faces([]) == []
    found = unique_faces([face(0, 0, 10, 0.6), face(1, 0, 10, 0.9), face(50, 0, 10, 0.5)])
    assert [one.score for one in found] == [0.9, 0.5]


def test_no_region_costs_no_run() -> None:
    detector = SquareDetector()
    assert find_in_regions(detector, Frame(picture(SMALL)), []) == []
    assert detector.sizes == []


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9])
def test_faces_in_regions_come_back_where_they_are(count: int) -> None:
    places = [(40 + 190 * (k % 3), 30 + 150 * (k // 3), 48) for k in range(count)]
    detector = SquareDetector()
    # Expected a little beside where they are.
    expected = [BoundingBox(x + 6, y - 5, side, side) for x, y, side in places]
    found = find_in_regions(detector, Frame(picture(SMALL, *places)), expected)
    assert len(detector.sizes) == -(-count // REGIONS_PER_RUN)
    assert set(detector.sizes) == {Size(128, 128)}
    for place in places:
        assert any(close_to(one, *place) for one in found)


def test_region_at_the_edge_of_the_frame_and_beyond_is_searched() -> None:
    detector = SquareDetector()
    frame = Frame(picture(SMALL, (0, 0, 40)))
    boxes = [BoundingBox(-15, -10, 40, 40), BoundingBox(5000, 5000, 40, 40)]
    found = find_in_regions(detector, frame, boxes)
    assert [close_to(one, 0, 0, 40) for one in found] == [True]


def test_small_frame_is_searched_whole_by_both_ranges_at_first() -> None:
    scan, used = scanner()
    found = scan.scan(Frame(picture(SMALL, (100, 80, 60))), {})
    assert [close_to(one, 100, 80, 60) for one in found.detections] == [True]
    assert used["short"].sizes == used["full"].sizes == [SMALL]
    assert used["regions"].sizes == []


def test_wide_frame_is_cut_into_tiles_that_cover_it() -> None:
    scan, used = scanner()
    places = [(20, 30, 50), (900, 520, 50), (1850, 1000, 50), (600, 560, 60), (1200, 20, 40)]
    found = scan.scan(Frame(picture(WIDE, *places)), {}).detections
    assert len(found) == len(places)
    assert all(any(close_to(one, *place) for one in found) for place in places)
    assert len(used["full"].sizes) == 6
    assert all(max(s.width_px, s.height_px) <= 860 for s in used["full"].sizes)


def test_sweep_of_a_changing_view_is_spread_over_frames() -> None:
    rng = np.random.default_rng(0)
    sweep = Sweep(WIDE, sweep_s=0.28, max_tile_px=860)
    noise = rng.integers(0, 256, (8, WIDE.height_px, WIDE.width_px, 3), dtype=np.uint8)
    frames = [Frame(noise[k % 8], k / 25) for k in range(50)]
    cells = [list(sweep.due(frame)) for frame in frames]
    assert len(cells[0]) == 7
    assert all(len(some) <= 2 for some in cells[1:])
    # After the first frame nothing is due for 0.2 s; then every part in turns.
    assert 44 <= sum(len(some) for some in cells[1:]) <= 49
    assert len({(cell.box, cell.full_range) for some in cells[6:14] for cell in some}) == 7


def test_still_view_is_searched_less_often_and_never_left_alone() -> None:
    sweep = Sweep(SMALL, sweep_s=0.1, max_tile_px=860)
    still = picture(SMALL)
    counts = [len(list(sweep.due(Frame(still, k / 25)))) for k in range(76)]
    assert counts[0] == 2
    # Three seconds: six visits of both cells, every half second.
    assert 10 <= sum(counts[1:]) <= 12


def test_something_that_moves_in_a_still_view_is_searched_for_at_once() -> None:
    sweep = Sweep(SMALL, sweep_s=0.1, max_tile_px=860)
    for k in range(10):
        list(sweep.due(Frame(picture(SMALL), k / 25)))
    entered = picture(SMALL, (300, 200, 40))
    assert any(list(sweep.due(Frame(entered, k / 25))) for k in range(10, 13))


def test_clock_that_is_set_back_does_not_stop_the_search() -> None:
    sweep = Sweep(SMALL, sweep_s=0.1, max_tile_px=860)
    list(sweep.due(Frame(picture(SMALL), 1000.0)))
    times = [k / 25 for k in range(20)]
    assert sum(len(list(sweep.due(Frame(picture(SMALL), t)))) for t in times) >= 2


def test_another_size_of_frame_starts_the_sweep_anew() -> None:
    scan, used = scanner()
    scan.scan(Frame(picture(SMALL)), {})
    scan.scan(Frame(picture(Size(320, 240)), 0.01), {})
    assert used["short"].sizes == [SMALL, Size(320, 240)]


def test_followed_face_is_looked_for_between_sweeps() -> None:
    scan, used = scanner(ScanOptions(sweep_s=10.0, follow_s=0.06))
    where = {7: BoundingBox(100, 80, 60, 60)}
    looked = []
    for k in range(6):
        found = scan.scan(Frame(picture(SMALL, (100 + k, 80, 60)), k / 25), where)
        looked.append(found.looked)
        assert len(found.detections) == (1 if found.looked else 0)
    # The first frame is searched whole; from then on every other frame at 25 a second.
    assert [bool(some) for some in looked] == [True, False, True, False, True, False]
    assert len(used["regions"].sizes) == 2


def test_face_that_the_sweep_found_is_not_looked_for_twice() -> None:
    scan, used = scanner()
    found = scan.scan(Frame(picture(SMALL, (100, 80, 100))), {1: BoundingBox(100, 80, 100, 100)})
    assert found.looked == {1}
    assert used["regions"].sizes == []


def test_hidden_face_was_looked_for() -> None:
    scan, _ = scanner()
    found = scan.scan(Frame(picture(SMALL)), {1: BoundingBox(100, 80, 60, 60)})
    assert found.looked == {1}
    assert found.detections == ()


def test_every_frame_scanner_searches_every_frame_whole() -> None:
    detector = FakeDetector([[face(0, 0, 50)], []])
    scan = EveryFrameScanner(detector)
    first = scan.scan(Frame(picture(SMALL)), {3: BoundingBox(0, 0, 5, 5)})
    assert len(first.detections) == 1
    assert first.looked == {3}
    assert scan.scan(Frame(picture(SMALL)), {}).detections == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"sweep_s": -1.0},
        {"follow_s": float("nan")},
        {"max_tile_px": 10},
        {"min_followed_score": 0.0},
        {"min_followed_score": 0.6},
        {"min_score": 1.1},
    ],
)
def test_impossible_options_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        ScanOptions(**changes)  # type: ignore[arg-type]

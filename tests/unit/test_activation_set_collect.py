from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.camera import AnnotatedVideoWriter
from edgeface.errors import ActivationSetError, CameraError, InvalidInputError
from edgeface.testing import FakeCamera, FakeDetector, FakeLandmarkFinder, FakeSource
from edgeface.types import BoundingBox, FaceDetection, FaceLandmarks, Frame, ImageArray
from edgeface_calibration.activation_set_collect import (
    Collected,
    CollectOptions,
    collect_activation_set,
)
from edgeface_calibration.activation_set_limits import ActivationSetLimits
from edgeface_calibration.activation_set_sources import take_turns
from tests.unit.test_activation_set import face

cv2 = pytest.importorskip("cv2")

WHOLE = FaceDetection(BoundingBox(0, 0, 112, 112), 0.9)


def limits(maximum: int = 1000, minimum: int = 1) -> ActivationSetLimits:
    return ActivationSetLimits(minimum=minimum, recommended=minimum, maximum=maximum)


def collect(folder: Path, *sources: Any, **chosen: Any) -> Collected:
    """Collect with a detector that finds one face in every picture, or what ``faces`` says."""
    faces = chosen.pop("faces", [[WHOLE]])
    finder = chosen.pop("finder", FakeLandmarkFinder())
    tell = chosen.pop("tell", None)
    chosen.setdefault("limits", limits())
    return collect_activation_set(
        sources,
        folder / "mine.activations",
        FakeDetector(faces, repeat=True),
        finder,
        options=CollectOptions(**chosen),
        tell=tell,
    )


def stills(*seeds: int) -> FakeSource:
    return FakeSource([face(seed) for seed in seeds], fps=None)


def kinds(done: Collected) -> Counter[str]:
    return Counter(record.source_kind.value for record in done.stored.manifest.crops)


def write(path: Path, pixels: ImageArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1])


# --- sources


def test_pictures_of_a_folder_and_its_sub_folders_are_collected(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write(photos / "1.png", face(1))
    write(photos / "a" / "b" / "2.png", face(2))
    (photos / "notes.txt").write_text("no picture")
    done = collect(tmp_path, photos)
    assert len(done.stored) == done.looked_at == 2
    assert kinds(done) == {"picture": 2}
    assert done.notes == ()


def test_pictures_videos_and_cameras_are_told_apart(tmp_path: Path) -> None:
    video, camera = FakeSource([face(2)]), FakeCamera([face(3)])
    done = collect(tmp_path, stills(1), video, camera)
    assert kinds(done) == {"picture": 1, "video": 1, "camera": 1}
    assert video.closed
    assert camera.closed


def test_videos_in_a_folder_are_collected_too(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name, seed in (("a.mp4", 1), ("b.mp4", 5)):
        with AnnotatedVideoWriter(clips / name, fps=2.0) as writer:
            for k in range(3):
                writer.write(face(seed + k))
    done = collect(tmp_path, clips)
    assert kinds(done) == {"video": 6}


def test_sources_take_turns_so_that_the_first_does_not_fill_the_set(tmp_path: Path) -> None:
    video = FakeSource([face(k) for k in range(20)], fps=1.0)
    done = collect(tmp_path, stills(*range(20, 40)), video, limits=limits(8))
    assert kinds(done) == {"picture": 4, "video": 4}


def test_cameras_come_after_what_is_recorded(tmp_path: Path) -> None:
    camera = FakeCamera([face(k) for k in range(20)], fps=1.0)
    done = collect(tmp_path, camera, stills(*range(20, 25)), limits=limits(8))
    assert kinds(done) == {"picture": 5, "camera": 3}


def test_too_many_pictures_give_an_even_sample(tmp_path: Path) -> None:
    for k in range(60):
        write(tmp_path / "photos" / f"{k:02d}.png", face(k))
    done = collect(tmp_path, tmp_path / "photos", limits=limits(12))
    known = {face(k).tobytes(): k for k in range(60)}
    nearest = [
        min(known, key=lambda raw: int(np.abs(np.frombuffer(raw, np.uint8) - crop.ravel()).sum()))
        for crop in done.stored.crops().astype(np.int16)
    ]
    gaps = np.diff([0, *sorted(known[raw] for raw in nearest), 60])
    assert len(done.stored) == 12
    assert gaps.max() <= 12


def test_at_most_four_iterators_are_open_at_once() -> None:
    opened: list[int] = []
    ended: list[int] = []

    def opener(k: int) -> Any:
        def run() -> Iterator[int]:
            opened.append(k)
            assert len(opened) - len(ended) <= 4
            yield k
            yield k
            ended.append(k)

        return run

    given = list(take_turns([opener(k) for k in range(10)]))
    assert given[:8] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert Counter(given) == dict.fromkeys(range(10), 2)
    assert list(take_turns([])) == []


@pytest.mark.parametrize("name", ["none", "empty"])
def test_a_source_that_is_not_there_is_the_users_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CameraError, match=r"no source at|no picture and no video"):
        collect(tmp_path, stills(1), tmp_path / name)


def test_a_damaged_picture_is_counted_and_the_others_are_kept(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write(photos / "1.png", face(1))
    (photos / "2.png").write_bytes((photos / "1.png").read_bytes()[:200])
    done = collect(tmp_path, photos)
    assert (len(done.stored), done.refused) == (1, {"unusable": 1})
    done = collect(tmp_path, photos / "2.png", photos / "1.png", overwrite=True)
    assert (len(done.stored), done.refused) == (1, {"unusable": 1})
    assert "damaged" in done.notes[0]


def test_a_camera_that_fails_keeps_what_it_gave(tmp_path: Path) -> None:
    camera = FakeCamera([face(k) for k in range(9)], fps=1.0, fail_after=3)
    done = collect(tmp_path, camera)
    assert len(done.stored) == 3
    assert "stopped giving frames" in done.notes[0]


class InterruptedCamera(FakeCamera):
    def __iter__(self) -> Iterator[Frame]:
        yield from super().__iter__()
        raise KeyboardInterrupt


def test_ctrl_c_ends_a_camera_and_keeps_what_it_gave(tmp_path: Path) -> None:
    camera = InterruptedCamera([face(k) for k in range(4)], fps=1.0)
    done = collect(tmp_path, camera)
    assert done.stopped
    assert len(done.stored) == 4
    assert camera.closed


def test_a_camera_ends_when_there_are_faces_enough(tmp_path: Path) -> None:
    camera = InterruptedCamera([face(k) for k in range(9)], fps=1.0)
    done = collect(tmp_path, camera, limits=limits(5))
    assert len(done.stored) == 5
    assert not done.stopped
    assert camera.closed


# --- what is taken


def test_near_duplicates_are_left_out_across_sources(tmp_path: Path) -> None:
    again = FakeSource([face(2) + 3, face(4)], fps=1.0)
    done = collect(tmp_path, stills(1, 2, 1), again)
    assert len(done.stored) == 3
    assert done.refused == {"duplicate": 2}


@pytest.mark.parametrize(("every_s", "wanted"), [(0.5, 6), (1.0, 3), (0.0, 30), (10.0, 1)])
def test_a_track_gives_one_crop_at_a_time(tmp_path: Path, every_s: float, wanted: int) -> None:
    video = FakeSource([face(k) for k in range(30)], fps=10.0)
    done = collect(tmp_path, video, every_s=every_s)
    assert len(done.stored) == wanted
    assert done.refused == {}


def test_a_second_person_is_taken_when_they_come(tmp_path: Path) -> None:
    right = FaceDetection(BoundingBox(150, 0, 112, 112), 0.9)
    frames = [np.hstack([face(k), face(100 + k), face(200 + k)]) for k in range(5)]
    script = [[WHOLE], [WHOLE], [WHOLE, right], [WHOLE, right], [WHOLE, right]]
    done = collect(tmp_path, FakeSource(frames, fps=5.0), faces=script, every_s=10.0)
    assert len(done.stored) == 2


def test_frames_that_follow_each_other_closely_are_not_looked_at(tmp_path: Path) -> None:
    video = FakeSource([face(k) for k in range(100)], fps=100.0)
    assert collect(tmp_path, video).looked_at == 10


def test_all_faces_of_a_picture_are_taken(tmp_path: Path) -> None:
    right = FaceDetection(BoundingBox(150, 0, 112, 112), 0.9)
    picture = FakeSource([np.hstack([face(1), face(2), face(3)])], fps=None)
    assert len(collect(tmp_path, picture, faces=[[WHOLE, right]]).stored) == 2


def test_more_faces_than_wanted_are_not_kept(tmp_path: Path) -> None:
    right = FaceDetection(BoundingBox(150, 0, 112, 112), 0.9)
    picture = FakeSource([np.hstack([face(1), face(2), face(3)])], fps=None)
    done = collect(tmp_path, picture, faces=[[WHOLE, right]], limits=limits(1))
    assert len(done.stored) == 1


def turned(frame: Frame, detection: FaceDetection) -> FaceLandmarks:
    points = FakeLandmarkFinder().find(frame, detection)
    assert points is not None
    return FaceLandmarks(points.points_px, yaw_deg=80.0)


def on_a_line(frame: Frame, detection: FaceDetection) -> FaceLandmarks:
    return FaceLandmarks(np.array([[20, 20 + k] for k in range(5)], np.float32))


@pytest.mark.parametrize(
    ("finder", "reason"),
    [
        (FakeLandmarkFinder(turned), "turned_away"),
        (FakeLandmarkFinder(on_a_line), "landmarks_implausible"),
        (FakeLandmarkFinder(lambda frame, found: None), "landmarks_not_found"),
    ],
)
def test_what_the_runtime_would_not_compare_is_left_out_with_the_reason(
    tmp_path: Path, finder: FakeLandmarkFinder, reason: str
) -> None:
    with pytest.raises(ActivationSetError, match=f"2 {reason}"):
        collect(tmp_path, stills(1, 2), finder=finder)


def test_pictures_without_a_face_are_counted_and_frames_of_a_video_are_not(tmp_path: Path) -> None:
    script: list[list[FaceDetection]] = [[], [WHOLE]]
    done = collect(tmp_path, stills(1, 2), faces=script)
    assert done.refused == {"no_face": 1}
    done = collect(tmp_path, FakeSource([face(1), face(2)], fps=1.0), faces=script, overwrite=True)
    assert done.refused == {}


def test_measures_are_those_of_the_runtime(tmp_path: Path) -> None:
    stored = collect(tmp_path, stills(1)).stored
    measures = stored.manifest.crops[0].measures
    assert measures.eye_distance_px == pytest.approx(0.32 * 112, abs=0.1)
    assert 0.2 < measures.luminance < 0.6
    assert measures.sharpness > 0.1
    assert measures.yaw_deg == 0


def test_the_narrower_template_gives_narrower_crops(tmp_path: Path) -> None:
    stored = collect(tmp_path, stills(1), template="arcface-112x96").stored
    assert stored.crops().shape == (1, 112, 96, 3)


# --- what is refused


def test_too_few_faces_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(ActivationSetError) as caught:
        collect(tmp_path, stills(1, 2, 1), limits=limits(minimum=10))
    assert "gives 2 faces (refused: 1 duplicate), wanted at least 10" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_exchanged_colours_write_nothing(tmp_path: Path) -> None:
    tint = np.array([0.3, 0.6, 1.0])
    blue = [(face(k).mean(2, keepdims=True) * tint).astype(np.uint8) for k in range(60)]
    with pytest.raises(ActivationSetError, match="Red and blue are exchanged"):
        collect(tmp_path, FakeSource(blue, fps=None))
    assert list(tmp_path.iterdir()) == []
    right = [picture[..., ::-1] for picture in blue]
    assert len(collect(tmp_path, FakeSource(right, fps=None)).stored) == 60


@pytest.mark.parametrize("name", ["mine", "taken.activations"])
def test_a_target_that_cannot_be_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken.activations").mkdir()
    detector = FakeDetector([[WHOLE]], repeat=True)
    with pytest.raises(InvalidInputError):
        collect_activation_set([stills(1)], tmp_path / name, detector, FakeLandmarkFinder())
    assert detector.frames == []


@pytest.mark.parametrize(
    "chosen", [{"every_s": -1.0}, {"every_s": float("nan")}, {"limits": limits(10_001)}]
)
def test_options_out_of_range_are_refused(chosen: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        CollectOptions(**chosen)


def test_each_look_is_told(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    collect(tmp_path, stills(1, 1, 2), tell=lambda kept, looked_at: told.append((kept, looked_at)))
    assert told == [(1, 1), (1, 2), (2, 3)]

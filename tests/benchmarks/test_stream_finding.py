"""Which faces of a crowd are found, beside SCRFD on every frame; and none where there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeface.overlay import contact_sheet
from edgeface.types import BoundingBox, FaceDetection, ImageArray, Outcome
from tests.benchmarks.peer_pipeline import Scrfd
from tests.benchmarks.streams import Clip, cpu_s, open_recognizer
from tests.benchmarks.test_stream_against_peers import bundle  # noqa: F401

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytestmark = [pytest.mark.slow, pytest.mark.integration]

SAME = 0.4
SCRFD = "scrfd-det_500m.onnx"
WITHOUT_FACES = ("Linzaer__test2.mp4",)


@dataclass(frozen=True)
class Seen:
    """A face in a frame, and who it is taken to be by whoever found it."""

    frame: int
    box: BoundingBox
    track: int
    score: float


def linked(found: Sequence[Sequence[FaceDetection]]) -> list[Seen]:
    """A detector's faces, joined from frame to frame by overlap over gaps of up to 15 frames."""
    last: dict[int, tuple[int, BoundingBox]] = {}
    seen = []
    for frame, faces in enumerate(found):
        taken: set[int] = set()
        for face in sorted(faces, key=lambda one: -one.score):
            overlaps = {
                track: box.iou(face.box)
                for track, (then, box) in last.items()
                if track not in taken and frame - then <= 15
            }
            best = max(overlaps, key=lambda track: overlaps[track], default=0)
            track = best if best and overlaps[best] >= 0.3 else len(last) + 1
            taken.add(track)
            last[track] = (frame, face.box)
            seen.append(Seen(frame, face.box, track, face.score))
    return seen


def by_frame(seen: Sequence[Seen]) -> Mapping[int, list[Seen]]:
    frames: dict[int, list[Seen]] = defaultdict(list)
    for entry in seen:
        frames[entry.frame].append(entry)
    return frames


def matched_tracks(seen: Sequence[Seen], others: Sequence[Seen]) -> set[tuple[int, int]]:
    """(second, track) of ``seen`` for which ``others`` have a face at the same place once."""
    there = by_frame(others)
    return {
        (entry.frame // 25, entry.track)
        for entry in seen
        if any(entry.box.iou(other.box) >= SAME for other in there[entry.frame])
    }


def test_distinct_faces_of_a_crowd_in_each_second(
    bundle: Path,  # noqa: F811
    test_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = Clip(test_data / "data" / "video" / "timesler__video.mp4", limit=100)
    scrfd = Scrfd(test_data / "models" / "peers" / SCRFD)
    theirs, their_s, ours, our_s, stages = [], 0.0, list[Seen](), 0.0, dict[str, float]()
    with open_recognizer(bundle) as recognizer:
        stream = recognizer.stream(clip.source())
        for frame in clip.frames():
            started = cpu_s()
            theirs.append(scrfd.detect(frame))
            their_s, started = their_s + cpu_s() - started, cpu_s()
            result = stream.process(frame)
            our_s += cpu_s() - started
            for stage, ms in result.times_ms.items():
                stages[stage] = stages.get(stage, 0.0) + ms
            ours += [
                Seen(frame.index, face.detection.box, face.track_id or 0, face.detection.score)
                for face in result.observations
            ]
    wanted = linked(theirs)
    total = {(entry.frame // 25, entry.track) for entry in wanted}
    found = matched_tracks(wanted, ours)
    own = {(entry.frame // 25, entry.track) for entry in ours}
    extra = own - matched_tracks(ours, wanted)
    sheet = write_sheet(tmp_path / "extra.png", clip.pixels, ours, extra)
    finding_s = our_s * stages["detect"] / sum(stages.values())
    with capsys.disabled():
        print("\n1080p crowd, 100 frames, distinct faces summed over four seconds")  # noqa: T201
        print(f"  SCRFD {len(total)}, of these edgeface {len(found)}")  # noqa: T201
        print(f"  edgeface {len(own)}, of these not SCRFD's {len(extra)}: {sheet}")  # noqa: T201
        print(  # noqa: T201
            f"  CPU ms a frame: SCRFD {their_s * 10:.1f}, edgeface finding about "
            f"{finding_s * 10:.1f}, edgeface everything {our_s * 10:.1f}"
        )
    assert len(found) >= 0.9 * len(total)


def write_sheet(
    path: Path, pictures: Sequence[ImageArray], seen: Sequence[Seen], extra: set[tuple[int, int]]
) -> Path | None:
    """Write a picture of the faces that only we found: people judge whether they are any."""
    import cv2

    crops, titles = [], []
    for second, track in sorted(extra):
        entries = [e for e in seen if e.track == track and e.frame // 25 == second]
        entry = max(entries, key=lambda one: one.score)
        box, picture = entry.box, pictures[entry.frame]
        pad = 0.4 * box.width_px
        rows = slice(max(0, int(box.top_px - pad)), max(1, int(box.bottom_px + pad)))
        columns = slice(max(0, int(box.left_px - pad)), max(1, int(box.right_px + pad)))
        crops.append(np.ascontiguousarray(picture[rows, columns]))
        titles.append(f"{entry.frame} #{track} {entry.score:.2f} x{len(entries)}")
    if not crops:
        return None
    sheet = contact_sheet(crops, titles, 8)
    cv2.imwrite(str(path), np.ascontiguousarray(sheet[..., ::-1]))
    return path


@pytest.mark.parametrize("clip", ["Linzaer__test2.mp4", "timesler__video.mp4"])
def test_nobody_is_named_in_a_clip_of_strangers_or_without_faces(
    clip: str,
    bundle: Path,  # noqa: F811
    test_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recording = Clip(test_data / "data" / "video" / clip)
    tracks, compared, named, shown, peers = set(), 0, 0, 0, 0
    peer = Scrfd(test_data / "models" / "peers" / SCRFD)
    with open_recognizer(bundle) as recognizer:
        recognizer.enrol("somebody", [test_data / "data" / "photo" / "ageitgey__obama.jpg"])
        stream = recognizer.stream(recording.source())
        for frame in recording.frames():
            peers += sum(face.score >= 0.5 for face in peer.detect(frame))
            for face in stream.process(frame).observations:
                shown += 1
                tracks.add(face.track_id)
                if not face.is_carried and face.result.outcome is not Outcome.REJECTED:
                    compared += 1
                    named += face.result.outcome is Outcome.KNOWN
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{clip}: {len(tracks)} tracks, {compared} compared faces, {named} named; faces "
            f"shown in all frames {shown}, SCRFD's at 0.5 {peers}"
        )
    assert named == 0
    if clip in WITHOUT_FACES:
        assert shown <= peers

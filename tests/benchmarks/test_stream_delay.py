"""How soon a person is named, and whether several cameras at once fall behind."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edgeface.types import EventKind, Frame, ImageArray, Outcome
from tests.benchmarks.streams import Clip, PacedCamera, cpu_s, open_recognizer
from tests.benchmarks.test_stream_against_peers import bundle  # noqa: F401

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
pytest.importorskip("mediapipe")
pytestmark = [pytest.mark.slow, pytest.mark.integration]

VIDEO = Path("data") / "video"


def nodder(test_data: Path) -> Clip:
    """Its first second: he looks into the camera."""
    return Clip(test_data / VIDEO / "sathya-pramodh__slownod.mp4", limit=30)


@pytest.mark.parametrize("fps", [10.0, 30.0])
@pytest.mark.parametrize("wide", [False, True])
def test_time_from_a_good_face_to_its_name(
    fps: float,
    wide: bool,
    bundle: Path,  # noqa: F811
    test_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In time of the video: how long computing takes is the other benchmarks' matter."""
    import cv2

    person = nodder(test_data).pixels
    room = Clip(test_data / VIDEO / "Linzaer__test2.mp4", limit=1).pixels[0]
    size = (1920, 1080) if wide else (852, 480)
    delays = []
    for trial in range(6):
        rng = np.random.default_rng(trial)
        empty = cv2.resize(room, size)
        small = [cv2.resize(one, (520, 293)) for one in person] if wide else person
        left = int(rng.integers(0, size[0] - small[0].shape[1] + 1))
        top = int(rng.integers(0, size[1] - small[0].shape[0] + 1))
        before = round((1.0 + rng.uniform(0, 0.5)) * fps)
        with open_recognizer(bundle) as recognizer:
            recognizer.enrol("nodder", [person[2]])
            stream = recognizer.stream(PacedCamera(person, name="test", fps=fps, seconds=1))
            named_s = None
            for k in range(before + round(1.5 * fps)):
                pixels = empty
                if k >= before:
                    pixels = pasted(empty, small[(k - before) % 15], left, top)
                result = stream.process(Frame(pixels, k / fps, k, "test"))
                for event in result.events:
                    if event.kind is EventKind.IDENTIFIED and event.outcome is Outcome.KNOWN:
                        named_s = named_s or (k - before) / fps
        delays.append(named_s)
    with capsys.disabled():
        print(f"\n{size[0]}x{size[1]} at {fps:.0f} fps: named after {delays} s")  # noqa: T201
    assert all(delay is not None and delay <= 0.5 for delay in delays)


def pasted(picture: ImageArray, part: ImageArray, left: int, top: int) -> ImageArray:
    whole = picture.copy()
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return whole


def test_four_cameras_at_ten_frames_a_second_do_not_fall_behind(
    bundle: Path,  # noqa: F811
    test_data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import cv2

    clips = ["sathya-pramodh__slownod.mp4", "ageitgey__short_hamilton_clip.mp4"]
    pictures = [
        [cv2.resize(one, (852, 480)) for one in Clip(test_data / VIDEO / name).pixels[::3]]
        for name in clips
    ]
    seconds, fps = 20.0, 10.0
    cameras = [
        PacedCamera(pictures[k % 2], name=f"camera {k}", fps=fps, seconds=seconds) for k in range(4)
    ]
    delays: dict[int, list[float]] = {k: [] for k in range(4)}
    with open_recognizer(bundle) as recognizer:
        recognizer.enrol("nodder", [nodder(test_data).pixels[2]])
        with recognizer.group(cameras) as group:
            started, wall = cpu_s(), time.monotonic()
            for result in group:
                delays[result.stream].append(time.monotonic() - result.frame.timestamp_s)
            used, wall = cpu_s() - started, time.monotonic() - wall
    with capsys.disabled():
        print(f"\nfour 480p cameras, {fps:.0f} fps each, {seconds:.0f} s, one thread")  # noqa: T201
        for k, late in delays.items():
            half = len(late) // 2
            print(  # noqa: T201
                f"  camera {k}: {len(late)} of {seconds * fps:.0f} frames, delay p50 "
                f"{np.median(late) * 1e3:.0f} ms, p95 {np.percentile(late, 95) * 1e3:.0f} ms; "
                f"first half {np.mean(late[:half]) * 1e3:.0f}, "
                f"second half {np.mean(late[half:]) * 1e3:.0f} ms"
            )
        print(f"  processor time: {used / wall:.2f} cores")  # noqa: T201
    for late in delays.values():
        half = len(late) // 2
        # The newest frame is taken, so that a delay cannot grow; half a second covers the noise.
        assert np.mean(late[half:]) <= np.mean(late[:half]) + 0.5
    assert used / wall < 2.0

"""Many frames: neither this process nor the one that reads grows with them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import pytest

from edgeface.camera import LiveSource, SourceOptions, open_source
from edgeface.testing import FaultyCamera
from tests.faults.camera_servers import mjpeg_camera

pytest.importorskip("cv2")

MOST_KB_PER_FRAME = 0.5
_WARM_UP = 0.25
_SAMPLES = 200


@contextmanager
def quick_camera(kind: str) -> Iterator[LiveSource]:
    """Give frames as fast as they are made; a busy machine is no reason to begin anew."""
    options = SourceOptions(read_timeout_s=60.0)
    if kind == "pattern":
        with FaultyCamera(fps=None) as camera, camera.open(options) as source:
            yield source
        return
    with mjpeg_camera(fps=0.0) as server, open_source(server.address, options=options) as source:
        assert isinstance(source, LiveSource)
        yield source


def slopes_kb(source: LiveSource, count: int) -> dict[str, float]:
    """Return kB per frame of this process and of the reader, by a line through what follows the
    first quarter."""
    [reader] = [
        child
        for child in psutil.Process().children()
        if "edgeface.camera.reader" in " ".join(child.cmdline())
    ]
    processes = {"here": psutil.Process(), "reader": reader}
    frames: list[int] = []
    used_kb: dict[str, list[float]] = {name: [] for name in processes}
    for number, frame in enumerate(source):
        if number >= count:
            break
        assert frame.pixels.size
        if number >= _WARM_UP * count and number % max(1, count // _SAMPLES) == 0:
            frames.append(number)
            for name, process in processes.items():
                used_kb[name].append(process.memory_info().rss / 1024)
    return {name: float(np.polyfit(frames, values, 1)[0]) for name, values in used_kb.items()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["pattern", "http"])
def test_twenty_thousand_frames_leave_nothing_behind(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with quick_camera(kind) as source:
        before = (threading.active_count(), psutil.Process().num_fds())
        slopes = slopes_kb(source, 20_000)
        after = (threading.active_count(), psutil.Process().num_fds())
        health = source.health()
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}: {health.frames} frames came; kB per frame: {slopes}\n")
    assert after == before
    assert health.reconnects == 0
    assert max(slopes.values()) < MOST_KB_PER_FRAME, slopes

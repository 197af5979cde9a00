"""Frames that two processes share."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeface.camera.ring import FrameRing
from edgeface.errors import CameraError

MAX_PIXELS = 64 * 48


@pytest.fixture
def ring() -> Iterator[FrameRing]:
    made = FrameRing.create(MAX_PIXELS)
    yield made
    made.close()


def write(ring: FrameRing, value: int, width_px: int = 64, height_px: int = 48) -> None:
    ring.begin(width_px, height_px)[...] = value
    ring.publish(float(value))


def test_a_new_ring_has_no_frame(ring: FrameRing) -> None:
    assert ring.newest() is None
    assert (ring.count, ring.skipped, ring.refused) == (0, 0, 0)


def test_the_newest_frame_wins_and_keeps_its_number_and_size(ring: FrameRing) -> None:
    for value in range(7):
        write(ring, value, 64 - value, 48 - 2 * value)
    frame = ring.newest()
    assert frame is not None
    assert (frame.index, frame.captured_s, ring.newest_captured_s) == (6, 6.0, 6.0)
    assert frame.pixels.shape == (36, 58, 3)
    assert (frame.pixels == 6).all()
    write(ring, 9)
    assert (frame.pixels == 6).all(), "a frame that was given out must not change"


def test_a_frame_that_is_not_published_is_not_seen(ring: FrameRing) -> None:
    write(ring, 1)
    ring.begin(64, 48)[...] = 2
    frame = ring.newest()
    assert frame is not None
    assert frame.captured_s == 1.0


def test_a_writer_that_was_killed_in_a_frame_leaves_no_harm(ring: FrameRing) -> None:
    write(ring, 1)
    ring.begin(64, 48)[...] = 77
    other = FrameRing(os.dup(int(ring.token)), MAX_PIXELS)
    for value in range(2, 9):
        write(other, value)
        frame = ring.newest()
        assert frame is not None
        assert (frame.pixels == value).all()
        assert frame.index == value - 1
    other.close()


@pytest.mark.parametrize(("width_px", "height_px"), [(65, 48), (30_000, 30_000), (2**31, 2**31)])
def test_a_frame_that_is_too_large_is_refused(
    ring: FrameRing, width_px: int, height_px: int
) -> None:
    with pytest.raises(CameraError, match="more than 3072 pixels"):
        ring.begin(width_px, height_px)


def test_no_frame_is_read_torn() -> None:
    """A writer at full speed; every frame is of one value, and so must be every copy."""
    ring, done = FrameRing.create(320 * 240), threading.Event()

    def write_on() -> None:
        value = 0
        while not done.is_set():
            ring.begin(320, 240)[...] = value % 256
            ring.publish(float(value))
            value += 1

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        last, seen = -1, 0
        while seen < 300:
            try:
                frame = ring.newest()
            except CameraError:
                continue
            if frame is None or frame.index == last:
                continue
            assert frame.index > last
            assert (frame.pixels == frame.index % 256).all()
            last, seen = frame.index, seen + 1
    finally:
        done.set()
        thread.join()
        ring.close()


def test_a_ring_takes_memory_for_what_is_written_only() -> None:
    before = _shared_kb()
    ring = FrameRing.create(16 << 20)
    write(ring, 1)
    assert _shared_kb() - before < 1000
    ring.close()


def test_a_closed_ring_leaves_no_descriptor(ring: FrameRing) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("this system does not list the descriptors of a process")
    gc.collect()
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        other = FrameRing.create(MAX_PIXELS)
        write(other, 1)
        other.newest()
        other.close()
    assert len(list(descriptors.iterdir())) == before


def _shared_kb() -> int:
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("this system does not tell how much shared memory is used")
    lines = [line for line in status.read_text().splitlines() if line.startswith("RssShmem")]
    return int(lines[0].split()[1])


def test_counts_are_kept_across_writers(ring: FrameRing) -> None:
    ring.skip()
    ring.refuse()
    ring.refuse()
    ring.beat(12.5)
    other = FrameRing(os.dup(int(ring.token)), MAX_PIXELS)
    other.skip()
    other.close()
    assert (ring.skipped, ring.refused, ring.heartbeat_s) == (2, 2, 12.5)
    assert np.isfinite(ring.newest_captured_s)


@pytest.mark.skipif(os.name == "nt", reason="Windows maps memory by name")
def test_memory_without_memfd_has_no_name_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    pytest.importorskip("_posixshmem")
    monkeypatch.delattr(os, "memfd_create", raising=False)
    folder = Path("/dev/shm")
    before = set(folder.iterdir()) if folder.is_dir() else set()
    ring = FrameRing.create(MAX_PIXELS)
    assert before == (set(folder.iterdir()) if folder.is_dir() else set())
    write(ring, 5)
    frame = ring.newest()
    assert frame is not None
    assert (frame.pixels == 5).all()
    ring.close()

"""Videos appear when they are whole."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgeface.camera import (
    AnnotatedVideoWriter,
    open_source,
)
from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import ImageArray, Size

cv2 = pytest.importorskip("cv2")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(colour: tuple[int, int, int], width_px: int = 32, height_px: int = 16) -> ImageArray:
    return np.full((height_px, width_px, 3), colour, np.uint8)


def save_video(path: Path, count: int, *, width_px: int = 64, height_px: int = 48) -> Path:
    with AnnotatedVideoWriter(path, 10.0) as writer:
        for index in range(count):
            writer.write(np.full((height_px, width_px, 3), (20 * index, 0, 200), np.uint8))
    return path


def test_a_video_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with AnnotatedVideoWriter(path, 25.0) as writer:
        for _ in range(5):
            writer.write(picture(RED, 64, 48))
        assert not path.exists()
    [frame, *rest] = open_source(path)
    assert len(rest) == 4
    np.testing.assert_allclose(frame.pixels[24, 32], RED, atol=12)
    assert list(tmp_path.iterdir()) == [path]
    writer.close()


def test_a_video_of_odd_size_is_cut_to_even(tmp_path: Path) -> None:
    path = save_video(tmp_path / "odd.mp4", 2, width_px=65, height_px=49)
    assert next(iter(open_source(path))).size == Size(64, 48)


def test_a_failed_block_leaves_no_video(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with suppress(KeyError), AnnotatedVideoWriter(path, 25.0) as writer:
        writer.write(picture(RED))
        raise KeyError
    with AnnotatedVideoWriter(path, 25.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_written_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CameraError, match="does not exist"):
        AnnotatedVideoWriter(tmp_path / "no" / "out.mp4", 25.0)
    with pytest.raises(InvalidInputError, match=r"\.mp4"):
        AnnotatedVideoWriter(tmp_path / "out.avi", 25.0)
    with pytest.raises(InvalidInputError, match="fps"):
        AnnotatedVideoWriter(tmp_path / "out.mp4", 0.0)
    with pytest.raises(CameraError, match="cannot write 1x1"):
        AnnotatedVideoWriter(tmp_path / "out.mp4", 25.0).write(picture(RED, 1, 1))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_video_keeps_its_size(tmp_path: Path) -> None:
    writer = AnnotatedVideoWriter(tmp_path / "out.mp4", 25.0)
    writer.write(picture(RED))
    with pytest.raises(InvalidInputError, match="a frame of 64x16 in a video of 32x16"):
        writer.write(picture(RED, 64))
    writer.discard()


def test_a_video_that_lost_frames_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = AnnotatedVideoWriter(tmp_path / "out.mp4", 25.0)
    writer.write(picture(RED))
    monkeypatch.setattr(writer, "_count", 2)
    with pytest.raises(CameraError, match="holds 1 of 2 frames"):
        writer.close()
    assert list(tmp_path.iterdir()) == []

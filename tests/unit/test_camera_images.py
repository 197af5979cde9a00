"""Pictures and pixels as RGB."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgeface.camera import (
    open_source,
    read_image,
    to_rgb,
)
from edgeface.errors import CameraError, InvalidInputError
from edgeface.types import ImageArray, Size

cv2 = pytest.importorskip("cv2")

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(colour: tuple[int, int, int], width_px: int = 32, height_px: int = 16) -> ImageArray:
    return np.full((height_px, width_px, 3), colour, np.uint8)


def save(path: Path, rgb: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), rgb[..., ::-1] if rgb.ndim == 3 else rgb)
    return path


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [
        (np.array([[7]], np.uint8), [[[7, 7, 7]]]),
        (np.array([[[7]]], np.uint8), [[[7, 7, 7]]]),
        (np.array([[[1, 2, 3]]], np.uint8), [[[3, 2, 1]]]),
        (np.array([[[1, 2, 3, 4]]], np.uint8), [[[3, 2, 1]]]),
        (np.array([[[256, 512, 65535]]], np.uint16), [[[255, 2, 1]]]),
        (np.array([[4660]], np.uint16), [[[18, 18, 18]]]),
    ],
    ids=["grey", "grey 3-d", "bgr", "bgra", "16 bit", "16 bit grey"],
)
def test_pixels_of_opencv_become_rgb(pixels: np.ndarray, wanted: object) -> None:
    rgb = to_rgb(pixels)
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, wanted)


def test_the_result_of_a_conversion_is_a_copy() -> None:
    for shape in [(4, 4), (4, 4, 1), (4, 4, 3), (4, 4, 4)]:
        pixels = np.zeros(shape, np.uint8)
        assert not np.shares_memory(to_rgb(pixels), pixels)
        to_rgb(pixels[::-1, ::-1])


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), bool),
    ],
    ids=["empty", "two channels", "five channels", "flat", "float", "bool"],
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="pixels must"):
        to_rgb(pixels)


# Pictures


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    frame = read_image(save(tmp_path / f"a.{suffix}", picture(RED)))
    assert frame.size == Size(32, 16)
    np.testing.assert_allclose(frame.pixels[8, 8], RED, atol=3)
    assert (frame.source, frame.index, frame.timestamp_s) == (f"a.{suffix}", 0, 0.0)


def test_grey_alpha_and_deep_pictures_become_rgb(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", np.full((4, 4), 90, np.uint8))
    deep = save(tmp_path / "deep.png", np.full((4, 4, 3), 90 * 257, np.uint16))
    alpha = tmp_path / "alpha.png"
    assert cv2.imwrite(str(alpha), np.full((4, 4, 4), (90, 90, 90, 5), np.uint8))
    for path in (grey, deep, alpha):
        assert (read_image(path).pixels == 90).all(), path.name


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    rgb = np.concatenate([picture(RED, 32, 32), picture(BLUE, 32, 32)], axis=1)
    plain = save(tmp_path / "plain.jpg", rgb).read_bytes()
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00" + (
        b"\x00\x00\x00\x00"
    )
    exif = b"Exif\x00\x00" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(plain[:2] + segment + plain[2:])
    frame = read_image(turned)
    assert frame.size == Size(32, 64)
    np.testing.assert_allclose(frame.pixels[5, 16], RED, atol=5)
    np.testing.assert_allclose(frame.pixels[60, 16], BLUE, atol=5)


def png(width_px: int, height_px: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def jpeg(width_px: int, height_px: int) -> bytes:
    content = bytearray(cv2.imencode(".jpg", picture(RED))[1].tobytes())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", height_px, width_px)
    return bytes(content)


@pytest.mark.parametrize("content", [png(30000, 30000), jpeg(30000, 30000)], ids=["png", "jpeg"])
def test_a_picture_that_claims_too_many_pixels_is_not_decoded(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb").write_bytes(content)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(CameraError, match=r"30000x30000 pixels, more than 64 Mpx"):
        read_image(tmp_path / "bomb")


def damaged_pictures() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for kind in ("png", "jpg"):
        whole = cv2.imencode(f".{kind}", noise)[1].tobytes()
        for name, cut in (("half", len(whole) // 2), ("tail", len(whole) - 3), ("head", 30)):
            yield f"{kind} {name}", whole[:cut]
        yield f"{kind} magic", whole[:8]
    whole = cv2.imencode(".png", noise)[1].tobytes()
    yield "png bit", whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]
    yield "png 0x0", png(0, 0)
    yield "empty", b""
    yield "text", b"not a picture"
    yield "webp", b"RIFF\x00\x00\x00\x00WEBPVP8 "
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    yield "gif", b"GIF89a" + bytes(50)


@pytest.mark.parametrize(
    "content", [pytest.param(content, id=name) for name, content in damaged_pictures()]
)
def test_what_is_no_whole_picture_is_refused_quietly(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(CameraError, match=r"face\.jpg"):
        read_image(path)
    with pytest.raises(CameraError, match=r"face\.jpg"):
        list(open_source(path))
    assert capfd.readouterr() == ("", "")


def test_no_changed_byte_makes_anything_but_a_camera_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (24, 24, 3), np.uint8)
    path = tmp_path / "fuzz"
    for suffix in (".jpg", ".png"):
        whole = np.frombuffer(cv2.imencode(suffix, pixels)[1].tobytes(), np.uint8)
        for _ in range(150):
            changed = whole.copy()
            changed[rng.integers(0, len(whole), 2)] = rng.integers(0, 256, 2)
            path.write_bytes(changed.tobytes())
            with suppress(CameraError):
                assert read_image(path).pixels.dtype == np.uint8


def test_a_picture_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "no.jpg", tmp_path, tmp_path / "pipe"):
        with pytest.raises(CameraError, match="there is no such file"):
            read_image(path)

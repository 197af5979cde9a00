"""The built-in synthetic faces: what INT8 is tried on when the user gave no picture.

They are nobody: `calibration/recipes/synthetic_faces` made them by gradient descent from drawn
ovals until they caused the statistics that the BatchNorm layers of a recogniser had kept. No face
image was read on the way, and `PROVENANCE` says from which weights they come.

The file holds 8x8 cosine coefficients, as JPEG does, so that 112x112 pictures fit into about 5 kB
each without a picture library: a header (magic, count, luma and chroma step, little-endian), then
zlib over the low bytes and then the high bytes of int16 coefficients, luma before chroma, each in
the order (vertical frequency, horizontal frequency, plane, block row, block column). Decoding is
integer arithmetic alone, so that every machine gets the same pixels and measures the same figures.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from functools import lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from edgeface.errors import AssetIntegrityError, InvalidInputError
from edgeface.types import ImageArray, Size

__all__ = ["PROVENANCE", "SYNTHETIC_FACES_SHA256", "load_synthetic_faces"]

FILE_NAME = "synthetic_faces.bin"
SYNTHETIC_FACES_SHA256 = "519024809b1598277bae24d55efef6df842e429c813fd4186b2893d9771abd33"
PROVENANCE = (
    "256 synthetic faces, made from drawn ovals by calibration/recipes/synthetic_faces (seed 0) "
    "out of the BatchNorm statistics of arcface-mobilefacenet-relu-112-foamliu.pt (foamliu/"
    "MobileFaceNet, licence Apache-2.0, SHA-256 "
    "90a00ba1d8b0b688af3deb731ed53dca582e6106805d1bc3cfdef55f570493f4); no face image was read"
)
"""Where the pictures come from, for reports."""

MAGIC = b"EFSYNTH1"
HEADER = struct.Struct("<8sHHH")
SIDE_PX, BLOCK_PX = 112, 8
_BASIS_BITS = 13
_CHANNELS = 3
_CHUNK = 32
"""Pictures decoded at a time, which bounds the memory."""
_Integers = npt.NDArray[np.int64]


def load_synthetic_faces(size: Size) -> ImageArray:
    """Return the (n, height, width, 3) uint8 RGB synthetic faces, read-only, for crops of ``size``.

    They lie as on the template ``arcface-112x112``; a narrower crop of the same height is their
    middle, which is how ``arcface-112x96`` is defined.

    Raises:
        InvalidInputError: No template of that size is known.
        AssetIntegrityError: The file in the package is not the one that was published.
    """
    if size.height_px != SIDE_PX or size.width_px not in (SIDE_PX, 96):
        raise InvalidInputError(
            f"the synthetic faces are 112x112 or 96x112 (width x height), not {size}"
        )
    side_px = (SIDE_PX - size.width_px) // 2
    return _all_faces()[:, :, side_px : SIDE_PX - side_px]


@lru_cache(maxsize=1)
def _all_faces() -> ImageArray:
    content = (resources.files("edgeface_export") / "data" / FILE_NAME).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SYNTHETIC_FACES_SHA256:
        raise AssetIntegrityError(
            f"{FILE_NAME} of the installed edgeface has SHA-256 {found}, wanted "
            f"{SYNTHETIC_FACES_SHA256}: install edgeface again"
        )
    pictures = decode(content)
    pictures.setflags(write=False)
    return pictures


def decode(content: bytes) -> ImageArray:
    """Return the (n, 112, 112, 3) uint8 RGB pictures of a file in the format above.

    Raises:
        AssetIntegrityError: The content is no such file.
    """
    try:
        magic, count, luma_step, chroma_step = HEADER.unpack_from(content)
        body = zlib.decompress(content[HEADER.size :])
    except (struct.error, zlib.error) as exc:
        raise AssetIntegrityError(f"{FILE_NAME} cannot be unpacked: {exc}") from exc
    blocks = (SIDE_PX // BLOCK_PX) ** 2
    luma_values = count * blocks * BLOCK_PX**2
    if magic != MAGIC or len(body) != 2 * (luma_values + luma_values // 2):
        raise AssetIntegrityError(f"{FILE_NAME} is not in the format {MAGIC.decode()}")
    values = _int16(body)
    luma = _coefficients(values[:luma_values], count, SIDE_PX) * steps(luma_step)
    chroma = _coefficients(values[luma_values:], 2 * count, SIDE_PX // 2) * steps(chroma_step)
    pictures = np.empty((count, SIDE_PX, SIDE_PX, _CHANNELS), np.uint8)
    for first in range(0, count, _CHUNK):
        last = first + _CHUNK
        pictures[first:last] = _pictures(luma[first:last], chroma[2 * first : 2 * last])
    return pictures


def cosine_basis() -> _Integers:
    """Return the (8, 8) orthonormal cosine basis, frequency by pixel, times 2**13 and rounded."""
    frequency = np.arange(BLOCK_PX)[:, None]
    pixel = np.arange(BLOCK_PX)[None, :]
    basis = np.cos((2 * pixel + 1) * frequency * np.pi / (2 * BLOCK_PX)) * np.sqrt(2 / BLOCK_PX)
    basis[0] /= np.sqrt(2)
    return np.asarray(np.rint(basis * 2**_BASIS_BITS), np.int64)


def steps(coarsest: int) -> _Integers:
    """Return the (8, 8) quantisation steps: ``coarsest`` for a block's mean, finest thrice that."""
    frequency = np.add.outer(np.arange(BLOCK_PX), np.arange(BLOCK_PX))
    return np.asarray(coarsest + coarsest * frequency // (BLOCK_PX - 1), np.int64)


def _int16(body: bytes) -> npt.NDArray[np.int16]:
    halves = np.frombuffer(body, np.uint8).reshape(2, -1)
    return np.asarray(halves[0] | halves[1].astype(np.uint16) << 8).view(np.int16)


def _coefficients(values: npt.NDArray[np.int16], planes: int, side_px: int) -> _Integers:
    """Return (planes, rows, columns, 8, 8) coefficients from the order of the file."""
    blocks = side_px // BLOCK_PX
    ordered = values.reshape(BLOCK_PX, BLOCK_PX, planes, blocks, blocks)
    return ordered.transpose(2, 3, 4, 0, 1).astype(np.int64)


def _inverse(coefficients: _Integers) -> _Integers:
    """Return the (planes, side, side) pixels of (planes, rows, columns, 8, 8) coefficients."""
    basis = cosine_basis()
    blocks = _rounded_shift(basis.T @ coefficients @ basis, 2 * _BASIS_BITS)
    planes, rows, columns = blocks.shape[:3]
    return blocks.transpose(0, 1, 3, 2, 4).reshape(planes, rows * BLOCK_PX, columns * BLOCK_PX)


def _pictures(luma: _Integers, chroma: _Integers) -> ImageArray:
    """Return RGB from coefficients of luma and of half-size colour differences, by BT.601."""
    y = _inverse(luma) + 128
    doubled = _inverse(chroma).repeat(2, axis=1).repeat(2, axis=2)
    blue, red = doubled[0::2], doubled[1::2]
    channels = (
        y + _rounded_shift(91881 * red, 16),
        y - _rounded_shift(22554 * blue + 46802 * red, 16),
        y + _rounded_shift(116130 * blue, 16),
    )
    return np.clip(np.stack(channels, axis=3), 0, 255).astype(np.uint8)


def _rounded_shift(values: _Integers, bits: int) -> _Integers:
    return (values + (1 << (bits - 1))) >> bits

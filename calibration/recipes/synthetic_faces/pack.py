"""Packs the pictures of ``invert.py`` into the file that the export carries.

    python pack.py PICTURES.npy OUTPUT.bin [--luma-step 4] [--chroma-step 6]

The format and its reader are `edgeface_export.synthetic_faces`; this is its other direction. It
writes what the packing changed, and the SHA-256 that belongs into that module.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface_export.synthetic_faces import BLOCK_PX, HEADER, MAGIC, cosine_basis, decode, steps

_Planes = npt.NDArray[np.float64]


def pack(pictures: npt.NDArray[np.uint8], luma_step: int, chroma_step: int) -> bytes:
    """Return the file content for (n, 112, 112, 3) uint8 RGB ``pictures``."""
    luma, chroma = _planes_of(pictures)
    values = np.concatenate(
        [_coefficients(luma, luma_step).ravel(), _coefficients(chroma, chroma_step).ravel()]
    )
    low_then_high = values.view(np.uint8).reshape(-1, 2).T.tobytes()
    header = HEADER.pack(MAGIC, len(pictures), luma_step, chroma_step)
    return header + zlib.compress(low_then_high, 9)


def _planes_of(pictures: npt.NDArray[np.uint8]) -> tuple[_Planes, _Planes]:
    """Return ((n, h, w) luma, (2n, h/2, w/2) blue and red differences) by BT.601, zero in grey."""
    red, green, blue = np.moveaxis(pictures.astype(np.float64), 3, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = np.stack([(blue - luma) / 1.772, (red - luma) / 1.402], 1)
    count, _, height, width = chroma.shape
    halved = chroma.reshape(count * 2, height // 2, 2, width // 2, 2).mean((2, 4))
    return luma - 128, halved


def _coefficients(planes: _Planes, coarsest_step: int) -> npt.NDArray[np.int16]:
    """Return quantised coefficients in the order of the file: like frequencies side by side."""
    count, height, width = planes.shape
    blocks = planes.reshape(count, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
    basis = cosine_basis() / np.sqrt((cosine_basis() ** 2).sum(1, keepdims=True))
    found = basis @ blocks.transpose(0, 1, 3, 2, 4) @ basis.T
    quantised = np.asarray(np.rint(found / steps(coarsest_step)), "<i2")
    return quantised.transpose(3, 4, 0, 1, 2)


def main() -> int:
    """Pack, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--luma-step", type=int, default=4)
    parser.add_argument("--chroma-step", type=int, default=6)
    arguments = parser.parse_args()
    pictures = np.load(arguments.pictures, allow_pickle=False)
    content = pack(pictures, arguments.luma_step, arguments.chroma_step)
    arguments.output.write_bytes(content)
    error = (decode(content).astype(np.float64) - pictures) ** 2
    sys.stdout.write(
        f"{len(pictures)} pictures, {len(content) / 1e6:.3f} MB, "
        f"root mean square change {np.sqrt(error.mean()):.2f} of 255\n"
        f"SHA-256 {hashlib.sha256(content).hexdigest()}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

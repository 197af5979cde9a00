"""Rows that lie as embeddings of faces do: people apart, images of a person together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgeface.types import FloatArray

BLOCK_ROWS = 5_000
# Chosen so that scores are near those of a reference checkpoint on LFW: mated 0.61 +- 0.11,
# non-mated 0.00 +- 0.08, one in 1e3, 1e4, 1e5 above 0.28, 0.37, 0.45 (foamliu: 0.65 +- 0.13,
# 0.01 +- 0.10, 0.33, 0.40, 0.46). People who look alike make the tail.
_PEOPLE_FALL, _IMAGE_FALL = 1.3, 0.5
_ALIKE_GROUPS, _ALIKE_SHARE = 300, 0.35
_SPREAD_WITHIN = (0.4, 1.2)


class FaceLikeRows:
    """People in blocks of 5,000, each block always the same, two images of everyone."""

    def __init__(self, size: int = 512, seed: int = 0) -> None:
        self.size, self.seed = size, seed
        ranks = np.arange(size) + 10.0
        turned = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))[0]
        self._people = _mixing(ranks**-_PEOPLE_FALL, turned)
        self._images = _mixing(ranks**-_IMAGE_FALL, turned)
        self._groups = np.random.default_rng([seed, 1]).standard_normal(
            (_ALIKE_GROUPS, size), np.float32
        )

    def blocks(self, n_rows: int) -> Iterator[FloatArray]:
        """Give one image each of the first ``n_rows`` people, block by block."""
        for block in range(-(-n_rows // BLOCK_ROWS)):
            yield self.images(block, 0)[: n_rows - block * BLOCK_ROWS]

    def images(self, block: int, image: int) -> FloatArray:
        """Return image 0 or 1 of every person of ``block``, (5,000, size) of length 1."""
        people = np.random.default_rng([self.seed, block])
        inside = np.random.default_rng([self.seed, block, image])
        shape = (BLOCK_ROWS, self.size)
        spread = inside.uniform(*_SPREAD_WITHIN, (BLOCK_ROWS, 1)).astype(np.float32)
        group = self._groups[people.integers(0, _ALIKE_GROUPS, BLOCK_ROWS)]
        alone = people.standard_normal(shape, np.float32)
        rows = (_ALIKE_SHARE**0.5 * group + (1 - _ALIKE_SHARE) ** 0.5 * alone) @ self._people
        rows += spread * (inside.standard_normal(shape, np.float32) @ self._images)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def probes(self, n_mated: int, n_strangers: int, n_rows: int) -> FloatArray:
        """Return other images of enrolled people, then images of people beyond ``n_rows``."""
        mated = self.images(0, 1)[: min(n_rows, BLOCK_ROWS)]
        strangers = self.images(10_000, 0)
        step = len(mated) // n_mated
        return np.concatenate([mated[::step][:n_mated], strangers[:n_strangers]])


def _mixing(variances: np.ndarray, turned: np.ndarray) -> FloatArray:
    return np.asarray(np.sqrt(variances / variances.sum())[:, None] * turned, np.float32)

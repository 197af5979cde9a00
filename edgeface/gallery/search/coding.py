"""Short forms of rows for the coarse product, with a proven bound on what they lose.

With x a row, q its short form, and e the length of x - q, for a probe p with short form r and f
the length of p - r: ``x.p - q.r = q.(p - r) + (x - q).p``, and so by Cauchy and Schwarz
``|x.p - q.r| <= |q| f + e |p| <= (1 + e) f + e``, as |x| = |p| = 1. e and f are measured, not
assumed: they are the float64 lengths of the differences, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import GalleryError, MissingDependencyError
from edgeface.types import FloatArray

__all__ = ["Coding", "Encoded", "Float16Coding", "Float32Coding", "Int8Coding", "Prepared"]

# Rows and probes are of length 1 to within float32; half of float32's last bit.
_LENGTH_SLACK, _HALF_BIT = 1e-6, 2.0**-24
# Final scores are rounded to float32, where a row may tie with one that is this much better; the
# rest covers the rounding of scale times scale times product.
_ROUNDING_SLACK = 2e-6


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Short forms of n rows: ``scale`` times ``codes`` (n, d) is within ``error`` of each row.

    ``scale`` and ``error`` are (n,) float32.
    """

    codes: npt.NDArray[Any]
    scale: FloatArray
    error: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Short forms of m probes; ``product`` gives (n, m) numbers for (n, d) codes.

    Times the scale of the row and ``scale`` (m,) of the probe, they are the coarse scores. The
    coarse score of a row with error e is within ``constant + slope * e`` of the cosine, both
    (m,) float32.
    """

    product: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
    scale: FloatArray
    constant: FloatArray
    slope: FloatArray


class Coding(Protocol):
    """One short form."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def dtype(self) -> npt.DTypeLike:
        """The type of the numbers of a short form."""
        ...

    def encode(self, rows: FloatArray) -> Encoded:
        """Return the short forms of (n, d) unit ``rows``."""
        ...

    def prepare(self, probes: FloatArray) -> Prepared:
        """Return the short forms of (m, d) unit ``probes``."""
        ...


class Float32Coding:
    """The rows themselves, multiplied by numpy; what is lost is the rounding of sums."""

    name = "float32"
    dtype = np.float32

    def encode(self, rows: FloatArray) -> Encoded:
        """Return ``rows`` as they are."""
        n = len(rows)
        return Encoded(rows, np.ones(n, np.float32), np.zeros(n, np.float32))

    def prepare(self, probes: FloatArray) -> Prepared:
        """Return ``probes`` as they are."""
        m, d = probes.shape
        columns = probes.T
        return _prepared(
            lambda codes: codes @ columns, np.ones(m), np.zeros(m), d * _HALF_BIT * 1.01
        )


class Float16Coding:
    """Half the memory, multiplied by numkong with float32 sums.

    Raises:
        MissingDependencyError: numkong is not installed.
        GalleryError: Its product is not as precise as the bound wants on this machine.
    """

    name = "float16"
    dtype = np.float16

    def __init__(self, embedding_size: int) -> None:
        self._numkong = _numkong()
        slack = _sum_slack(embedding_size)
        rows = _samples(embedding_size).astype(np.float16)
        exact = rows.astype(np.float64) @ rows.astype(np.float64).T
        _require(np.abs(_packed(self._numkong, rows)(rows) - exact).max() <= slack, "float16")

    def encode(self, rows: FloatArray) -> Encoded:
        """Return the nearest float16 of every number."""
        codes = rows.astype(np.float16)
        error = _lengths_up(rows.astype(np.float64) - codes)
        return Encoded(codes, np.ones(len(rows), np.float32), error)

    def prepare(self, probes: FloatArray) -> Prepared:
        """Return the nearest float16 of every number."""
        encoded = self.encode(probes)
        product = _packed(self._numkong, encoded.codes)
        return _prepared(product, encoded.scale, encoded.error, _sum_slack(probes.shape[1]))


class Int8Coding:
    """A quarter of the memory, multiplied by numkong in whole numbers.

    Every row has a scale of its own, so that its largest number is 127 steps.

    Raises:
        MissingDependencyError: numkong is not installed.
        GalleryError: Its product is wrong on this machine.
    """

    name = "int8"
    dtype = np.int8

    def __init__(self, embedding_size: int) -> None:
        self._numkong = _numkong()
        codes = self.encode(_samples(embedding_size)).codes
        exact = codes.astype(np.int64) @ codes.astype(np.int64).T
        _require(bool((_packed(self._numkong, codes)(codes) == exact).all()), "int8")

    def encode(self, rows: FloatArray) -> Encoded:
        """Return ``rows`` in steps of a 127th of their largest number."""
        # A row of length 1 has a number of at least 1 / sqrt(d); no scale is 0.
        scale = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
        codes = np.rint(rows / scale[:, None]).clip(-127, 127).astype(np.int8)
        error = _lengths_up(rows.astype(np.float64) - scale[:, None].astype(np.float64) * codes)
        return Encoded(codes, scale, error)

    def prepare(self, probes: FloatArray) -> Prepared:
        """Return ``probes`` in steps of a 127th of their largest number."""
        encoded = self.encode(probes)
        product = _packed(self._numkong, encoded.codes)
        return _prepared(product, encoded.scale, encoded.error, 0.0)


def _prepared(
    product: Callable[[npt.NDArray[Any]], npt.NDArray[Any]],
    scale: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    sum_slack: float,
) -> Prepared:
    """Return the probes with the bound of the module's text as a line in the error of a row."""
    length = 1.0 + _LENGTH_SLACK
    constant = length * error.astype(np.float64) + sum_slack + _ROUNDING_SLACK
    return Prepared(
        product,
        scale.astype(np.float32),
        _up(constant),
        _up(length + error.astype(np.float64)),
    )


def _packed(numkong: Any, probes: npt.NDArray[Any]) -> Callable[[Any], npt.NDArray[Any]]:
    packed = numkong.dots_pack(np.ascontiguousarray(probes))

    def product(codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(numkong.dots_packed(codes, packed))

    return product


def _numkong() -> Any:
    try:
        import numkong
    except ImportError as exc:
        raise MissingDependencyError("numkong", extra="search") from exc
    return numkong


def _sum_slack(embedding_size: int) -> float:
    """Return the largest rounding of a float32 sum of products of two unit vectors, in any order.

    Higham, "Accuracy and stability of numerical algorithms", 2002, section 3.1: d u |x|.|y|.
    """
    return embedding_size * _HALF_BIT * 1.01


def _samples(embedding_size: int) -> FloatArray:
    """Return unit rows to try a product with, the last all of one sign: the worst for sums."""
    rows = np.random.default_rng(0).standard_normal((33, embedding_size))
    rows[-1] = np.abs(rows[-1])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _require(is_right: bool | np.bool_, name: str) -> None:
    if not is_right:
        raise GalleryError(
            f"numkong's {name} product is wrong on this machine, so that nothing can be proven "
            "of its scores; search with kind='float32', or install another release of numkong"
        )


def _lengths_up(differences: npt.NDArray[np.float64]) -> FloatArray:
    squares: npt.NDArray[np.float64] = np.einsum("ij,ij->i", differences, differences)
    return _up(np.sqrt(squares) * (1 + 1e-9))


def _up(values: npt.NDArray[np.float64]) -> FloatArray:
    """Return ``values`` as float32, none of them smaller."""
    above: FloatArray = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    return above

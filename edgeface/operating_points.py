"""Which threshold holds for how many enrolled people. Pure functions.

The more people are enrolled, the likelier a stranger looks like one of them: at an FMR of 1e-4,
one stranger in a thousand is taken for one of ten people, one in ten for one of a thousand.
A threshold therefore holds for galleries up to a size.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeface.errors import InvalidInputError, OperatingPointError
from edgeface.types import OperatingPoint

__all__ = ["chosen_for_gallery", "covers", "expected_fpir", "outgrown"]

# 1e-2 written by hand and 1e-2 read from JSON must count as equal.
_SAME_RATE = 1 + 1e-12


def chosen_for_gallery(
    points: Sequence[OperatingPoint], artefact: str, *, target_fpir: float, gallery_size: int
) -> OperatingPoint:
    """Return the point of ``artefact`` that keeps ``target_fpir`` with ``gallery_size`` enrolled.

    Of the points that aim at such a rate or a lower one and hold for so many subjects, it is the
    one with the lowest threshold. A point that does not say how many it holds for is never taken.
    Call it again when the gallery grows: the answer changes where a point ends.

    Raises:
        OperatingPointError: There is none; the message says up to how many the points hold.
        InvalidInputError: ``gallery_size`` is negative or the target not between 0 and 1.
    """
    if gallery_size < 0 or not 0.0 < target_fpir < 1.0:
        raise InvalidInputError(
            "wanted a gallery_size of at least 0 and a target_fpir between 0 and 1, got "
            f"{gallery_size} and {target_fpir}"
        )
    strict = [
        point
        for point in points
        if point.artefact == artefact
        and point.target_fpir is not None
        and point.target_fpir <= target_fpir * _SAME_RATE
    ]
    holding = [point for point in strict if covers(point, gallery_size)]
    if not holding:
        known = sorted({point.gallery_size for point in strict if point.gallery_size is not None})
        held = f"they hold up to {known[-1]:,}" if known else "there is none for such a rate"
        raise OperatingPointError(
            f"{gallery_size:,} subjects are enrolled, which no operating point of {artefact!r} "
            f"with FPIR {target_fpir:g} or below covers ({held}); fit one with `edgeface calibrate "
            f"--target-fpir {target_fpir:g} --gallery-size {gallery_size}`"
        )
    return min(holding, key=lambda point: point.threshold)


def covers(point: OperatingPoint, gallery_size: int) -> bool:
    """Return whether ``point`` says that it holds for ``gallery_size`` enrolled subjects."""
    return point.gallery_size is not None and gallery_size <= point.gallery_size


def outgrown(point: OperatingPoint, gallery_size: int) -> str | None:
    """Return in words why ``point`` does not hold for ``gallery_size`` subjects; None if it does.

    A point that was fitted to comparisons, not to searches, holds for one subject: what its rate
    becomes with more is said.
    """
    if gallery_size <= 1 or covers(point, gallery_size):
        return None
    if point.gallery_size is None:
        rate = expected_fpir(point.target_fmr, gallery_size)
        return (
            f"the threshold is for an FMR of {point.target_fmr:g} in one comparison; with "
            f"{gallery_size:,} enrolled up to {rate:.2%} of strangers are taken for somebody; fit "
            "a point for searches with `edgeface calibrate`"
        )
    return (
        f"the threshold holds for up to {point.gallery_size:,} enrolled subjects, there are "
        f"{gallery_size:,}; fit one for more with `edgeface calibrate --gallery-size "
        f"{gallery_size}`"
    )


def expected_fpir(fmr: float, gallery_size: int) -> float:
    """Return the FPIR of ``gallery_size`` comparisons at ``fmr``, if they were independent.

    They are not: a stranger who looks like one enrolled person looks like others, so that the
    true rate is at most this.

    Raises:
        InvalidInputError: ``fmr`` is not in 0..1 or ``gallery_size`` negative.
    """
    if not 0.0 <= fmr <= 1.0 or gallery_size < 0:
        raise InvalidInputError(f"wanted an FMR in 0..1 and a size of at least 0, got {fmr}, "
                                f"{gallery_size}")  # fmt: skip
    return float(1.0 - (1.0 - fmr) ** gallery_size)

"""How many faces an activation set needs, and in which order many are looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeface.errors import ActivationSetError, InvalidInputError

__all__ = ["ActivationSetLimits", "even_order", "even_positions", "require_enough"]

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSetLimits:
    """How many faces are needed, advised, and used at most.

    Below 100 faces the ranges depend on who happens to be in them; beyond 1,000 they stop moving.
    """

    minimum: int = 100
    recommended: int = 300
    maximum: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise InvalidInputError(f"wanted 1 <= minimum <= maximum, got {self}")

    def notes(self, n_faces: int) -> tuple[str, ...]:
        """Return what is to be said of a set of ``n_faces``: nothing, or that they are few."""
        few = f"{n_faces} faces are few: {self.recommended} or more give steadier ranges"
        return (few,) if n_faces < self.recommended else ()


def require_enough(
    where: str,
    n_faces: int,
    limits: ActivationSetLimits,
    *,
    refused: Mapping[str, int],
    first_problem: str = "",
) -> None:
    """Return if ``n_faces`` reach the minimum.

    Raises:
        ActivationSetError: They do not. ``where`` names the pictures.
    """
    if n_faces >= limits.minimum:
        return
    reasons = ", ".join(f"{count} {why}" for why, count in sorted(refused.items()))
    problem = f"; the first unusable one: {first_problem}" if first_problem else ""
    raise ActivationSetError(
        f"{where} gives {n_faces} faces (refused: {reasons or 'none'}), wanted at least "
        f"{limits.minimum} and better {limits.recommended}; add images of different people, "
        f"one face each, from the cameras that the model will work with{problem}"
    )


def even_order(n: int, seed: int = 0) -> Iterator[int]:
    """Give 0..n-1, each once, so that every beginning of the sequence is spread over the range.

    Steps of the golden section, rounded to a number that shares no factor with ``n``, leave no
    wide gap anywhere (Weyl's sequence).
    """
    step = max(1, round(n * _GOLDEN))
    while n and math.gcd(step, n) != 1:
        step += 1
    start = int(np.random.default_rng(seed).integers(n)) if n else 0
    for k in range(n):
        yield (start + k * step) % n


def even_positions(n: int, wanted: int) -> list[int]:
    """Return at most ``wanted`` different positions of 0..n-1, equally far apart, ascending."""
    taken = min(n, wanted)
    return [(2 * k + 1) * n // (2 * taken) for k in range(taken)]

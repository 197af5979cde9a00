"""The ladder: returns the worst layers to float, until the gates pass or too much is float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeface.errors import GateFailedError
from edgeface_export.quantise.sensitivity import LayerSensitivity

__all__ = ["MAX_FLOAT_SHARE", "Attempt", "Climb", "climb"]

T = TypeVar("T")

MAX_FLOAT_SHARE = 0.10
"""Largest share of the multiply-adds that may be float in what is called an INT8 artefact."""

# Layers that are float at each step. The worst one or two usually make most of the loss; after
# them the steps grow, because each costs a whole measurement.
_STEPS = (0, 1, 2, 3, 5, 8, 12, 18, 27)


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """What came of one step: the result, and a sentence for each gate that it failed.

    ``float_cost`` are the multiply-adds that are float even where no layer is asked to be.
    """

    result: T
    failed: tuple[str, ...]
    float_cost: int = 0


@dataclass(frozen=True, slots=True)
class Climb(Generic[T]):
    """The first result that passed, the layers that are float in it, and every step tried."""

    result: T
    kept_float: frozenset[str]
    steps: tuple[str, ...]


def climb(
    attempt: Callable[[frozenset[str]], Attempt[T]],
    order: Callable[[], Sequence[LayerSensitivity]],
    multiply_adds: int,
    *,
    max_float_share: float = MAX_FLOAT_SHARE,
) -> Climb[T]:
    """Return the first attempt that passes, with as few layers in float as the ladder allows.

    ``attempt`` makes and measures the artefact with the layers named kept in float. ``order``
    gives the layers, the worst first, and is asked only when the first attempt fails.
    ``multiply_adds`` is the cost of the whole network, float share included.

    Raises:
        GateFailedError: Every step failed, or the next would make more than ``max_float_share``
            of the arithmetic float; the message says what was tried.
    """
    steps: list[str] = []
    always = 0
    layers: Sequence[LayerSensitivity] | None = None
    for count in _STEPS:
        if count:
            layers = order() if layers is None else layers
        kept = (layers or ())[:count]
        share = (always + sum(entry.multiply_adds for entry in kept)) / multiply_adds
        if len(kept) < count or share > max_float_share:
            break
        names = frozenset(entry.layer for entry in kept)
        outcome = attempt(names)
        if not count:
            # Without the ladder's doing.
            always = outcome.float_cost
            share = always / multiply_adds
        where = f"{count} layer(s) in float, {share:.1%} of the arithmetic"
        if not outcome.failed:
            return Climb(outcome.result, names, (*steps, f"{where}: passed"))
        steps.append(f"{where}: " + "; ".join(outcome.failed))
    raise GateFailedError(
        f"INT8 failed its gates with at most {max_float_share:.0%} of the arithmetic in float, "
        "nothing was written. Tried: " + " | ".join(steps)
    )

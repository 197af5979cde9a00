"""Thresholds for a bundle whose own scores were never measured on people.

They are the strictest that were needed among the reference checkpoints, so another model most
likely rejects too much rather than accepts too much. They are marked provisional everywhere, and
``edgeface verify --fit`` replaces them by measured ones.
"""

from __future__ import annotations

from edgeface.types import OperatingPoint

__all__ = ["PROVISIONAL_THRESHOLDS", "provisional_points"]

PROVISIONAL_THRESHOLDS: dict[float, float] = {1e-2: 0.33, 1e-3: 0.44, 1e-4: 0.52}
"""Threshold on cosine similarity by target FMR; how they were found is in docs/benchmarks.md."""


def provisional_points(artefact: str) -> tuple[OperatingPoint, ...]:
    """Return the provisional operating points for ``artefact``."""
    return tuple(
        OperatingPoint(
            threshold=threshold,
            target_fmr=fmr,
            artefact=artefact,
            protocol="provisional",
            provisional=True,
        )
        for fmr, threshold in PROVISIONAL_THRESHOLDS.items()
    )

"""Labelled pairs as evidence: what INT8 costs when people are told apart.

Pairs are read, cropped and scored by others (the command line gives :mod:`edgeface_calibration`
the work); what comes back is judged here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeface.bundle import Bundle
from edgeface.types import OperatingPoint
from edgeface_export.gate_limits import GateLimits
from edgeface_export.gates import GateResult, at_most

__all__ = ["PairEvaluator", "PairEvidence", "TarLoss", "merged_points", "tar_gates"]


@dataclass(frozen=True, slots=True)
class TarLoss:
    """How much of the TAR at ``target_fmr`` an artefact loses against ``fp32``, in -1..1.

    ``low`` and ``high`` are the ends of its 95 % interval, by resampling subjects.
    """

    target_fmr: float
    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class PairEvidence:
    """What labelled pairs say of each artefact.

    ``verification`` has the figures by artefact, with the keys of
    :class:`edgeface_export.html_report.schema.Figures`; ``losses`` those against ``fp32``, at the
    targets that the pairs can resolve. ``points`` are fitted to each artefact. ``pair_scores`` has
    ``before``, ``after`` and ``mated``, for the chart. ``notes`` are sentences for people.
    """

    protocol: str
    verification: Mapping[str, Mapping[str, Any]]
    losses: Mapping[str, Sequence[TarLoss]]
    points: tuple[OperatingPoint, ...]
    pair_scores: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def figures(self) -> dict[str, float]:
        """Return the losses by the names they have in the manifest."""
        return {
            f"{name.replace('-', '_')}_tar_loss_fmr_{entry.target_fmr:g}": entry.loss
            for name, losses in self.losses.items()
            for entry in losses
        }


class PairEvaluator(Protocol):
    """Measures every artefact of a bundle on labelled pairs."""

    def __call__(self, bundle: Bundle) -> PairEvidence:
        """Return the evidence.

        Raises:
            InvalidInputError: The pairs are unusable, or too few of their faces are found.
            GateFailedError: An artefact does no better than guessing.
        """
        ...


def tar_gates(evidence: PairEvidence, artefact: str, limits: GateLimits) -> list[GateResult]:
    """Return the gates on the TAR that ``artefact`` loses; none where nothing was resolved."""
    return [
        at_most(
            f"loss of TAR at FMR {entry.target_fmr:g}, {artefact}",
            entry.loss,
            limits.max_tar_loss,
            "INT8 tells people apart less well: export with an activation set of more faces",
        )
        for entry in evidence.losses.get(artefact, ())
    ]


def merged_points(
    provisional: Sequence[OperatingPoint], fitted: Sequence[OperatingPoint]
) -> tuple[OperatingPoint, ...]:
    """Return ``fitted`` with the ``provisional`` points that they do not replace.

    A provisional point stays where nothing was fitted for its artefact, and where it is stricter
    in both target and threshold: what the pairs could not resolve.
    """
    kept = [
        old
        for old in provisional
        if all(
            old.artefact != new.artefact
            or (old.target_fmr < new.target_fmr and old.threshold > new.threshold)
            for new in fitted
        )
    ]
    return (*kept, *fitted)

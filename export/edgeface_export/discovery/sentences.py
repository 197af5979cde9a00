"""Discovery in sentences: what was found, how sure it is, and what a person should look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeface_export.discovery.candidates import same
from edgeface_export.discovery.norm_fit import NormState
from edgeface_export.discovery.trials import Trial, agreement

__all__ = ["Findings", "sentences"]


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """The trials of a search and what became of them.

    ``tied`` cannot be told from ``chosen``; ``trials`` are all preprocessings, best first;
    ``implied`` is the recognised trainer's, None where nobody is known; ``better_crops`` surely
    separate more than the network's own crop does.
    """

    chosen: Trial
    tied: tuple[Trial, ...]
    trials: tuple[Trial, ...]
    implied: Trial | None
    better_crops: tuple[Trial, ...]
    state: NormState
    people: int

    @property
    def crop(self) -> Trial:
        """The trial whose crop is exported: a better one only where the runtime can cut it."""
        able = [trial for trial in self.better_crops if trial.plan.template]
        return max(able, key=lambda trial: trial.found.d_prime, default=self.chosen)


def sentences(
    findings: Findings, *, fits_no_candidate: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (notes, warnings); every warning is among the notes.

    ``fits_no_candidate`` is the distance to BatchNorm's statistics, in nats, above which they fit
    none of the candidates.
    """
    warnings = [
        *_disagreement(findings),
        *_norms(findings, fits_no_candidate),
        *_crops(findings),
    ]
    notes = [_found(findings), *_ambiguity(findings), *warnings]
    return tuple(notes), tuple(warnings)


def _found(findings: Findings) -> str:
    chosen = findings.chosen
    left = {id(chosen), *(id(trial) for trial in findings.tied)}
    others = [trial for trial in findings.trials if id(trial) not in left]
    beside = ""
    if others:
        beside = (
            f"; the next, {others[0].candidate.name}, {others[0].found.d_prime:.2f} on "
            f"{others[0].faces}"
        )
    return (
        f"discovery on {chosen.faces} faces of {findings.people} people: preprocessing "
        f"{chosen.candidate.name}, d-prime {chosen.found.d_prime:.2f} "
        f"({chosen.found.low:.2f} to {chosen.found.high:.2f}){beside}"
    )


def _ambiguity(findings: Findings) -> list[str]:
    if not findings.tied:
        return []
    said = ", ".join(
        f"{trial.candidate.name} (mean cosine {agreement(trial, findings.chosen):.4f})"
        for trial in findings.tied
    )
    return [f"discovery cannot tell {findings.chosen.candidate.name} from {said}"]


def _disagreement(findings: Findings) -> list[str]:
    chosen, implied = findings.chosen, findings.implied
    if implied is None or same(chosen.candidate.preprocessing, implied.candidate.preprocessing):
        return []
    return [
        f"the recognised trainer prepares crops as {implied.candidate.name} "
        f"(d-prime {implied.found.d_prime:.2f}), but {chosen.candidate.name} separates people "
        f"better ({chosen.found.d_prime:.2f}): make sure who trained this network"
    ]


def _norms(findings: Findings, limit: float) -> list[str]:
    if findings.state is NormState.NEVER_TRAINED:
        return [
            "BatchNorm's running statistics stand as they begin, mean 0 and variance 1: they say "
            "nothing about the preprocessing, and the network may have been meant for the "
            "statistics of each batch"
        ]
    fitted = [trial for trial in findings.trials if trial.fit is not None]
    chosen = findings.chosen.fit
    if findings.state is not NormState.KEPT or chosen is None or not fitted:
        return []
    closest = min(fitted, key=lambda trial: trial.fit.distance if trial.fit else np.inf)
    least = closest.fit.distance if closest.fit else np.inf
    # Of all layers: in the first, one dead channel of 64 counts as much as all others together.
    of_faces = min(trial.fit.all_layers for trial in fitted if trial.fit)
    if of_faces > limit:
        return [
            f"BatchNorm's running statistics fit no candidate (least distance {of_faces:.2f} nats "
            "over all layers): they were not kept to the end of training, or the network was "
            "trained on other pictures"
        ]
    if chosen.distance > max(2 * least, least + 0.1):
        return [
            f"scores and BatchNorm's running statistics disagree: {closest.candidate.name} fits "
            f"the statistics best ({least:.2f} nats, the one found {chosen.distance:.2f})"
        ]
    return []


def _crops(findings: Findings) -> list[str]:
    if not findings.better_crops:
        return []
    best = max(findings.better_crops, key=lambda trial: trial.found.d_prime)
    figures = (
        f"{best.plan.name}, d-prime {best.found.d_prime:.2f} against "
        f"{findings.chosen.found.d_prime:.2f}"
    )
    if best is findings.crop:
        return [f"crops of another size separate people better, and were taken: {figures}"]
    return [
        f"another crop separates people better than the runtime's: {figures}: the trainer aligned "
        "faces in another way"
    ]

"""Finds out by measurement what a network's trainer did to the pictures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeface.alignment import ALIGNMENT_TEMPLATES
from edgeface.errors import ArchitectureError, GateFailedError
from edgeface.types import FloatArray
from edgeface_export.architectures.network import Network
from edgeface_export.discovery.candidates import Candidate, candidates, same
from edgeface_export.discovery.faces import CropPlan, LabelledFaces, crop_plans
from edgeface_export.discovery.norm_fit import NormState, norm_state
from edgeface_export.discovery.result import Discovery, Outcome, Tried
from edgeface_export.discovery.sentences import Findings, sentences
from edgeface_export.discovery.trials import Bench, Trial, agreement, halve, surely_worse
from edgeface_export.gates import measure_spread

__all__ = ["DiscoveryOptions", "discover"]

# Untrained networks reach 0.59 to 0.65 on aligned faces; recognisers under their own
# preprocessing more than 0.99, and 0.97 under a wrong one that does not ruin them
# (docs/discovery.md).
_LEAST_AUC = 0.80
# A fit to BatchNorm's statistics decides between tied candidates when it is better by this
# factor, by this many nats, and for all but one in forty resamples of the crops.
_FIT_FACTOR, _FIT_NATS = 1.5, 0.02
# The limit of the export's own gate on an activation set.
_LARGEST_FIT = 0.30
_FIRST_STAGE = 64
# With fewer crops than these in the budget, crops near the template are not tried.
_CROPS_FROM = 19 * _FIRST_STAGE + 5 * 2 * _FIRST_STAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryOptions:
    """How much to try: ``faces`` at most, for about ``budget_s``, on ``threads`` (0 is all).

    ``crops`` tells whether crops near the template are tried as well.
    """

    faces: int = 400
    budget_s: float = 150.0
    threads: int = 0
    crops: bool = True


def discover(
    network: Network,
    faces: LabelledFaces,
    *,
    tensors: Mapping[str, FloatArray] | None = None,
    assumed: bool = False,
    options: DiscoveryOptions | None = None,
) -> Discovery:
    """Return the preprocessing under which ``network`` separates ``faces`` best.

    ``network.preprocessing`` is what the recognised trainer implies, unless it is ``assumed``:
    then nothing is known of it, and it has no say between candidates that are tied. ``tensors``
    are the checkpoint's, for the counters of its BatchNorms.

    Raises:
        GateFailedError: Under no candidate does the network tell people apart: it is untrained,
            collapsed, or its BatchNorms never kept statistics. The message says which.
        InvalidInputError: No crop plan fits the network.
    """
    options, started = options or DiscoveryOptions(), time.monotonic()
    bench = Bench(network, faces.in_order(), threads=options.threads)
    plan, *others = crop_plans(network.crop_size)
    others += other_sizes(network)
    state = norm_state(network, tensors)
    trials = [Trial(entry, plan) for entry in _candidates(network, assumed)]
    sizes, with_crops = _stages(bench, trials[0], options)
    finalists = halve(bench, trials, sizes, always=lambda trial: trial is trials[0])
    _require_a_recogniser(finalists[0], state)
    tied = _tied(finalists, state)
    chosen = trials[0] if trials[0] in tied and not assumed else tied[0]
    crops = [Trial(chosen.candidate, other) for other in others] if with_crops else []
    best_crops = halve(bench, [chosen, *crops], sizes[-2:], always=lambda trial: trial is chosen)
    findings = Findings(
        chosen=chosen,
        tied=tuple(trial for trial in tied if trial is not chosen),
        trials=tuple(sorted(trials, key=lambda trial: (-trial.faces, -trial.found.d_prime))),
        implied=None if assumed else trials[0],
        better_crops=_better_crops(best_crops, chosen),
        state=state,
        people=len(set(bench.faces.people[: chosen.faces].tolist())),
    )
    return _discovery(network, findings, [chosen, *crops], time.monotonic() - started)


def other_sizes(network: Network) -> list[CropPlan]:
    """Return the plans of the runtime's templates for other sizes that ``network`` can read.

    A network that ends in a mean over all positions takes crops of any size; one with a global
    kernel or a matrix on all positions takes its own size alone. Where such a kernel still fits,
    on more than one position, the embedding is another one, of another length.
    """
    plans = []
    for size in dict.fromkeys(ALIGNMENT_TEMPLATES.values()):
        if size == network.crop_size:
            continue
        try:
            resized = replace(network, crop_size=size)
        except ArchitectureError:
            continue
        if resized.embedding_size != network.embedding_size:
            continue
        plans += [plan for plan in crop_plans(size) if plan.template]
    return plans


def _candidates(network: Network, assumed: bool) -> tuple[Candidate, ...]:
    return candidates(None if assumed else network.preprocessing)


def _stages(bench: Bench, trial: Trial, options: DiscoveryOptions) -> tuple[list[int], bool]:
    """Return on how many faces each round compares, and whether there is time for crop plans.

    Ten candidates are tried on the first faces, five on twice as many and three on all of them;
    then seven crop plans on twice the first and two on all.
    """
    most = min(options.faces, len(bench.faces.people))
    affordable = options.budget_s / max(bench.seconds_each(trial), 1e-6)
    with_crops = options.crops and affordable >= _CROPS_FROM
    first = _FIRST_STAGE if with_crops else _FIRST_STAGE // 2
    last = (affordable - 19 * first) / 5 if with_crops else (affordable - 9 * first) / 3
    last = int(np.clip(last, min(4 * first, most), most))
    return [min(first, last), min(2 * first, last), last], with_crops


def _tied(finalists: Sequence[Trial], state: NormState) -> list[Trial]:
    """Return the candidates that cannot be told from the best, best first."""
    best = finalists[0]
    tied = [
        trial
        for trial in finalists
        if trial.faces == best.faces and (trial is best or not surely_worse(trial, best))
    ]
    if state is not NormState.KEPT:
        return tied
    fitting = min(tied, key=lambda trial: trial.fit.distance if trial.fit else np.inf)
    return [trial for trial in tied if not fits_worse(trial, fitting)]


def fits_worse(trial: Trial, fitting: Trial) -> bool:
    """Return whether ``trial`` clearly fits BatchNorm's statistics less than ``fitting`` does."""
    if trial.fit is None or fitting.fit is None or trial is fitting:
        return False
    least = max(_FIT_FACTOR * fitting.fit.distance, fitting.fit.distance + _FIT_NATS)
    surely = float(np.quantile(trial.fit.draws - fitting.fit.draws, 0.025)) > 0
    return trial.fit.distance > least and surely


def _better_crops(finalists: Sequence[Trial], chosen: Trial) -> tuple[Trial, ...]:
    """Return the crop plans that surely separate more than the chosen candidate's."""
    return tuple(
        trial
        for trial in finalists
        if trial is not chosen and trial.faces == chosen.faces and surely_worse(chosen, trial)
    )


def _require_a_recogniser(best: Trial, state: NormState) -> None:
    spread, found = measure_spread(best.embeddings), best.found
    said = (
        f"under its best preprocessing, {best.candidate.name}, the network reaches an area under "
        f"the ROC curve of {found.auc:.3f} on {best.faces} faces (wanted {_LEAST_AUC:g}), a mean "
        f"score of {spread.mean_score:.2f} and an effective dimension of "
        f"{spread.effective_dimension:.1f}"
    )
    if found.auc >= _LEAST_AUC and spread.effective_dimension >= 2:
        return
    if state is NormState.NEVER_TRAINED:
        why = (
            "its BatchNorms stand as they begin, mean 0 and variance 1: it never ran in training "
            "mode, or was used with the statistics of each batch and cannot work alone. Run it "
            "over training pictures in training mode and save it again"
        )
    elif spread.mean_score > 0.9 or spread.effective_dimension < 2:
        why = "it gives nearly one embedding for every face: it has collapsed"
    else:
        why = "it does not tell people apart: it is untrained, or the photos are labelled wrongly"
    raise GateFailedError(f"discovery found no recogniser: {why} ({said})")


def _discovery(
    network: Network,
    findings: Findings,
    crops: Sequence[Trial],
    seconds: float,
) -> Discovery:
    chosen, implied = findings.chosen, findings.implied
    plan = findings.crop.plan
    notes, warnings = sentences(findings, fits_no_candidate=_LARGEST_FIT)
    preprocessing = chosen.candidate.preprocessing
    return Discovery(
        name=chosen.candidate.name,
        preprocessing=preprocessing,
        template=plan.template or network.alignment_template,
        crop_size=plan.size,
        implied="" if implied is None else implied.candidate.name,
        agrees=implied is None or same(preprocessing, implied.candidate.preprocessing),
        ambiguous=tuple(trial.candidate.name for trial in findings.tied),
        tried=tuple(_row(trial, findings) for trial in findings.trials),
        crops=tuple(_row(trial, findings) for trial in crops),
        faces=chosen.faces,
        people=findings.people,
        norms=findings.state,
        notes=notes,
        warnings=warnings,
        seconds=seconds,
    )


def _row(trial: Trial, findings: Findings) -> Tried:
    chosen, found, fit = findings.chosen, trial.found, trial.fit
    known = fit is not None and findings.state is NormState.KEPT
    full = trial.faces == chosen.faces
    if trial is chosen:
        outcome = Outcome.CHOSEN
    elif trial in findings.tied:
        outcome = Outcome.TIED
    else:
        outcome = _other(trial, findings) if full else Outcome.DROPPED
    return Tried(
        name=trial.candidate.name,
        crop=trial.plan.name,
        faces=trial.faces,
        d_prime=found.d_prime,
        low=found.low,
        high=found.high,
        auc=found.auc,
        first_layer=fit.first if fit is not None and known else None,
        all_layers=fit.all_layers if fit is not None and known else None,
        seconds=round(trial.seconds, 2),
        outcome=outcome,
        agreement=agreement(trial, chosen) if full else None,
    )


def _other(trial: Trial, findings: Findings) -> str:
    if trial is findings.crop:
        return Outcome.CHOSEN_CROP
    if trial in findings.better_crops:
        return Outcome.BETTER
    return Outcome.TIED if not surely_worse(trial, findings.chosen) else Outcome.WORSE

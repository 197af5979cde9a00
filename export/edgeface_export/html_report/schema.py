"""What ``report.json`` may hold for the page.

Every key is optional, and what is missing is left out. Lists are lists, tables are lists of
objects, numbers are finite; a number that is not is counted and said on the page, never drawn.
Keys that the page does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = [
    "Figures",
    "GateResult",
    "Interval",
    "LadderStep",
    "LayerSensitivity",
    "PairScores",
    "Quantised",
    "Report",
    "Speed",
    "Tar",
]


class _PairScores(TypedDict):
    before: list[float]
    after: list[float]


class PairScores(_PairScores, total=False):
    """Scores of the same pairs of crops: ``before`` in FP32, ``after`` in INT8; 2,000 at most.

    ``mated`` says of each pair whether it is mated; without it the pairs are drawn as one kind,
    and are pairs of the crops that measured INT8.
    """

    mated: list[bool]


class LayerSensitivity(TypedDict):
    """One layer: what it costs to run it in INT8.

    ``error`` is the mean of 1 - cosine to float when this layer alone is INT8. ``multiply_adds``
    counts those of one crop; the page shows the share of all. ``kept_float`` tells whether the
    artefact keeps the layer in float.
    """

    layer: str
    error: float
    multiply_adds: float
    kept_float: bool


class Speed(TypedDict):
    """The median time in ms that ``engine`` takes for one batch of ``batch`` crops.

    Ratios are within one (threads, batch). Plain FP32, which the others are compared with, is the
    first entry of ``artefact`` ``fp32`` there; a group without one is left out.
    """

    engine: str
    artefact: str
    threads: int
    batch: int
    ms: float


class _GateResult(TypedDict):
    gate: str
    figure: float
    limit: float
    passed: bool


class GateResult(_GateResult, total=False):
    """One gate. ``bound`` is ``at most`` or ``at least``, what ``limit`` asks of ``figure``.

    Without ``bound`` the end of ``sentence``, as in ``(at most 0.08)``, tells which it is.
    ``advice`` says what a failure means and what to do.
    """

    sentence: str
    bound: str
    advice: str


class _LadderStep(TypedDict):
    step: str
    cosine_mean: float
    cosine_p1: float


class LadderStep(_LadderStep, total=False):
    """One attempt, in the order of trying; ``passed`` tells whether it was good enough.

    ``failed`` has a sentence for each gate that was not passed.
    """

    passed: bool
    failed: list[str]


class Interval(TypedDict):
    """A 95 % confidence interval of a rate in 0..1."""

    low: float
    high: float


class _Tar(TypedDict):
    target_fmr: float
    tar: float | None


class Tar(_Tar, total=False):
    """The share of mated pairs accepted at ``target_fmr``; None where the data cannot tell."""

    interval: Interval | None
    threshold: float | None
    note: str


class Figures(TypedDict, total=False):
    """One artefact on labelled pairs, with the keys of ``VerificationReport.to_dict()``.

    ``det`` holds ``[fmr, fnmr]`` with the threshold rising; ``protocol`` names what was compared.
    """

    accuracy: float
    accuracy_interval: Interval | None
    tar: list[Tar]
    eer: float
    det: list[list[float]]
    n_mated: int
    n_non_mated: int
    protocol: str
    notes: list[str]


class Quantised(TypedDict, total=False):
    """How the INT8 artefact was made; ``kept_float`` maps layers to the reason."""

    data_free: bool
    int8_nodes: list[str]
    kept_float: Mapping[str, str]


class Report(TypedDict, total=False):
    """The keys of ``report.json`` that the page reads.

    ``cosines``
        cosine of the INT8 to the FP32 embedding, one for each crop that set no range.
    ``faces``
        whether these crops are pictures of real faces; by default, unless the export is data-free.
    ``activation_set``
        facts by name: numbers, texts, flags, or one level of such facts. Shown in their order.
    ``refusal``
        the sentence that ended an export which failed.
    ``discovery``
        how the preprocessing was found, as ``edgeface_export.discovery.Discovery.to_dict``.
    ``exported_at``
        time of the export, ISO 8601.
    ``speed_conditions``
        what the times were measured on, as a sentence.
    """

    layout: str
    preprocessing: str
    reasons: list[str]
    dropped: Mapping[str, int]
    figures: Mapping[str, float]
    gates: list[str]
    limits: Mapping[str, float]
    quantised: Quantised
    cosines: list[float]
    faces: bool
    pair_scores: PairScores
    sensitivity: list[LayerSensitivity]
    speed: list[Speed]
    speed_conditions: str
    gate_results: list[GateResult]
    ladder: list[LadderStep]
    verification: Mapping[str, Figures]
    activation_set: Mapping[str, Any]
    exported_at: str
    refusal: str
    discovery: Mapping[str, Any]

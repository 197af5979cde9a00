"""Candidates under way: each is embedded on more and more faces while it is still in the running.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): most wrong candidates are seen to be
wrong on a few dozen faces, so that only the likely ones are tried on all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgeface.types import FloatArray, ImageArray, Size
from edgeface_export.architectures.network import Network
from edgeface_export.discovery.candidates import Candidate
from edgeface_export.discovery.faces import CropPlan, LabelledFaces
from edgeface_export.discovery.network_probe import NetworkProbe
from edgeface_export.discovery.norm_fit import NormFit, fit_of
from edgeface_export.discovery.separation import Separation, difference, separate

__all__ = ["Bench", "Trial", "agreement", "halve", "surely_worse"]

WATCHED = 48
"""Crops on which BatchNorm's statistics are compared; more move the distance by less than 5 %."""
_TIMED = 16
# A candidate leaves the race when it is worse for all but one in a hundred resamples of people.
_DROP_LEVEL = 0.98
# The mean cosine of two candidates' embeddings from which on nothing that follows can tell them
# apart: INT8 changes embeddings ten times as much (docs/benchmarks.md).
_SAME_EMBEDDINGS = 0.9999


@dataclass(slots=True, eq=False)
class Trial:
    """One candidate under one crop plan, and what is known of it so far."""

    candidate: Candidate
    plan: CropPlan
    rows: list[FloatArray] = field(default_factory=list)
    separation: Separation | None = None
    fit: NormFit | None = None
    seconds: float = 0.0
    faces: int = 0

    @property
    def embedded(self) -> int:
        """Number of faces that there are embeddings of; ``faces`` of them were compared last."""
        return sum(len(part) for part in self.rows)

    @property
    def embeddings(self) -> FloatArray:
        """The (faces, size) unit rows that were compared."""
        return np.concatenate(self.rows)[: self.faces]

    @property
    def found(self) -> Separation:
        """Its separation on the faces so far; only after :meth:`Bench.extend`."""
        if self.separation is None:
            raise AssertionError("a trial is extended before it is compared")
        return self.separation


class Bench:
    """The faces in a fair order, their crops by each plan, and the network for each crop size."""

    def __init__(self, network: Network, faces: LabelledFaces, *, threads: int = 0) -> None:
        self._network = network
        self._threads = threads
        self._probes: dict[Size, NetworkProbe] = {}
        self.faces = faces
        self._crops: dict[str, ImageArray] = {}

    def seconds_each(self, trial: Trial) -> float:
        """Return what one crop takes, after a first run that pays for the set-up."""
        crops, took = self._cut(trial.plan, _TIMED), 0.0
        for _ in range(2):
            started = time.monotonic()
            self._probe(trial).embed(crops, trial.candidate.preprocessing)
            took = time.monotonic() - started
        return took / len(crops)

    def extend(self, trial: Trial, faces: int) -> None:
        """Compare ``trial`` on the first ``faces`` faces; none is embedded a second time."""
        started, done = time.monotonic(), trial.embedded
        probe = self._probe(trial)
        if done == 0 and probe.norms:
            crops = self._cut(trial.plan, min(WATCHED, faces))
            watched = probe.watch(crops, trial.candidate.preprocessing)
            trial.fit = fit_of(probe.norms, watched.moments)
            trial.rows.append(watched.rows)
            done = len(crops)
        if done < faces:
            crops = self._cut(trial.plan, faces)[done:]
            trial.rows.append(probe.embed(crops, trial.candidate.preprocessing))
        trial.faces = faces
        trial.separation = separate(trial.embeddings, self.faces.people[:faces])
        trial.seconds += time.monotonic() - started

    def _probe(self, trial: Trial) -> NetworkProbe:
        size = trial.plan.size
        if size not in self._probes:
            network = replace(self._network, crop_size=size)
            self._probes[size] = NetworkProbe(network, threads=self._threads)
        return self._probes[size]

    def _cut(self, plan: CropPlan, faces: int) -> ImageArray:
        have = self._crops.get(plan.name)
        done = 0 if have is None else len(have)
        if have is None or done < faces:
            more = self.faces.crops(plan, range(done, faces))
            have = self._crops[plan.name] = more if have is None else np.concatenate([have, more])
        return have[:faces]


def halve(
    bench: Bench,
    trials: Sequence[Trial],
    sizes: Sequence[int],
    *,
    always: Callable[[Trial], bool],
) -> list[Trial]:
    """Return the trials that were taken to the last of ``sizes``, best first.

    After each size but the last at most half of them stay, and none that is surely worse than the
    best; those for which ``always`` holds stay in any case.
    """
    running = list(trials)
    for number, faces in enumerate(sizes):
        for trial in running:
            bench.extend(trial, faces)
        running.sort(key=lambda trial: -trial.found.d_prime)
        if number < len(sizes) - 1:
            best, half = running[0], max(2, (len(running) + 1) // 2)
            running = [
                trial
                for rank, trial in enumerate(running)
                if always(trial) or (rank < half and not surely_worse(trial, best, _DROP_LEVEL))
            ]
    return running


def agreement(trial: Trial, chosen: Trial) -> float:
    """Return the mean cosine of the two candidates' embeddings of one crop."""
    first, second = (entry.embeddings.astype(np.float64) for entry in (trial, chosen))
    return float(np.nan_to_num((first * second).sum(axis=1)).mean())


def surely_worse(trial: Trial, best: Trial, level: float = 0.95) -> bool:
    """Return whether ``trial`` separates less than ``best``, both on as many faces.

    Never where both give the same embeddings: the difference may be sure and still be nothing.
    """
    if trial.plan.name == best.plan.name and agreement(trial, best) >= _SAME_EMBEDDINGS:
        return False
    return difference(trial.found, best.found, level)[1] < 0

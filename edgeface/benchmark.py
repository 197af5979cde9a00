"""Measures a bundle on this machine: each artefact, the whole path, the start, the memory.

Times of one machine mean little elsewhere; ratios of one run mean something. Artefacts therefore
take turns, round by round, so that whatever else the machine does slows all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeface.backends import open_backend
from edgeface.backends.base import Backend
from edgeface.backends.selection import runnable_pairs
from edgeface.bundle import Bundle
from edgeface.errors import BackendError
from edgeface.pipeline import Recognizer
from edgeface.types import ImageArray

__all__ = [
    "EngineFigures",
    "PathFigures",
    "StartFigures",
    "bench_engines",
    "bench_path",
    "bench_start",
]

_WARM_UP_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """One artefact at one thread count and batch size; times are of a whole batch."""

    artefact: str
    backend: str
    threads: int
    batch: int
    p50_ms: float
    p95_ms: float
    embeddings_per_s: float


@dataclass(frozen=True, slots=True)
class PathFigures:
    """The whole path over a clip: milliseconds of a frame, wall clock and processor."""

    frames: int
    faces: int
    p50_ms: float
    p95_ms: float
    cpu_ms_per_frame: float
    stages_mean_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class StartFigures:
    """A fresh process on ONNX Runtime: seconds until the first embedding, its largest memory."""

    artefact: str
    first_embedding_s: float
    peak_memory_mb: float


def bench_engines(
    bundle: Bundle,
    *,
    artefacts: Sequence[str] = (),
    threads: Sequence[int] = (1, 2),
    batches: Sequence[int] = (1, 8),
    rounds: int = 30,
) -> list[EngineFigures]:
    """Return the figures of every installed engine and artefact, in turns over ``rounds`` rounds.

    ``artefacts`` names those to measure, by default all.

    Raises:
        BackendError: An engine cannot run an artefact.
        MissingDependencyError: No engine is installed.
    """
    pairs = [pair for pair in runnable_pairs(bundle) if not artefacts or pair[1] in artefacts]
    figures = []
    for count in threads:
        backends = [
            open_backend(bundle, backend=engine, artefact=name, threads=count)
            for engine, name in pairs
        ]
        try:
            for batch in batches:
                crops = _noise(bundle, batch)
                times = _alternate(backends, crops, rounds)
                for backend, taken in zip(backends, times, strict=True):
                    p50, p95 = np.percentile(taken, [50, 95])
                    figures.append(
                        EngineFigures(
                            artefact=backend.artefact,
                            backend=backend.name,
                            threads=count,
                            batch=batch,
                            p50_ms=float(p50),
                            p95_ms=float(p95),
                            embeddings_per_s=batch * 1e3 / float(p50),
                        )
                    )
        finally:
            for backend in backends:
                backend.close()
    return figures


def _noise(bundle: Bundle, count: int) -> ImageArray:
    size = bundle.manifest.crop_size
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, size.height_px, size.width_px, 3), dtype=np.uint8)


def _alternate(backends: Sequence[Backend], crops: ImageArray, rounds: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in backends]
    for k in range(_WARM_UP_ROUNDS + rounds):
        for backend, taken in zip(backends, times, strict=True):
            started = time.perf_counter()
            backend.run(crops)
            if k >= _WARM_UP_ROUNDS:
                taken.append((time.perf_counter() - started) * 1e3)
    return times


def bench_path(recognizer: Recognizer, clip: str | Path, *, max_frames: int = 300) -> PathFigures:
    """Return the figures of the whole path over the first ``max_frames`` frames of ``clip``.

    Reading and decoding the clip is not counted.

    Raises:
        CameraError: The clip cannot be read.
    """
    totals: list[float] = []
    stages: dict[str, float] = {}
    faces = 0
    cpu_started = time.process_time()
    for result in recognizer.observe(clip):
        totals.append(sum(result.times_ms.values()))
        faces += len(result.observations)
        for stage, ms in result.times_ms.items():
            stages[stage] = stages.get(stage, 0.0) + ms
        if len(totals) >= max_frames:
            break
    if not totals:
        raise BackendError(f"no frame in {clip}; nothing was measured")
    p50, p95 = np.percentile(totals, [50, 95])
    return PathFigures(
        frames=len(totals),
        faces=faces,
        p50_ms=float(p50),
        p95_ms=float(p95),
        cpu_ms_per_frame=(time.process_time() - cpu_started) * 1e3 / len(totals),
        stages_mean_ms={stage: ms / len(totals) for stage, ms in stages.items()},
    )


_START = """
import json, re, resource, sys, time
from pathlib import Path
started = time.perf_counter()
import numpy as np
from edgeface.backends import open_backend
from edgeface.bundle import Bundle
bundle = Bundle.open(sys.argv[1])
backend = open_backend(bundle, backend="ort", artefact=sys.argv[2])
size = bundle.manifest.crop_size
backend.run(np.zeros((1, size.height_px, size.width_px, 3), np.uint8))
seconds = time.perf_counter() - started
# Linux keeps ru_maxrss of the process that started this one; VmHWM is this one's alone.
status = Path("/proc/self/status")
found = re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text()) if status.exists() else None
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak = int(found[1]) * 1024 if found else own * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([seconds, peak]))
"""


def bench_start(bundle: Bundle) -> list[StartFigures]:
    """Return for each artefact how a fresh process starts with it.

    Raises:
        BackendError: The process failed.
    """
    figures = []
    for entry in bundle.manifest.artefacts:
        command = [sys.executable, "-c", _START, str(bundle.path), entry.name]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise BackendError(f"a fresh process failed with {entry.name}: {last}")
        seconds, peak_bytes = json.loads(done.stdout)
        figures.append(StartFigures(entry.name, seconds, peak_bytes / 1e6))
    return figures

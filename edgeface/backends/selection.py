"""Which engine runs which artefact fastest on this device: measured once, then remembered.

Neither the name of a processor nor the machine that exported the bundle tells it: the order
changes with instruction sets, versions and threads. So every pair of an installed engine and an
artefact that suits it is run in turns for about a second, and the fastest is taken. The result
is kept in the user's cache under a key of all that it depends on.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from edgeface.backends.base import Backend
from edgeface.bundle import Bundle
from edgeface.errors import BackendError, InvalidInputError, MissingDependencyError
from edgeface.folders import cache_folder
from edgeface.types import ImageArray

__all__ = ["ENGINES", "Choice", "Engine", "Opener", "choose", "probe_crops", "runnable_pairs"]

T = TypeVar("T")
Opener: TypeAlias = Callable[[Bundle, str, str, int | None], Backend]
"""Opens a bundle with the engine and artefact of these names, and so many threads."""

_FORMAT = 1
_BUDGET_S = 1.5
_WARM_UP_ROUNDS, _MIN_ROUNDS, _MAX_ROUNDS = 2, 5, 50
# A remembered choice has a few hundred bytes; anything much larger is not ours.
_MAX_CACHE_BYTES = 1 << 16
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Engine:
    """What ``auto`` must know of an engine: its package, the extra with it, what it may run."""

    package: str
    extra: str
    artefacts: tuple[str, ...]


ENGINES: dict[str, Engine] = {
    # cpu-int8 is written in operators that only ONNX Runtime has; cpu-fp32 avoids weaknesses that
    # only ONNX Runtime has, and is slower than fp32 elsewhere.
    "ort": Engine("onnxruntime", "cpu", ("fp32", "cpu-fp32", "int8", "cpu-int8")),
    "openvino": Engine("openvino", "openvino", ("fp32", "int8")),
}
"""The engines that ``auto`` considers, and the artefacts that it considers with each."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine and an artefact, and why these.

    ``latency_ms`` is the median time of one crop by "engine/artefact", for those that were
    measured. ``left_out`` gives the reason for each that could not be. ``remembered`` is true
    when the figures are those of an earlier run on this device.
    """

    backend: str
    artefact: str
    reason: str
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    remembered: bool = False

    def __str__(self) -> str:
        """Return one line for people."""
        figures = sorted(self.latency_ms.items(), key=lambda entry: entry[1])
        shown = ", ".join(f"{name} {value:.2f} ms" for name, value in figures)
        missing = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
        parts = [f"{self.backend}/{self.artefact}: {self.reason}"]
        parts += [shown] if shown else []
        parts += [f"left out: {missing}"] if missing else []
        return "; ".join(parts)


def choose(
    bundle: Bundle,
    *,
    open_one: Opener,
    backend: str = "auto",
    artefact: str = "auto",
    threads: int | None = None,
) -> Choice:
    """Return the fastest engine and artefact of ``bundle`` on this device.

    What is named is kept to: ``backend="ort"`` compares artefacts on ONNX Runtime alone. INT8
    artefacts take part only in a bundle whose verdict is "passed". Where there is but one
    possibility nothing is measured.

    Raises:
        InvalidInputError: The engine named does not run the artefact named.
        BundleFormatError: The bundle has no artefact of the name.
        MissingDependencyError: No engine is installed that could run it.
        BackendError: Every possibility was tried and failed.
    """
    pairs = _pairs(bundle, backend, artefact)
    if len(pairs) == 1:
        return Choice(*pairs[0], reason=_only_reason(backend, artefact))
    remembered = _cache_path(bundle, pairs, threads)
    known = _read(remembered, pairs)
    if known is not None:
        return known
    choice = _measure(bundle, pairs, open_one, threads)
    _write(remembered, choice)
    return choice


def probe_crops(bundle: Bundle, count: int = 1) -> ImageArray:
    """Return ``count`` crops of noise in the bundle's size: (n, height, width, 3) uint8."""
    size = bundle.manifest.crop_size
    shape = (count, size.height_px, size.width_px, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def runnable_pairs(bundle: Bundle) -> list[tuple[str, str]]:
    """Return every (engine, artefact) of ``bundle`` that ``auto`` chooses among on this machine.

    Raises:
        MissingDependencyError: No engine is installed.
    """
    return _pairs(bundle, "auto", "auto")


def _pairs(bundle: Bundle, backend: str, artefact: str) -> list[tuple[str, str]]:
    names = [entry.name for entry in bundle.manifest.artefacts]
    if artefact != "auto":
        names = [bundle.artefact(artefact).name]
    elif bundle.manifest.verdict.status != "passed":
        names = [name for name in names if "int8" not in name]
    engines = _engines(backend)
    pairs = [(engine, name) for engine in engines for name in names if _suits(engine, name)]
    if pairs:
        return pairs
    if backend == "auto":
        _require_any_engine(names)
    raise InvalidInputError(
        f"the backend {backend!r} runs none of {', '.join(names) or 'no artefact'} of "
        f"{bundle.path.name}; name another artefact, or another backend"
    )


def _engines(backend: str) -> list[str]:
    """Return the engine named, installed or not; for ``auto`` those that are installed."""
    if backend != "auto":
        return [backend]
    return [name for name, engine in ENGINES.items() if _is_installed(engine.package)]


def _is_installed(package: str) -> bool:
    """Return whether ``package`` is there; it is not imported, which takes long."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:
        # Something that has no spec stands in sys.modules under that name.
        return False


def _suits(engine: str, artefact: str) -> bool:
    """Return whether the pair makes sense; an engine or artefact of no table is let through."""
    tabled = {name for entry in ENGINES.values() for name in entry.artefacts}
    if engine not in ENGINES or artefact in ENGINES[engine].artefacts:
        return True
    return artefact not in tabled and engine == next(iter(ENGINES))


def _require_any_engine(artefacts: Sequence[str]) -> None:
    """Refuse with the engine to install, if it is for want of one that nothing suits."""
    wanted = [
        engine
        for name, engine in ENGINES.items()
        if any(_suits(name, artefact) for artefact in artefacts)
    ]
    if wanted:
        raise MissingDependencyError(wanted[0].package, extra=wanted[0].extra)


def _only_reason(backend: str, artefact: str) -> str:
    named = [name for name in (backend, artefact) if name != "auto"]
    return f"named: {' and '.join(named)}" if len(named) == 2 else "the only one that can be run"


def _measure(
    bundle: Bundle, pairs: Sequence[tuple[str, str]], open_one: Opener, threads: int | None
) -> Choice:
    """Return the fastest of ``pairs``, run in turns so that a busy machine slows all alike."""
    failures: dict[tuple[str, str], Exception] = {}
    with _opened(bundle, pairs, open_one, threads, failures) as backends:
        times = _race(backends, probe_crops(bundle), failures)
    left_out = {_label(pair): str(failure) for pair, failure in failures.items()}
    if not times:
        raise BackendError(
            f"{bundle.path.name}: no engine here runs it: "
            + "; ".join(f"{name}: {why}" for name, why in left_out.items())
        )
    latency_ms = {_label(pair): float(np.median(taken)) * 1e3 for pair, taken in times.items()}
    best = min(times, key=lambda pair: latency_ms[_label(pair)])
    return Choice(*best, "the fastest of those measured here", latency_ms, left_out)


@contextmanager
def _opened(
    bundle: Bundle,
    pairs: Sequence[tuple[str, str]],
    open_one: Opener,
    threads: int | None,
    failures: dict[tuple[str, str], Exception],
) -> Iterator[dict[tuple[str, str], Backend]]:
    """Give the backends that can be opened, and close them; the others go into ``failures``."""
    backends: dict[tuple[str, str], Backend] = {}
    try:
        for pair in pairs:
            opened = _tried(partial(open_one, bundle, *pair, threads))
            if isinstance(opened, Exception):
                failures[pair] = opened
            else:
                backends[pair] = opened
        yield backends
    finally:
        for backend in backends.values():
            backend.close()


def _race(
    backends: Mapping[tuple[str, str], Backend],
    crops: ImageArray,
    failures: dict[tuple[str, str], Exception],
) -> dict[tuple[str, str], list[float]]:
    """Return seconds of each backend's runs; one that fails drops out, into ``failures``."""
    times: dict[tuple[str, str], list[float]] = {pair: [] for pair in backends}
    deadline = time.perf_counter() + _BUDGET_S
    for turn in range(_WARM_UP_ROUNDS + _MAX_ROUNDS):
        if turn >= _WARM_UP_ROUNDS + _MIN_ROUNDS and time.perf_counter() > deadline:
            break
        for pair in list(times):
            started = time.perf_counter()
            rows = _tried(partial(backends[pair].run, crops))
            if isinstance(rows, Exception):
                failures[pair] = rows
                del times[pair]
            elif turn >= _WARM_UP_ROUNDS:
                times[pair].append(time.perf_counter() - started)
    return times


def _tried(call: Callable[[], T]) -> T | Exception:
    """Return what ``call`` returns, or the failure of an engine, which ``auto`` reports."""
    try:
        return call()
    except (BackendError, MissingDependencyError) as exc:
        return exc


def _label(pair: tuple[str, str]) -> str:
    return "/".join(pair)


def _cache_path(bundle: Bundle, pairs: Sequence[tuple[str, str]], threads: int | None) -> Path:
    """Return where the choice between ``pairs`` is kept: a name of all that it depends on."""
    hashes = {entry.name: entry.sha256 for entry in bundle.manifest.artefacts}
    facts = {
        "format": _FORMAT,
        "model": bundle.manifest.model_id,
        "artefacts": sorted({name: hashes[name] for _, name in pairs}.items()),
        "engines": sorted({name: _engine_version(name) for name, _ in pairs}.items()),
        "processor": _processor(),
        "threads": threads,
        "pairs": sorted(pairs),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return cache_folder("choices") / f"{digest}.json"


def _engine_version(engine: str) -> str:
    entry = ENGINES.get(engine)
    try:
        return metadata.version(entry.package) if entry else ""
    except metadata.PackageNotFoundError:
        # Built from source, or installed under another name: the module's own name must do.
        return "unknown"


def _processor() -> str:
    """Return what is known of the processor: model, machine, and how many this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines: list[str] = []
    with suppress(OSError):
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    names = ("model name", "flags", "Features", "CPU part")
    told = sorted({line for line in lines if line.startswith(names)})
    return f"{platform.machine()} {platform.processor()} {usable} {' '.join(told)}"


def _read(path: Path, pairs: Sequence[tuple[str, str]]) -> Choice | None:
    """Return the remembered choice; None where there is none, or none that makes sense."""
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_MAX_CACHE_BYTES))
        pair = (data["backend"], data["artefact"])
        latency_ms = {str(name): float(value) for name, value in data["latency_ms"].items()}
        left_out = {str(name): str(why) for name, why in data["left_out"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Damaged or of another form: measured again and written anew.
        return None
    sane = pair in pairs and all(0 < value < float("inf") for value in latency_ms.values())
    if not sane or _label(pair) != min(latency_ms, key=lambda name: latency_ms[name], default=""):
        return None
    reason = "the fastest when measured here before"
    return Choice(*pair, reason, latency_ms, left_out, remembered=True)


def _write(path: Path, choice: Choice) -> None:
    """Keep ``choice``; where the cache cannot be written, the next start measures again."""
    data = {
        "backend": choice.backend,
        "artefact": choice.artefact,
        "latency_ms": dict(choice.latency_ms),
        "left_out": dict(choice.left_out),
    }
    part = path.with_name(f".{path.stem[:16]}.{secrets.token_hex(8)}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        part.replace(path)

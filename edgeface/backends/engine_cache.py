"""Built TensorRT engines, kept in the user's cache and believed only with their seal.

An engine fits one TensorRT version, one GPU and one driver, and is native code. It therefore
lives outside the bundle, under a key of all that it depends on, in a sealed file
(:mod:`edgeface.backends.sealed_file`). What does not fit is built and verified again; it is never
given to TensorRT.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgeface.backends.cuda_device import CudaDevice
from edgeface.backends.sealed_file import (
    Refusal,
    Sealed,
    read_sealed,
    user_key,
    write_sealed,
)
from edgeface.folders import cache_folder

__all__ = ["BatchProfile", "CachedEngine", "EngineCache", "EngineKey"]

_log = logging.getLogger("edgeface.tensorrt")
# Part of every key: raise it when an engine of an older release must not be used any more.
_FORMAT = 1
_ENGINE, _TIMING, _LOCK = ".engine", ".timing", ".lock"


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """The batch sizes an engine takes: smallest, the one it is tuned for, largest."""

    smallest: int = 1
    tuned: int = 1
    largest: int = 8

    def __str__(self) -> str:
        return f"{self.smallest}-{self.largest}, tuned for {self.tuned}"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that decides whether a built engine may be used.

    ``settings`` is what else the builder was told (:class:`~edgeface.backends.trt_build`).
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    gpu_uuid: str
    driver: str
    artefact_sha256: str
    precision: str
    profile: BatchProfile
    settings: str = ""

    @classmethod
    def of(
        cls,
        device: CudaDevice,
        *,
        tensorrt: str,
        artefact_sha256: str,
        precision: str,
        profile: BatchProfile,
        settings: str = "",
    ) -> EngineKey:
        """Return the key for ``device``."""
        return cls(
            tensorrt=tensorrt,
            gpu=device.name,
            compute_capability=device.compute_capability,
            gpu_uuid=device.uuid,
            driver=device.driver,
            artefact_sha256=artefact_sha256,
            precision=precision,
            profile=profile,
            settings=settings,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the key, as 64 hexadecimal digits: the name of its file."""
        return _digest({"format": _FORMAT, **asdict(self)})

    @property
    def origin(self) -> tuple[str, ...]:
        """What an engine cannot be used without: TensorRT, GPU, driver and artefact."""
        return (*self._machine, self.artefact_sha256)

    @property
    def timing_digest(self) -> str:
        """The same of what a timing cache depends on: TensorRT, GPU and driver."""
        return _digest({"format": _FORMAT, "machine": self._machine})

    @property
    def _machine(self) -> tuple[str, ...]:
        return (self.tensorrt, self.gpu, self.compute_capability, self.gpu_uuid, self.driver)


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine whose seal fits: its plan, and what was measured when it was built.

    ``figures`` has ``cosine_mean``, ``cosine_worst`` and, for INT8, ``loss_ratio`` (gate C),
    ``latency_ms`` (one crop) and ``batch_latency_ms`` (the largest batch).
    """

    plan: bytes
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A file of the cache; ``key`` is None, with a ``reason``, where it is not believed."""

    path: Path
    size_bytes: int
    key: Mapping[str, Any] | None
    figures: Mapping[str, float]
    reason: str = ""


class EngineCache:
    """The sealed engines of one folder, by default ``engines`` in the user's cache.

    Several processes may use it at once.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder("engines") if folder is None else folder

    def load(self, key: EngineKey) -> CachedEngine | Refusal:
        """Return the engine stored under ``key``, or why there is none to be used.

        Raises:
            BackendError: The key file is not this user's alone.
        """
        sealed = read_sealed(self._path(key.digest, _ENGINE), user_key(self.folder))
        if isinstance(sealed, Refusal):
            return sealed
        if sealed.header.get("key") != asdict(key):
            return Refusal("it belongs to another key")
        return _read_engine(sealed)

    def find(self, key: EngineKey) -> list[tuple[EngineKey, CachedEngine]]:
        """Return every believed engine of the artefact, GPU, driver and TensorRT of ``key``.

        Precision, profile and settings may be others. A file that is not believed is logged.

        Raises:
            BackendError: The key file is not this user's alone.
        """
        found = []
        for path in self._engines():
            sealed = read_sealed(path, user_key(self.folder))
            if isinstance(sealed, Refusal):
                _log.warning("an engine in the cache is not used: %s: %s", path.name, sealed)
                continue
            stored = _read_key(sealed)
            if stored is not None and stored.origin == key.origin:
                found.append((stored, _read_engine(sealed)))
        return found

    def replace(self, key: EngineKey, engine: CachedEngine) -> Path:
        """Return the file that holds ``engine``, now the only one of its artefact on this GPU.

        Raises:
            BackendError: The key file is not this user's alone.
        """
        older = [stored for stored, _ in self.find(key) if stored != key]
        path = self.store(key, engine)
        for stored in older:
            self._path(stored.digest, _ENGINE).unlink(missing_ok=True)
        return path

    def store(self, key: EngineKey, engine: CachedEngine) -> Path:
        """Return the file that now holds ``engine``; an older one is replaced.

        Raises:
            BackendError: The key file is not this user's alone.
        """
        path = self._path(key.digest, _ENGINE)
        header = {"key": asdict(key), "figures": dict(engine.figures)}
        write_sealed(path, header, engine.plan, user_key(self.folder))
        return path

    def load_timing(self, key: EngineKey) -> bytes:
        """Return TensorRT's own notes of earlier builds for this GPU, or no bytes."""
        sealed = read_sealed(self._path(key.timing_digest, _TIMING), user_key(self.folder))
        fits = isinstance(sealed, Sealed) and sealed.header == {"timing": key.timing_digest}
        return sealed.payload if fits and isinstance(sealed, Sealed) else b""

    def store_timing(self, key: EngineKey, content: bytes) -> None:
        """Keep TensorRT's notes of a build, which make the next one faster."""
        path = self._path(key.timing_digest, _TIMING)
        write_sealed(path, {"timing": key.timing_digest}, content, user_key(self.folder))

    @contextlib.contextmanager
    def building(self, key: EngineKey) -> Iterator[None]:
        """Hold the right to build for ``key``; a second process waits here until the first is done.

        Where the system has no file locks two processes may both build; the later file stays.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path(key.digest, _LOCK).open("wb") as file:
            try:
                import fcntl
            except ImportError:
                yield
                return
            # Closing the file gives the lock back, and so does the end of the process.
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def entries(self) -> list[CacheEntry]:
        """Return every engine file of the folder, believed or not, by name."""
        engines = self._engines()
        return [_entry(path, user_key(self.folder)) for path in engines]

    def clear(self) -> int:
        """Delete all engines and timing notes, and return how many files; the key stays."""
        found = [
            path
            for ending in (_ENGINE, _TIMING)
            for path in self.folder.glob(f"*{ending}")
            if path.is_file() or path.is_symlink()
        ]
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)

    def _engines(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{_ENGINE}")) if self.folder.is_dir() else []

    def _path(self, digest: str, ending: str) -> Path:
        return self.folder / f"{digest}{ending}"


def _read_key(sealed: Sealed) -> EngineKey | None:
    """Return the key in the header; None where another release wrote it."""
    try:
        facts = dict(sealed.header["key"])
        return EngineKey(**{**facts, "profile": BatchProfile(**facts["profile"])})
    except (KeyError, TypeError, ValueError):
        return None


def _read_engine(sealed: Sealed) -> CachedEngine:
    return CachedEngine(sealed.payload, sealed.header.get("figures", {}))


def _entry(path: Path, key: bytes) -> CacheEntry:
    size = path.lstat().st_size
    sealed = read_sealed(path, key)
    if isinstance(sealed, Refusal):
        return CacheEntry(path, size, None, {}, sealed.reason)
    return CacheEntry(path, size, sealed.header.get("key"), sealed.header.get("figures", {}))


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

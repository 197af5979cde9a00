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
import os
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

__all__ = ["BatchProfile", "CachedEngine", "EngineCache", "EngineKey", "engine_cache_folder"]

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
    def timing_digest(self) -> str:
        """The same of what a timing cache depends on: TensorRT, GPU and driver."""
        facts = asdict(self)
        names = ("tensorrt", "gpu", "compute_capability", "gpu_uuid", "driver")
        return _digest({"format": _FORMAT, **{name: facts[name] for name in names}})


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine whose seal fits: its plan, and what was measured when it was built.

    ``figures`` has ``cosine_mean``, ``cosine_worst`` (gate C) and ``latency_ms`` (one crop).
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


def engine_cache_folder() -> Path:
    """Return the folder of built engines; it need not exist.

    ``EDGEFACE_ENGINES``, else ``$XDG_CACHE_HOME/edgeface/engines``, else
    ``~/.cache/edgeface/engines``.
    """
    chosen = os.environ.get("EDGEFACE_ENGINES")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeface" / "engines"


class EngineCache:
    """The sealed engines of one folder. Several processes may use it at once."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = engine_cache_folder() if folder is None else folder

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
        return CachedEngine(sealed.payload, sealed.header.get("figures", {}))

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
        if not self.folder.is_dir():
            return []
        key = user_key(self.folder)
        return [_entry(path, key) for path in sorted(self.folder.glob(f"*{_ENGINE}"))]

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

    def _path(self, digest: str, ending: str) -> Path:
        return self.folder / f"{digest}{ending}"


def _entry(path: Path, key: bytes) -> CacheEntry:
    size = path.lstat().st_size
    sealed = read_sealed(path, key)
    if isinstance(sealed, Refusal):
        return CacheEntry(path, size, None, {}, sealed.reason)
    return CacheEntry(path, size, sealed.header.get("key"), sealed.header.get("figures", {}))


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

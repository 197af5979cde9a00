"""Where model files lie on this machine, and whether they are the right ones. No network here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

from edgeface.assets.table import Asset, known_asset
from edgeface.errors import AssetIntegrityError, AssetMissingError
from edgeface.folders import cache_folder

__all__ = [
    "AssetState",
    "FoundAsset",
    "asset_or_stand_in",
    "asset_path",
    "asset_state",
    "cache_folder",
    "cached_path",
    "file_sha256",
    "offline_folders",
    "offline_path",
]

_READ_BYTES = 1 << 20


class AssetState(str, Enum):
    """What is known of an asset on this machine."""

    CACHED = "cached"
    OFFLINE = "offline"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class FoundAsset:
    """An asset and the file that holds it; ``path`` is None when it is missing."""

    asset: Asset
    state: AssetState
    path: Path | None = None


def cached_path(asset: Asset) -> Path:
    """Return where the cache keeps ``asset``, whether it is there or not."""
    return cache_folder() / asset.name


def offline_folders() -> tuple[Path, ...]:
    """Return the folders that a user brings files in: they are read, never written.

    ``EDGEFACE_ASSETS`` and ``EDGEFACE_TEST_DATA``, each as it is and its ``models/mediapipe``.
    """
    bases = (os.environ.get(name) for name in ("EDGEFACE_ASSETS", "EDGEFACE_TEST_DATA"))
    roots = [Path(base).expanduser() for base in bases if base]
    return tuple(folder for root in roots for folder in (root, root / "models" / "mediapipe"))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of the file at ``path`` as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _checked_once(path: Path, modified_ns: int, size_bytes: int, expected: str) -> bool:
    """Return whether the file has the digest; once per process for each state of the file."""
    del modified_ns, size_bytes
    return file_sha256(path) == expected


def is_intact(asset: Asset, path: Path) -> bool:
    """Return whether the file at ``path`` holds exactly the pinned bytes of ``asset``."""
    facts = path.stat()
    if facts.st_size != asset.size_bytes:
        return False
    return _checked_once(path, facts.st_mtime_ns, facts.st_size, asset.sha256)


def _candidates(asset: Asset) -> Iterator[tuple[AssetState, Path]]:
    """Give every file that may be ``asset``: the cache, then the offline folders."""
    if cached_path(asset).is_file():
        yield AssetState.CACHED, cached_path(asset)
    for folder in offline_folders():
        for name in asset.file_names:
            if (folder / name).is_file():
                yield AssetState.OFFLINE, folder / name


def locate(asset: Asset) -> FoundAsset:
    """Return the first intact file of ``asset``; else the first damaged one; else "missing"."""
    damaged: Path | None = None
    for state, path in _candidates(asset):
        if is_intact(asset, path):
            return FoundAsset(asset, state, path)
        damaged = damaged or path
    return FoundAsset(asset, AssetState.DAMAGED if damaged else AssetState.MISSING, damaged)


def offline_path(asset: Asset) -> Path:
    """Return the intact file of ``asset`` in an offline folder.

    Raises:
        AssetMissingError: No offline folder is named, or none holds it.
        AssetIntegrityError: A file of that name is there and is not the pinned one.
    """
    if not offline_folders():
        raise AssetMissingError("EDGEFACE_ASSETS names no folder")
    files = [path for state, path in _candidates(asset) if state is AssetState.OFFLINE]
    for path in files:
        if is_intact(asset, path):
            return path
    if files:
        raise AssetIntegrityError(_damage(asset, files[0]))
    raise AssetMissingError(f"none of {_listed(offline_folders())} holds it")


def asset_state(name: str) -> FoundAsset:
    """Return what this machine has of the asset called ``name``; never raises for its absence."""
    return locate(known_asset(name))


def asset_path(name: str) -> Path:
    """Return the checked file of the asset called ``name``; never touches the network.

    Looks into the cache, then into the offline folders. Every file is compared with the pinned
    SHA-256, once per process as long as the file does not change.

    Raises:
        AssetMissingError: It is in none of these places.
        AssetIntegrityError: All that was found differs from the pinned file.
        InvalidInputError: There is no asset of that name.
    """
    found = asset_state(name)
    if found.path is None:
        raise AssetMissingError(_absence(found.asset))
    if found.state is AssetState.DAMAGED:
        raise AssetIntegrityError(_damage(found.asset, found.path))
    return found.path


def asset_or_stand_in(name: str) -> FoundAsset:
    """Return the asset called ``name``, or its stand-in when that alone is at hand.

    The result names the asset that was taken. A damaged file is an error, not a reason to take
    the stand-in.

    Raises:
        AssetMissingError: Neither is at hand.
        AssetIntegrityError: What was found differs from the pinned file.
    """
    found = asset_state(name)
    if found.state is AssetState.MISSING and found.asset.stand_in:
        stand_in = asset_state(found.asset.stand_in)
        found = found if stand_in.state is AssetState.MISSING else stand_in
    if found.state in (AssetState.MISSING, AssetState.DAMAGED):
        asset_path(found.asset.name)
    return found


def _listed(folders: tuple[Path, ...]) -> str:
    return ", ".join(str(folder) for folder in folders)


def _absence(asset: Asset) -> str:
    places = (cache_folder(), *offline_folders())
    return (
        f"the model file {asset.name} is in none of {_listed(places)}; "
        "run `edgeface assets fetch`, or set EDGEFACE_ASSETS to a folder that holds it"
    )


def _damage(asset: Asset, path: Path) -> str:
    return (
        f"{path} is not the model file {asset.name}: expected {asset.size_bytes} bytes with "
        f"SHA-256 {asset.sha256}; it was not used. Run `edgeface assets fetch`, or replace the file"
    )

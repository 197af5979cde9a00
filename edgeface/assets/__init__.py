"""Model files of the runtime: found on this machine, checked, and fetched when the user asks.

:func:`asset_path` is what the runtime calls; it never touches the network. :func:`fetch_asset`
is what ``edgeface assets fetch`` calls.
"""

from __future__ import annotations

from edgeface.assets.fetch import AssetFetcher, FetchOptions, FetchSource, fetch_asset
from edgeface.assets.store import (
    AssetState,
    FoundAsset,
    asset_or_stand_in,
    asset_path,
    asset_state,
    cache_folder,
    offline_folders,
)
from edgeface.assets.table import ASSETS, DEFAULT_ASSETS, Asset, WheelMember, known_asset

__all__ = [
    "ASSETS",
    "DEFAULT_ASSETS",
    "Asset",
    "AssetFetcher",
    "AssetState",
    "FetchOptions",
    "FetchSource",
    "FoundAsset",
    "WheelMember",
    "asset_or_stand_in",
    "asset_path",
    "asset_state",
    "cache_folder",
    "fetch_asset",
    "known_asset",
    "offline_folders",
]

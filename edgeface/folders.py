"""Where this user's cache of edgeface is."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]

_ASSETS = "assets"


def cache_folder(part: str = _ASSETS) -> Path:
    """Return the folder that ``part`` of the cache is kept in; it need not exist.

    ``$XDG_CACHE_HOME/edgeface/PART``, else ``~/.cache/edgeface/PART``. ``EDGEFACE_CACHE`` names
    the folder of the assets, which are the part that users bring themselves; other parts then
    are folders inside it.
    """
    chosen = os.environ.get("EDGEFACE_CACHE")
    if chosen:
        folder = Path(chosen).expanduser()
        return folder if part == _ASSETS else folder / part
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgeface" / part

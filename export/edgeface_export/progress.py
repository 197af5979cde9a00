"""The seam through which long work draws its bar."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

__all__ = ["Progress", "no_progress"]

Progress: TypeAlias = Callable[[str, Iterable[Any]], Iterable[Any]]
"""Takes a label and what is gone through; returns the same things, and may draw a bar."""


def no_progress(label: str, items: Iterable[Any]) -> Iterable[Any]:
    """Return ``items`` and draw nothing."""
    del label
    return items

"""The seam through which long work shows how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

__all__ = ["Progress", "silent"]

Progress: TypeAlias = Callable[[str, Iterable[Any]], Iterable[Any]]
"""Takes a label and what is gone through; returns the same things, and may draw a bar."""


def silent(label: str, items: Iterable[Any]) -> Iterable[Any]:
    """Return ``items`` and draw nothing."""
    del label
    return items

"""The seam for showing how far a long run is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

__all__ = ["Progress", "silent"]

T = TypeVar("T")


class Progress(Protocol):
    """Gives an iterator over ``items`` and shows how far it is; see ``edgeface.cli.console``."""

    def __call__(
        self, label: str, items: Iterable[T], *, total: int | None = None
    ) -> AbstractContextManager[Iterator[T]]:
        """Return a context that gives the iterator."""
        ...


@contextmanager
def silent(label: str, items: Iterable[T], *, total: int | None = None) -> Iterator[Iterator[T]]:
    """Give an iterator over ``items`` and show nothing."""
    del label, total
    yield iter(items)

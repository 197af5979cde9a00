"""What commands print with: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from edgeface.errors import EdgefaceError

__all__ = ["note", "print_error", "print_json", "print_line", "progress", "table"]

T = TypeVar("T")


def print_line(text: str = "") -> None:
    """Write one line of the result to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_json(value: Mapping[str, Any] | list[Any], *, indent: int | None = 2) -> None:
    """Write ``value`` to stdout as JSON; NaN and infinity are refused, never written."""
    print_line(json.dumps(value, indent=indent, allow_nan=False, default=str))


def note(text: str) -> None:
    """Write one line about the work to stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_error(error: EdgefaceError) -> None:
    """Write an error to stderr, on one line."""
    note(f"edgeface: {error}")


@contextmanager
def progress(label: str, items: Iterable[T], *, total: int | None = None) -> Iterator[Iterator[T]]:
    """Give an iterator over ``items`` that draws a bar on stderr when that is a terminal.

    Usage: ``with progress("embedding", crops) as bar: for crop in bar: ...``
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield iter(items)
        return
    from rich.console import Console
    from rich.progress import track

    yield iter(
        track(items, description=label, total=total, console=Console(stderr=True), transient=True)
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return ``rows`` under ``header`` as text in aligned columns, numbers to the right."""
    cells = [header, *rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            text.ljust(width) if k == 0 else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)

"""Visits as a table, for files that people open."""

from __future__ import annotations

from collections.abc import Iterable

from examples.attendance.spreadsheets import Table
from examples.attendance.values import ExportRow

__all__ = ["COLUMNS", "visit_table"]

COLUMNS = (
    "day",
    "number",
    "name",
    "arrived",
    "departed",
    "hours",
    "method",
    "camera",
    "corrections",
    "person_id",
    "visit_id",
)


def visit_table(rows: Iterable[ExportRow]) -> Table:
    """Return the rows under a heading."""
    cells = [tuple(getattr(row, name) for name in COLUMNS) for row in rows]
    return Table("attendance", COLUMNS, cells)

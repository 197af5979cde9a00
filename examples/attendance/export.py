"""Visits as a table for people: CSV and XLSX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from edgeface.errors import MissingDependencyError
from examples.attendance.values import ExportRow

__all__ = ["COLUMNS", "as_csv", "as_xlsx", "safe_cell"]

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
# A spreadsheet runs a text that begins so as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(value: object) -> Any:
    """Return ``value``, with an apostrophe before a text that a spreadsheet would run."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value


def as_csv(rows: Iterable[ExportRow]) -> str:
    """Return the rows as CSV with a heading; begin the file with a byte order mark for Excel."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    writer.writerows(_cells(row) for row in rows)
    return out.getvalue()


def as_xlsx(rows: Iterable[ExportRow]) -> bytes:
    """Return the rows as an XLSX workbook of one sheet.

    Raises:
        MissingDependencyError: ``openpyxl`` is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError as exc:
        raise MissingDependencyError("openpyxl", extra="web") from exc
    book = Workbook()
    sheet = book.active
    sheet.title = "attendance"
    sheet.append(COLUMNS)
    for row in rows:
        sheet.append(_cells(row))
    sheet.freeze_panes = "A2"
    for letter, width in zip("ABCDEFGHIJK", (12, 8, 24, 26, 26, 8, 9, 16, 11, 20, 34), strict=True):
        sheet.column_dimensions[letter].width = width
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _cells(row: ExportRow) -> list[Any]:
    return [safe_cell(getattr(row, name)) for name in COLUMNS]

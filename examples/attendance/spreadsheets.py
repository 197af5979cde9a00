"""Tables as CSV and XLSX files that a spreadsheet opens without running what names say."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from edgeface.errors import MissingDependencyError

__all__ = ["Cell", "Table", "as_csv", "as_xlsx", "inert"]

Cell: TypeAlias = str | int | float | None

# OWASP, "CSV Injection": what makes a spreadsheet take a text for a formula. Blanks before it
# are passed over by some of them.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Microsoft allows 31 characters, and none of these.
_TITLE_MOST = 31
_NOT_IN_TITLES = str.maketrans(dict.fromkeys("[]:*?/\\", " "))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under a header; ``title`` names the sheet."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]


def as_csv(table: Table) -> bytes:
    """Return the table as UTF-8 with a byte order mark, so that Excel reads accents rightly.

    A text that would be taken for a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([inert(cell) for cell in table.header])
    for row in table.rows:
        writer.writerow([inert(cell) for cell in row])
    return out.getvalue().encode("utf-8-sig")


def as_xlsx(table: Table) -> bytes:
    """Return the table as a workbook of one sheet; texts are cells of text, never formulas.

    Raises:
        MissingDependencyError: openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE
        from openpyxl.styles import Font
    except ImportError as exc:
        raise MissingDependencyError("openpyxl", extra="web") from exc
    book = Workbook()
    sheet = book.active
    sheet.title = table.title.translate(_NOT_IN_TITLES)[:_TITLE_MOST] or "1"
    for row_number, row in enumerate((table.header, *table.rows), start=1):
        for column, value in enumerate(row, start=1):
            cell = sheet.cell(row_number, column)
            if isinstance(value, str):
                cell.value = ILLEGAL_CHARACTERS_RE.sub("", value)
                cell.data_type = "s"
                cell.quotePrefix = _is_formula(value)
            else:
                cell.value = value
            if row_number == 1:
                cell.font = Font(bold=True)
    sheet.freeze_panes = "A2"
    for column, width in enumerate(_widths(table), start=1):
        sheet.column_dimensions[sheet.cell(1, column).column_letter].width = width
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _widths(table: Table) -> list[int]:
    columns = zip(table.header, *table.rows, strict=True)
    return [min(40, 2 + max(len(str(cell or "")) for cell in column)) for column in columns]


def _is_formula(text: str) -> bool:
    return text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)


def inert(cell: Any) -> Any:
    """Return ``cell``, with an apostrophe before a text that a spreadsheet would run."""
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell

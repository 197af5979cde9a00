"""The month: hours per day and person, as a page and as files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from examples.attendance.interface import MonthTable
from examples.attendance.spreadsheets import Table, as_csv, as_xlsx
from examples.attendance.web.charts import Bar, bar_chart
from examples.attendance.web.presenting import PersonCard, cards, month_of
from examples.attendance.web.views import language_of, render, site_of

__all__ = ["router"]

router = APIRouter()
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_COLUMNS = (
    *("day", "number", "name", "arrived", "departed", "hours"),
    *("method", "camera", "corrections", "person_id", "visit_id"),
)
_LEVELS = 4
_FULL_DAY_HOURS = 8.0


@dataclass(frozen=True, slots=True)
class MonthLine:
    """One person's month: hours and a level 0 to 4 of shading for each day."""

    card: PersonCard
    hours: tuple[float, ...]
    levels: tuple[int, ...]
    total: float
    days_present: int


@router.get("/month")
def month(request: Request, month: str = "") -> HTMLResponse:
    """Return the month as a table."""
    office, messages = site_of(request).office, language_of(request)
    today = office.today()
    first = min(month_of(month, today), today.replace(day=1))
    table = office.month(first.year, first.month)
    after = (first + timedelta(days=32)).replace(day=1)
    days = [first + timedelta(days=index) for index in range(table.days)]
    lines = _lines(table, cards(office.people(with_inactive=True)))
    bars = [
        Bar(
            str(day.day),
            sum(line.hours[index] for line in lines),
            messages.text(
                "month.bar",
                day=messages.day(day),
                hours=messages.hours(sum(line.hours[index] for line in lines)),
            ),
            is_marked=day == today,
        )
        for index, day in enumerate(days)
    ]
    return render(
        request,
        "month.html",
        month=first,
        days=days,
        today=today,
        lines=lines,
        before=(first - timedelta(days=1)).replace(day=1),
        after=after if after <= today else None,
        total=sum(line.total for line in lines),
        chart=bar_chart(bars, title=messages.text("month.chart"), unit=" h") if lines else "",
    )


@router.get("/month.csv")
def month_csv(request: Request, month: str = "") -> Response:
    """Return the visits of a month as CSV."""
    first, table = _visits(request, month)
    return _file(as_csv(table), "text/csv; charset=utf-8", f"attendance-{first:%Y-%m}.csv")


@router.get("/month.xlsx")
def month_xlsx(request: Request, month: str = "") -> Response:
    """Return the visits of a month as a workbook."""
    first, table = _visits(request, month)
    return _file(as_xlsx(table), _XLSX, f"attendance-{first:%Y-%m}.xlsx")


def _visits(request: Request, month: str) -> tuple[date, Table]:
    office, messages = site_of(request).office, language_of(request)
    first = month_of(month, office.today())
    last = (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    rows = [
        tuple(getattr(row, column) for column in _COLUMNS)
        for row in office.export_rows(first, last)
    ]
    header = tuple(messages.text(f"column.{column}") for column in _COLUMNS)
    return first, Table(messages.month(first), header, rows)


def _file(content: bytes, media_type: str, name: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


def _lines(table: MonthTable, known: dict[str, PersonCard]) -> list[MonthLine]:
    lines = []
    for row in table.rows:
        if row.person_id not in known:
            continue
        hours = tuple(row.seconds_by_day.get(day, 0.0) / 3600 for day in range(1, table.days + 1))
        lines.append(
            MonthLine(
                known[row.person_id],
                hours,
                tuple(_level(one) for one in hours),
                row.total_s / 3600,
                row.days_present,
            )
        )
    return lines


def _level(hours: float) -> int:
    if hours <= 0.0:
        return 0
    return min(_LEVELS, 1 + int(hours / _FULL_DAY_HOURS * (_LEVELS - 1)))

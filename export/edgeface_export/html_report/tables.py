"""Tables, and the small bars and marks that stand in their cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgeface_export.html_report.markup import join

__all__ = ["Column", "bar", "details", "span_bar", "state", "table"]

_STATES = {
    True: ("good", "M4 8.5l3 3 5.5-6.5"),
    False: ("bad", "M4.5 4.5l7 7m0-7l-7 7"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; ``kind`` holds ``number``, ``drawn``, ``code``, ``top`` or nothing."""

    head: str
    kind: str = ""


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Sequence[str]],
    *,
    stacked: bool = True,
) -> str:
    """Return ``rows`` of HTML cells under ``columns``; the first cell names its row.

    ``stacked`` puts the cells of a row under one another on a narrow screen.
    """
    heads = [
        f'<th role="columnheader" scope="col"{_class(column)}>{column.head}</th>'
        for column in columns
    ]
    body = [f'<tr role="row">{_cells(columns, cells, stacked)}</tr>' for cells in rows]
    # A wide table scrolls in its own box, which the keyboard can reach; the page never does. The
    # roles stay what they are when the style lays a row out as a box.
    return join(
        [
            f'<div class="wide" role="region" tabindex="0" aria-label="{caption}">',
            f'<table role="table"{" class=stacked" if stacked else ""}>',
            f"<caption>{caption}</caption>",
            f'<thead role="rowgroup"><tr role="row">{"".join(heads)}</tr></thead>',
            '<tbody role="rowgroup">',
            *body,
            "</tbody></table></div>",
        ]
    )


def _cells(columns: Sequence[Column], cells: Sequence[str], stacked: bool) -> str:
    first, *others = (
        f"{_class(column)}{_label(column) if stacked and k else ''}>{cell}"
        for k, (column, cell) in enumerate(zip(columns, cells, strict=True))
    )
    head = f'<th role="rowheader" scope="row"{first}</th>'
    return head + "".join(f'<td role="cell"{other}</td>' for other in others)


def _label(column: Column) -> str:
    return f' data-label="{column.head}"' if column.head else ""


def _class(column: Column) -> str:
    return f' class="{column.kind}"' if column.kind else ""


def details(summary: str, content: str) -> str:
    """Return ``content`` that is folded away under ``summary``, or nothing where it is empty."""
    if not content:
        return ""
    return f"<details><summary>{summary}</summary>\n{content}\n</details>"


def bar(share: float, kind: str, *, tick: float | None = None) -> str:
    """Return a bar over ``share`` of its cell in the style ``kind``, with a line at ``tick``."""
    line = "" if tick is None else f'<path class="tick" d="{_upright(tick, 16)}"/>'
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        '<svg class="cell" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" x="0" y="3" width="100" height="10"/>'
        f'<rect class="bar {kind}" x="0" y="3" width="{width:.2f}" height="10"/>{line}</svg>'
    )


def span_bar(low: float, high: float, ticks: Sequence[float]) -> str:
    """Return a line from ``low`` to ``high``, shares of the cell, with marks at its ends.

    The left end is hollow and the right one full; ``ticks`` are upright lines.
    """
    low, high = (100 * min(max(value, 0.0), 1.0) for value in (low, high))
    # Percentages, not a view box: circles stay round in a cell of any width.
    upright = [
        f'<line class="limit" x1="{100 * t:.2f}%" x2="{100 * t:.2f}%" y1="0" y2="18"/>'
        for t in ticks
    ]
    return (
        f'<svg class="cell span" height="18" aria-hidden="true">{"".join(upright)}'
        f'<line class="span" x1="{low:.2f}%" x2="{high:.2f}%" y1="9" y2="9"/>'
        f'<circle class="hollow" cx="{low:.2f}%" cy="9" r="4.5"/>'
        f'<circle class="mark" cx="{high:.2f}%" cy="9" r="4.5"/></svg>'
    )


def _upright(share: float, height: int) -> str:
    return f"M{100 * share:.2f} 0v{height}"


def state(passed: bool, words: tuple[str, str]) -> str:
    """Return a mark and the first of ``words`` where ``passed``, else the second."""
    kind, path = _STATES[passed]
    return (
        f'<span class="state {kind}"><svg viewBox="0 0 16 16" aria-hidden="true">'
        f'<path d="{path}"/></svg>{words[0 if passed else 1]}</span>'
    )

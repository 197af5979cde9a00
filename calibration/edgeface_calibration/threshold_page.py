"""A threshold report as one page of HTML that loads nothing and runs no script."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from edgeface_calibration.search_points import SearchPoint, ThresholdFigures
from edgeface_calibration.threshold_plots import draw_searches, draw_trade_off
from edgeface_calibration.threshold_report import ThresholdReport, interval_text, rate_text

__all__ = ["render_thresholds"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .8rem 0 .3rem; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #8886; }
th:first-child, td:first-child, td.words, th.words { text-align: left; }
td { white-space: nowrap; }
td.note { white-space: normal; text-align: left; font-size: .88rem; padding-left: 2rem; }
tr:has(+ tr > td.note) > td { border-bottom: 0; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; opacity: .8; }
img { max-width: 100%; height: auto; background: #fff; }
.beyond { color: #b45309; font-weight: 600; }
.none { color: #b91c1c; font-weight: 600; }
.small { font-size: .88rem; opacity: .85; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { .beyond { color: #fbbf24; } .none { color: #f87171; } }
"""
_READING = (
    (
        "FPIR",
        "the share of searches of people who are not enrolled that return somebody. It grows with "
        "the number enrolled, so a threshold holds for galleries up to a size.",
    ),
    (
        "FNIR",
        "the share of searches of enrolled people that do not name them first with an accepted "
        "score.",
    ),
    (
        "FMR, FNMR",
        "the same two mistakes in one comparison of a face with one enrolled person.",
    ),
    (
        "95 % interval",
        "what drawing other people for this test would change, found by drawing people (not "
        "scores) again and again. It says nothing of another camera, light or age group.",
    ),
    (
        "beyond the data",
        "more people are enrolled than anybody was compared with; the rate is an estimate, carried "
        "on from what was counted (stretched) or from a fit to the highest scores (extreme-value "
        "fit).",
    ),
)


def render_thresholds(report: ThresholdReport) -> str:
    """Return the page of ``report``.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    title = f"Thresholds of {report.bundle}"
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{_text(title)}</h1>",
            *_summary(report),
            *(line for figures in report.artefacts for line in _artefact(figures)),
            "<h2>Error trade-off of single comparisons</h2>",
            _picture(draw_trade_off(report.artefacts), "FNMR over FMR; dots are the points above."),
            "<h2>How to read this</h2><dl>",
            *(f"<dt><b>{_text(a)}</b></dt><dd>{_text(b)}</dd>" for a, b in _READING),
            "</dl>",
            "</body></html>",
            "",
        ]
    )


def _summary(report: ThresholdReport) -> Iterable[str]:
    first = report.artefacts[0]
    yield (
        f"<p>{_text(report.protocol)}: {first.n_faces:,} faces of {first.n_people:,} people, "
        f"{len(report.faces_not_found):,} pictures without a face. "
        f"{report.options.templates} reference(s) of each person; "
        f"{report.options.n_resamples:,} resamples of people.</p>"
    )
    if report.options.cautious:
        yield (
            "<p>Cautious: the whole interval of each threshold, not its measured rate, stays at or "
            "below the target.</p>"
        )
    yield f'<p class="small">Model {_text(report.model_id)}</p>'


def _artefact(figures: ThresholdFigures) -> Iterable[str]:
    yield f"<h2>Artefact {_text(figures.artefact)}</h2>"
    yield _table(
        "Searches",
        ("enrolled up to", "FPIR aimed at", "threshold", "FPIR", "95 % interval", "FNIR"),
        figures.searches,
        with_size=True,
    )
    yield _picture(
        draw_searches(figures),
        "Rates over the threshold; dots with bars are the thresholds above with their intervals, "
        "hollow ones lie beyond the data.",
    )
    yield _table(
        f"Single comparisons: {figures.n_non_mated:,} of different people, "
        f"{figures.n_mated:,} of the same",
        ("FMR aimed at", "threshold", "FMR", "95 % interval", "FNMR"),
        figures.comparisons,
        with_size=False,
    )
    if figures.n_twins:
        yield f"<p>{_text(figures.twins_note)}</p>"
    if figures.cohort is not None:
        yield f"<p>{_text(figures.cohort.sentence)}</p>"


def _table(
    caption: str, header: Sequence[str], points: Sequence[SearchPoint], *, with_size: bool
) -> str:
    heads = "".join(f'<th scope="col">{_text(name)}</th>' for name in header)
    rows = "".join(_row(point, with_size=with_size) for point in points)
    return (
        f'<div class="scroll"><table><caption>{_text(caption)}</caption><thead><tr>{heads}'
        f'<th scope="col">95 % interval</th><th scope="col" class="words">evidence</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _row(point: SearchPoint, *, with_size: bool) -> str:
    kind = "none" if point.threshold is None else "beyond" if point.is_extrapolated else ""
    cells = [f"{point.gallery_size:,}"] if with_size else []
    cells += [
        rate_text(point.target),
        "-" if point.threshold is None else f"{point.threshold:.4f}",
        rate_text(point.fpir),
        interval_text(point.fpir_interval),
        rate_text(point.fnir),
        interval_text(point.fnir_interval),
    ]
    inner = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    words = f'<td class="words"><span class="{kind}">{_text(point.evidence)}</span></td>'
    row = f"<tr>{inner}{words}</tr>"
    if point.note:
        row += f'<tr><td class="note" colspan="{len(cells) + 1}">{_text(point.note)}</td></tr>'
    return row


def _picture(svg: str, caption: str) -> str:
    data = base64.b64encode(svg.encode()).decode()
    return (
        f'<figure><img alt="{_text(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _text(value: str) -> str:
    return html.escape(value, quote=True)

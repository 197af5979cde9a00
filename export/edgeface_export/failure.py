"""The report of an export that failed: no bundle, but what was tried, and what was found."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeface.bundle import Manifest
from edgeface_export.html_report import render_report

__all__ = ["report_path", "write_report"]

_BUNDLE_SUFFIX = ".edgeface"


def report_path(output: Path, wanted: Path | None = None) -> Path:
    """Return where the page of a failed export goes: ``wanted``, or beside the bundle.

    For ``model.edgeface`` that is ``model.failed-report.html``; the figures go beside it, as JSON.
    """
    if wanted is not None:
        return wanted
    stem = output.name[: -len(_BUNDLE_SUFFIX)] if output.suffix == _BUNDLE_SUFFIX else output.name
    return output.with_name(f"{stem or output.name}.failed-report.html")


def write_report(page: Path, report: Mapping[str, Any], manifest: Manifest) -> tuple[Path, Path]:
    """Return the page at ``page`` and the JSON file beside it, both written."""
    page.parent.mkdir(parents=True, exist_ok=True)
    figures = page.with_suffix(".json")
    text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False) + "\n"
    _replace(figures, text)
    _replace(page, render_report(report, manifest))
    return page, figures


def _replace(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step, so that no half of a report is ever seen."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

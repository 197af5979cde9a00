"""The report of a bundle as one page of HTML that loads nothing, for people to look at."""

from __future__ import annotations

from edgeface_export.html_report.page import render_report

__all__ = ["render_report"]

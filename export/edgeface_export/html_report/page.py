"""The whole page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from edgeface.manifest import Manifest
from edgeface_export.html_report.discovery import discovery_section
from edgeface_export.html_report.evidence import evidence_section
from edgeface_export.html_report.facts import (
    exported_section,
    gates_section,
    notes_section,
    operating_points_section,
    provenance_section,
)
from edgeface_export.html_report.layers import ladder_section, sensitivity_section
from edgeface_export.html_report.markup import join, text
from edgeface_export.html_report.speed import speed_section
from edgeface_export.html_report.verdict import head

__all__ = ["CONTENT_POLICY", "render_report"]

# Nothing is loaded and nothing runs, whatever a name in a checkpoint may hold.
CONTENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_LONGEST_TITLE = 80


def render_report(report: Mapping[str, Any], manifest: Manifest) -> str:
    """Return the page for ``report``, as ``report.json`` holds it, and ``manifest``.

    The keys that are looked at are in :class:`edgeface_export.html_report.schema.Report`. What is
    missing is left out. The page is UTF-8, loads nothing and has no script.

    Raises:
        InvalidInputError: A key holds something of another kind.
    """
    body = join(
        [
            head(report, manifest),
            "<main>",
            exported_section(report, manifest),
            discovery_section(report),
            evidence_section(report, manifest, sensitivity_section(report), speed_section(report)),
            gates_section(report),
            ladder_section(report),
            operating_points_section(manifest),
            notes_section(report, manifest),
            provenance_section(report, manifest),
            "</main>",
            _foot(manifest),
        ]
    )
    return (
        join(
            [
                "<!DOCTYPE html>",
                '<html lang="en-GB">',
                _meta(manifest),
                f"<body>\n{body}",
                "</body>",
                "</html>",
                "",
            ]
        )
        + "\n"
    )


def _meta(manifest: Manifest) -> str:
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return join(
        [
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            # Without it a browser that shows the page from a server asks for one.
            '<link rel="icon" href="data:,">',
            f"<title>{text(manifest.name, longest=_LONGEST_TITLE)}: edgeface report</title>",
            f"<style>\n{style}</style>",
            "</head>",
        ]
    )


def _foot(manifest: Manifest) -> str:
    version = manifest.tools.get("edgeface", "")
    made = f"edgeface {text(version)}" if version else "edgeface"
    return (
        f"<footer><p>Made by {made}. This page loads nothing and runs no script: it can be kept, "
        "sent and printed as it is.</p></footer>"
    )

"""Whether edgeface works on this machine: every stage is run, and what is found is said.

    for finding in examine(DoctorOptions(source="0")):
        print(finding.state.value, finding.name, finding.got)

Nothing is changed on the machine, and no name of an enrolled person is read.
"""

from __future__ import annotations

from edgeface.doctor.examination import DoctorOptions, DoctorReport, examine
from edgeface.doctor.findings import CheckState, Finding
from edgeface.doctor.report import Redaction, as_markdown, as_text

__all__ = [
    "CheckState",
    "DoctorOptions",
    "DoctorReport",
    "Finding",
    "Redaction",
    "as_markdown",
    "as_text",
    "examine",
]

"""Turns a trained face backbone into a verified bundle: ONNX, INT8 ONNX, manifest, report.

Needs the ``export`` extra. Checkpoints are parsed, never unpickled; see
:mod:`edgeface_export.checkpoints`.
"""

from __future__ import annotations

from edgeface_export.dispatch import export_model
from edgeface_export.exporter import ExportOptions, ExportResult, export_checkpoint
from edgeface_export.inspection import Inspection, inspect_checkpoint
from edgeface_export.pad_export import PadExportOptions, PadExportResult

__all__ = [
    "ExportOptions",
    "ExportResult",
    "Inspection",
    "PadExportOptions",
    "PadExportResult",
    "export_checkpoint",
    "export_model",
    "inspect_checkpoint",
]

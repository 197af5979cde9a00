"""What ``edgeface export`` prints for a network for presentation attack detection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeface.cli.console import print_json, print_line

if TYPE_CHECKING:
    from edgeface_export.pad_export import PadExportResult

__all__ = ["print_pad_export"]


def print_pad_export(result: PadExportResult, *, as_json: bool) -> None:
    """Print what was made and proved."""
    manifest = result.bundle.manifest
    if as_json:
        print_json(
            {
                "bundle": str(result.bundle.path),
                "task": manifest.task,
                "model_id": manifest.model_id,
                "artefacts": {entry.name: entry.size_bytes for entry in manifest.artefacts},
                "verdict": manifest.verdict.status,
                "box_scale": manifest.box_scale,
                "classes": list(manifest.classes),
                "gates": [gate.sentence for gate in result.gates],
                "notes": list(manifest.verdict.notes),
                "report": result.report,
                "seconds": round(result.seconds, 2),
            }
        )
        return
    layout, size = result.recognition.layout, manifest.crop_size
    sizes = ", ".join(f"{a.name} {a.size_bytes / 1e6:.1f} MB" for a in manifest.artefacts)
    lines = [
        f"{result.bundle.path}",
        f"  task       {manifest.task}",
        f"  model      {layout.architecture} by {layout.trainer}, {layout.loss}",
        f"  crop       {size.height_px}x{size.width_px} (height x width), "
        f"{manifest.box_scale:g} times the face's box, {result.recognition.network.preprocessing}",
        f"  classes    {', '.join(manifest.classes)}",
        f"  artefacts  {sizes}",
        f"  verdict    {manifest.verdict.status}",
        *(f"    {gate.sentence}" for gate in result.gates),
        *(f"  note       {text}" for text in manifest.verdict.notes),
        f"  took       {result.seconds:.1f} s",
    ]
    print_line("\n".join(lines))

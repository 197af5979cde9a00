"""``edgeface inspect``: what a model file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.cli.console import print_json, print_line
from edgeface.cli.model_options import (
    ArchOption,
    PrototxtOption,
    SizeOption,
    TrustCodeOption,
    intake,
)
from edgeface.cli.needs import need_export

if TYPE_CHECKING:
    from edgeface_export.inspection import Inspection

__all__ = ["inspect"]


def inspect(
    file: Annotated[Path, typer.Argument(help="Checkpoint, safetensors or ONNX file.")],
    *,
    prototxt: PrototxtOption = None,
    size: SizeOption = None,
    arch: ArchOption = "",
    trust_code: TrustCodeOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a model file is, without running anything in it unless that is asked for.

    Exit code 0 when `edgeface export` can export it, 1 when it was read but cannot be exported.
    """
    need_export()
    from edgeface_export.inspection import inspect_checkpoint

    found = inspect_checkpoint(file, intake(prototxt, size, arch, trust_code))
    if as_json:
        print_json(found.to_dict())
    else:
        print_line(render(found))
    if not found.exportable:
        raise typer.Exit(1)


def render(found: Inspection) -> str:
    """Return ``found`` as lines for people."""
    rows = [
        ("file", f"{found.file}, {found.size_bytes:,} bytes, sha256 {found.sha256[:16]}…"),
        ("kind", _kind(found)),
        ("holds", f"{found.tensors} tensors, {found.parameters:,} numbers"),
        ("also holds", ", ".join(f"{k} = {v}" for k, v in list(found.scalars.items())[:6])),
        ("classes not run", ", ".join(found.foreign_classes)),
        ("note", "; ".join(found.notes)),
    ]
    if found.exportable:
        rows += _network_rows(found)
    rows.append(("export", "yes" if found.exportable else "no"))
    rows += [("because" if k == 0 else "", reason) for k, reason in enumerate(found.reasons)]
    return "\n".join(f"{label:<16}{text}" for label, text in rows if text)


def _kind(found: Inspection) -> str:
    whole = f", a whole pickled module of class {found.root_class}" if found.whole_module else ""
    return found.format + whole


def _network_rows(found: Inspection) -> list[tuple[str, str]]:
    dropped = [f"{kind}: {count} ({first} …)" for kind, count, first in found.dropped]
    return [
        ("stripped", f"prefix {found.prefix!r}" if found.prefix else ""),
        ("wrapper keys", ", ".join(found.wrappers)),
        ("architecture", f"{found.architecture}, layout {found.layout}"),
        ("trainer", found.trainer + (f", {found.loss} loss" if found.loss else "")),
        (
            "crop",
            f"{found.crop_height_px}x{found.crop_width_px} (height x width), "
            + (
                f"aligned to {found.alignment_template}"
                if found.alignment_template
                else "a piece of the frame around the face, not aligned"
            ),
        ),
        ("preprocessing", found.preprocessing),
        (found.output.replace("-", " "), f"{found.embedding_size} values"),
        (
            "size",
            f"{found.network_parameters:,} parameters, "
            f"{found.multiply_adds / 1e6:.0f} million multiply-adds",
        ),
        ("dropped", "; ".join(dropped)),
    ]

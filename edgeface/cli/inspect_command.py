"""``edgeface inspect``: what a model file is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

_MAX_SCALARS = 6
_OF_OPTIMISER = re.compile(r"param_groups|optimi[sz]er|lr_scheduler", re.IGNORECASE)
_NORMS = {
    "kept": "running statistics kept",
    "never trained": "running statistics as they begin: never trained, or reset",
}


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
    """Return ``found`` as a page for people."""
    sections = [("File", _file_rows(found))]
    if found.exportable:
        sections += [
            ("Network", _network_rows(found)),
            ("Training", _training_rows(found)),
            ("Left out", [(kind, _counted(n, first)) for kind, n, first in found.dropped]),
        ]
    reasons = [("because" if k == 0 else "", reason) for k, reason in enumerate(found.reasons)]
    sections.append(("Export", [("export", "yes" if found.exportable else "no"), *reasons]))
    return "\n\n".join(_section(title, rows) for title, rows in sections if any(t for _, t in rows))


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    width = max(20, *(len(label) + 2 for label, _ in rows))
    below = "\n" + " " * (width + 2)
    lines = [f"  {label:<{width}}" + text.replace("\n", below) for label, text in rows if text]
    return "\n".join([title, *lines])


def _file_rows(found: Inspection) -> list[tuple[str, str]]:
    whole = f", a whole pickled module of class {found.root_class}" if found.whole_module else ""
    told = {name: value for name, value in found.scalars.items() if not _OF_OPTIMISER.search(name)}
    shown = [f"{name} = {value}" for name, value in list(told.items())[:_MAX_SCALARS]]
    more = len(told) - len(shown)
    return [
        ("file", f"{found.file}, {found.size_bytes:,} bytes, sha256 {found.sha256[:16]}…"),
        ("kind", found.format + whole),
        ("holds", f"{found.tensors} tensors, {found.parameters:,} numbers"),
        ("also holds", ", ".join(shown) + (f" and {more} more" if more else "")),
        ("classes not run", ", ".join(found.foreign_classes)),
        ("note", "; ".join(found.notes)),
    ]


def _network_rows(found: Inspection) -> list[tuple[str, str]]:
    aligned = (
        f"aligned to {found.alignment_template}"
        if found.alignment_template
        else "a piece of the frame around the face, not aligned"
    )
    crop = f"{found.crop_height_px}x{found.crop_width_px} (height x width), {aligned}"
    size = (
        f"{found.network_parameters:,} parameters, "
        f"{found.multiply_adds / 1e6:.0f} million multiply-adds"
    )
    return [
        ("architecture", f"{found.architecture}, layout {found.layout}"),
        ("crop", crop),
        ("preprocessing", found.preprocessing),
        (found.output.replace("-", " "), f"{found.embedding_size} values"),
        ("size", size),
        ("found under", f"prefix {found.prefix!r}" if found.prefix else ""),
        ("wrapper keys", ", ".join(found.wrappers)),
        ("weights", "a moving average" if found.averaged else ""),
        ("BatchNorm", _NORMS.get(found.batch_norm, "")),
    ]


def _training_rows(found: Inspection) -> list[tuple[str, str]]:
    training = found.training
    rows = [("trainer", found.trainer + (f", {found.loss} loss" if found.loss else ""))]
    if not training.get("loss"):
        return [*rows, ("loss", "not known: name it with --loss" if training else "")]
    unit = "unit length" if training["unit_rows"] else "any length"
    flip = training["flip"]
    length = "tells the quality of the picture; not seen by the runtime"
    return [
        *rows,
        ("loss", f"{training['loss']}, {training['known_from']}"),
        ("compared by", f"{training['metric']} of rows of {unit}{_equivalence(training)}"),
        ("test features", "" if flip == "none" else f"{flip} of crop and mirror image: --flip"),
        ("row length", length if training["length_is_quality"] else ""),
    ]


def _equivalence(training: dict[str, Any]) -> str:
    if training["metric"] == "cosine":
        return ""
    if training["unit_rows"]:
        return ", the same as the score s: d * d = 2 - 2 * s"
    return "; the bundle compares directions alone"


def _counted(count: int, first: str) -> str:
    return f"{count}, {first}" + (" …" if count > 1 else "")

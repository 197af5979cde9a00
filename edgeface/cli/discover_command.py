"""``edgeface discover``: which preprocessing a network was trained with, by measurement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeface.cli.console import print_json, print_line, table
from edgeface.cli.discover_faces import load_faces
from edgeface.cli.model_options import (
    ArchOption,
    PrototxtOption,
    SizeOption,
    TrustCodeOption,
    intake,
)
from edgeface.cli.needs import need_cpu, need_export
from edgeface.cli.shared_options import JsonOption

if TYPE_CHECKING:
    from edgeface_export.discovery import Discovery, Tried

__all__ = ["discover", "render"]


def discover(
    file: Annotated[Path, typer.Argument(help="Checkpoint of a trained face backbone.")],
    photos: Annotated[
        Path,
        typer.Argument(help="Folder of photos for each person, or a list of pairs; 200 faces."),
    ],
    *,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images that a list names [the list's].")
    ] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="Five points for each image. Without it faces are detected."),
    ] = None,
    prototxt: PrototxtOption = None,
    size: SizeOption = None,
    arch: ArchOption = "",
    trust_code: TrustCodeOption = False,
    budget: Annotated[float, typer.Option(help="Seconds that it may take, about.")] = 150.0,
    as_json: JsonOption = False,
) -> None:
    """Find out which colour order, normalisation and crop a network was trained with.

    Each is tried on the same faces; the one that tells people apart best is taken, with what
    cannot be told from it. Nothing in the checkpoint is run, unless `--arch` or `--trust-code`
    say so, and nothing is written. Exit code 1 when the network tells nobody apart.
    """
    need_export()
    need_cpu()
    from edgeface_export.discovery import DiscoveryOptions
    from edgeface_export.discovery import discover as search
    from edgeface_export.intake.opening import open_model

    opened = open_model(file, intake(prototxt, size, arch, trust_code))
    found = search(
        opened.recognition.network,
        load_faces(photos, images, landmarks),
        tensors={name: tensor.array for name, tensor in opened.checkpoint.tensors.items()},
        assumed=opened.recognition.assumed,
        options=DiscoveryOptions(budget_s=budget),
    )
    if as_json:
        print_json(found.to_dict())
    else:
        print_line(render(found))


def render(found: Discovery) -> str:
    """Return what was found as lines for people."""
    header = ["preprocessing", "faces", "d-prime", "95 %", "AUC", "first", "layers", "s", "outcome"]
    lines = [
        f"preprocessing   {found.name}",
        f"crop            {found.crop_size.height_px}x{found.crop_size.width_px}, "
        f"{found.template or 'no template of the runtime'}",
        f"measured on     {found.faces} faces of {found.people} people, {found.seconds:.0f} s",
        f"trainer's       {found.implied or 'not known'}"
        + ("" if found.agrees else ", which is not what fits"),
        f"BatchNorm       {found.norms.value}",
        *(f"warning         {text}" for text in found.warnings),
        *(f"note            {text}" for text in found.notes if text not in found.warnings),
        "",
        table(header, [_row(entry.name, entry) for entry in found.tried]),
    ]
    if len(found.crops) > 1:
        lines += ["", table(["crop", *header[1:]], [_row(e.crop, e) for e in found.crops])]
    return "\n".join(lines)


def _row(name: str, entry: Tried) -> list[str]:
    return [
        name,
        str(entry.faces),
        f"{entry.d_prime:.2f}",
        f"{entry.low:.2f}..{entry.high:.2f}",
        f"{entry.auc:.4f}",
        *_nats((entry.first_layer, entry.all_layers)),
        f"{entry.seconds:.1f}",
        entry.outcome,
    ]


def _nats(values: Sequence[float | None]) -> list[str]:
    return ["" if value is None else f"{value:.3f}" for value in values]

"""Options of commands that read a model file: what the file does not say of its network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from edgeface_export.intake.opening import Intake

__all__ = ["ArchOption", "PrototxtOption", "SizeOption", "TrustCodeOption", "intake"]

_PANEL = "Facts about the model"
_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})")

PrototxtOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Description of the network of Caffe weights [the .prototxt beside them].",
        rich_help_panel=_PANEL,
    ),
]
SizeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Height and width of the crops of an ONNX graph that leaves them open, or of a module "
        "of your own [112x112].",
        rich_help_panel=_PANEL,
    ),
]
ArchOption: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="PACKAGE.MODULE:FACTORY",
        help="Function without arguments that returns your torch.nn.Module for the tensors of the "
        "file. It is imported and run.",
        rich_help_panel=_PANEL,
    ),
]
TrustCodeOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Let torch run the code inside of a TorchScript or .pt2 file.",
        rich_help_panel=_PANEL,
    ),
]


def intake(prototxt: Path | None, size: str | None, arch: str, trust_code: bool) -> Intake:
    """Return what was typed about a model file.

    Raises:
        BadParameter: The size is written in another way.
    """
    from edgeface.types import Size
    from edgeface_export.intake.opening import Intake

    sides = None
    if size is not None:
        found = _SIZE.fullmatch(size)
        if found is None or not all(int(side) for side in found.groups()):
            raise typer.BadParameter(
                f"{size!r} must be height x width, such as 112x96", param_hint="--size"
            )
        sides = Size(int(found[2]), int(found[1]))
    return Intake(description=prototxt, size=sides, arch=arch, trust_code=trust_code)

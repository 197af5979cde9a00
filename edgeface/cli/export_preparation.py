"""What ``edgeface export`` is told, or shall find out, about how crops are prepared."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgeface.cli.discover_faces import load_faces
from edgeface.cli.needs import need_cpu

if TYPE_CHECKING:
    from edgeface_export.preparation import FaceLoader, Preparation

__all__ = ["discovery_faces", "preparation"]


def discovery_faces(
    photos: Path | None, images: Path | None, landmarks: Path | None
) -> FaceLoader | None:
    """Return what loads the faces of a discovery, None where none is asked for."""
    if photos is None:
        if images is not None or landmarks is not None:
            raise typer.BadParameter("these are for --discover", param_hint="--discover-*")
        return None
    need_cpu()
    return partial(load_faces, photos, images, landmarks)


def preparation(
    preprocessing: str | None, loss: str | None, flip: str, faces: FaceLoader | None
) -> Preparation:
    """Return what was said about the model, and where the faces of a discovery are.

    Raises:
        InvalidInputError: The preprocessing is written in another way.
    """
    from edgeface_export.discovery import parse_preprocessing
    from edgeface_export.graph.mirror import CONCATENATE, NONE, SUM
    from edgeface_export.preparation import Preparation

    if flip not in (NONE, SUM, CONCATENATE):
        known = f"{NONE}, {SUM} or {CONCATENATE}"
        raise typer.BadParameter(f"must be {known}", param_hint="--flip")
    said = None if preprocessing is None else parse_preprocessing(preprocessing)
    return Preparation(preprocessing=said, loss=loss, flip=flip, faces=faces)

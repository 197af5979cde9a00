"""``edgeface gallery``: who is enrolled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import print_json, print_line, table
from edgeface.cli.shared_options import DEFAULT_GALLERY, BundleOption, GalleryOption, JsonOption
from edgeface.errors import GalleryFormatError
from edgeface.gallery import SqliteGallery

__all__ = ["gallery_app"]

gallery_app = typer.Typer(help="See and remove enrolled people.", no_args_is_help=True)


def _open(gallery: Path, model: Path) -> SqliteGallery:
    if not gallery.exists():
        raise GalleryFormatError(f"no gallery at {gallery}; `edgeface enrol` makes one")
    manifest = Bundle.open(model).manifest
    return SqliteGallery.open(
        gallery, model_id=manifest.model_id, embedding_size=manifest.embedding_size, create=False
    )


@gallery_app.command("list")
def list_people(
    *, model: BundleOption, gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False
) -> None:
    """List the enrolled people."""
    with _open(gallery, model) as opened:
        people = opened.subjects()
    if as_json:
        print_json([asdict(person) for person in people])
        return
    rows = [[p.name, str(p.template_count), p.created_at] for p in people]
    print_line(
        table(["name", "templates", "enrolled (UTC)"], rows) if rows else "nobody is enrolled"
    )


@gallery_app.command("remove")
def remove_person(
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    *,
    model: BundleOption,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Remove a person and their templates."""
    with _open(gallery, model) as opened:
        opened.remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        print_line(f"removed {name}")

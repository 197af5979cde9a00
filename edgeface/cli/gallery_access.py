"""How commands get at a gallery: its file, its key, and what they say about both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import note
from edgeface.errors import GalleryFormatError, GalleryKeyError
from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.gallery.key_sources import Passphrase

__all__ = [
    "InsecureKeyOption",
    "PassphraseFileOption",
    "gallery_keys",
    "new_passphrase",
    "open_gallery",
]

InsecureKeyOption = Annotated[
    bool,
    typer.Option(
        "--insecure-key-file",
        envvar="EDGEFACE_INSECURE_KEY_FILE",
        help="Accept a plain file for the key of a new gallery: it protects copies of the "
        "gallery, and nothing from who can read this disk.",
    ),
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="Read the passphrase from the first line of this file; - is stdin.",
    ),
]
_MAX_PASSPHRASE_BYTES = 4096


def gallery_keys(
    *, insecure_key_file: bool = False, passphrase_file: Path | None = None
) -> KeyOptions:
    """Return where the key of a gallery may be; a passphrase is asked for at a terminal."""
    return KeyOptions(
        ask_passphrase=_passphrase_asker(passphrase_file, "of the gallery"),
        insecure_key_file=True if insecure_key_file else None,
        source="passphrase" if passphrase_file is not None else None,
    )


def new_passphrase(passphrase_file: Path | None, what: str) -> Passphrase:
    """Return the passphrase for ``what``, asked for at a terminal or read from a file.

    Raises:
        GalleryKeyError: There is neither.
    """
    ask = _passphrase_asker(passphrase_file, what)
    if ask is None:
        raise GalleryKeyError(
            f"a passphrase {what} is needed and there is no terminal to ask at; give "
            "--passphrase-file FILE"
        )
    return Passphrase(ask)


def open_gallery(
    gallery: Path, model: Path | None, keys: KeyOptions | None = None
) -> SqliteGallery:
    """Return the gallery at the path; with ``model``, it must belong to that bundle.

    Raises:
        GalleryFormatError: There is none.
        GalleryError: It cannot be opened, or belongs to another model.
    """
    if not gallery.exists():
        raise GalleryFormatError(f"no gallery at {gallery}; `edgeface enrol` makes one")
    keys = keys or gallery_keys()
    if model is None:
        opened = SqliteGallery.open_existing(gallery, keys=keys)
    else:
        manifest = Bundle.open(model).manifest
        opened = SqliteGallery.open(
            gallery,
            model_id=manifest.model_id,
            embedding_size=manifest.embedding_size,
            create=False,
            keys=keys,
        )
    for text in opened.notices:
        note(text)
    return opened


def _passphrase_asker(file: Path | None, what: str) -> Callable[[bool], str | None] | None:
    if file is not None:
        return lambda _new: _first_line(file)
    if not sys.stdin.isatty():
        return None
    return lambda new: typer.prompt(
        f"{'New passphrase' if new else 'Passphrase'} {what}",
        hide_input=True,
        confirmation_prompt=new,
        err=True,
    )


def _first_line(file: Path) -> str:
    if str(file) == "-":
        text = sys.stdin.readline(_MAX_PASSPHRASE_BYTES)
    else:
        try:
            with file.open(encoding="utf-8") as opened:
                text = opened.readline(_MAX_PASSPHRASE_BYTES)
        except (OSError, UnicodeDecodeError) as exc:
            raise GalleryKeyError(f"the passphrase file {file} cannot be read: {exc}") from exc
    return text.rstrip("\r\n")

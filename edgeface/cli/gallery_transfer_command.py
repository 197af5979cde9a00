"""``edgeface gallery export``, ``import``, ``backup``, ``restore`` and ``rekey``."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from edgeface.cli.console import note, print_json, print_line
from edgeface.cli.gallery_access import (
    InsecureKeyOption,
    PassphraseFileOption,
    gallery_keys,
    new_passphrase,
    open_gallery,
)
from edgeface.cli.shared_options import DEFAULT_GALLERY, GalleryOption, JsonOption
from edgeface.errors import GalleryError, GalleryKeyError, InvalidInputError
from edgeface.gallery.backup import back_up, restore, set_key_source
from edgeface.gallery.transfer import person_as_dict, read_archive, write_archive

__all__ = ["back_up_gallery", "export_people", "import_people", "rekey", "restore_gallery"]

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write here instead of to the screen.")
]
_NO_PASSPHRASE = (
    "this backup opens with the key of this device alone; add --with-passphrase for one that "
    "outlives it"
)


def export_people(
    name: Annotated[str, typer.Argument(help="Name of the person; leave out with --all.")] = "",
    *,
    everybody: Annotated[
        bool, typer.Option("--all", help="Everybody, as an archive encrypted with a passphrase.")
    ] = False,
    templates: Annotated[
        bool, typer.Option("--templates", help="With the vectors of the person's templates.")
    ] = False,
    output: OutputOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export what is kept about a person as JSON, or everybody as an encrypted archive."""
    if everybody == bool(name):
        raise InvalidInputError("name one person, or give --all")
    with open_gallery(gallery, None) as opened:
        if not everybody:
            value = person_as_dict(opened.vault, name, with_templates=templates)
            if output is None:
                print_json(value)
                return
            from json import dumps

            _write_new(output, (dumps(value, indent=2) + "\n").encode())
        else:
            if output is None:
                raise InvalidInputError("an archive needs a file to be written to: --output FILE")
            secret = new_passphrase(passphrase_file, "of the archive")
            _write_new(output, write_archive(opened.vault, secret))
    _say({"written": str(output)}, f"wrote {output}", as_json=as_json)


def import_people(
    archive: Annotated[Path, typer.Argument(help="Archive of `edgeface gallery export --all`.")],
    *,
    gallery: GalleryOption = DEFAULT_GALLERY,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take everybody of an archive into the gallery. Exit code 1 if a name was taken already."""
    with open_gallery(gallery, None) as opened:
        secret = new_passphrase(passphrase_file, "of the archive")
        try:
            done = read_archive(opened.vault, archive, secret)
        except OSError as exc:
            raise GalleryError(f"the archive {archive} cannot be read: {exc}") from exc
    if as_json:
        print_json({"added": list(done.added), "left_out": list(done.left_out)})
    else:
        print_line(f"added {len(done.added)} people")
        for name in done.left_out:
            print_line(f"left out, since the name is taken: {name}")
    if done.left_out:
        raise typer.Exit(1)


def back_up_gallery(
    target: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    *,
    with_passphrase: Annotated[
        bool,
        typer.Option("--with-passphrase", help="Let a passphrase open the backup as well."),
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an encrypted copy of the whole gallery, while others may use it."""
    wanted = with_passphrase or passphrase_file is not None
    with open_gallery(gallery, None) as opened:
        secret = new_passphrase(passphrase_file, "of the backup") if wanted else None
        back_up(opened.vault, target, _now(), secret)
    if not wanted:
        note(_NO_PASSPHRASE)
    _say({"backup": str(target)}, f"wrote {target}", as_json=as_json)


def restore_gallery(
    backup: Annotated[Path, typer.Argument(help="File of `edgeface gallery backup`.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the gallery that is there.")
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of the gallery; who was forgotten since stays forgotten."""
    keys = gallery_keys(passphrase_file=passphrase_file)
    done = restore(backup, gallery, keys, replace=replace)
    aside = None if done.set_aside is None else str(done.set_aside)
    if as_json:
        print_json(
            {"people": done.people, "forgotten_again": done.forgotten_again, "set_aside": aside}
        )
        return
    print_line(f"restored {done.people} people to {gallery}")
    if done.forgotten_again:
        print_line(f"{done.forgotten_again} were left out: they were forgotten since")
    if aside is not None:
        note(f"the damaged gallery was set aside as {aside}")


def rekey(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="systemd-credential, jetson-op-tee, desktop-keyring, passphrase or key-file. "
            "[default: the best that is here]",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Let the key stay in its other places too.")
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the key of the gallery to another place."""
    with open_gallery(gallery, None) as opened:
        keys = gallery_keys(insecure_key_file=insecure_key_file, passphrase_file=passphrase_file)
        wanted = [one for one in keys.for_new() if source in (None, one.name)]
        for place in wanted:
            try:
                set_key_source(opened.vault, place, keep_others=keep)
            except GalleryKeyError:
                if source is not None or place is wanted[-1]:
                    raise
                continue
            _say({"key": place.name}, f"the key is kept in: {place.name}", as_json=as_json)
            return
    raise GalleryKeyError(
        f"there is no such place for the key here ({source or 'none that protects it'}); a plain "
        "file needs --insecure-key-file"
    )


def _write_new(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that must not exist: it holds people's data."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        raise GalleryError(f"{path} cannot be written: {exc.strerror}") from exc


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _say(value: dict[str, str], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print_line(text)

"""``edgeface gallery sync`` and ``fleet-key``: one gallery on many devices."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.bundle import Bundle
from edgeface.cli.console import note, print_json, print_line
from edgeface.cli.gallery_access import (
    InsecureKeyOption,
    PassphraseFileOption,
    gallery_keys,
    open_gallery,
)
from edgeface.cli.shared_options import (
    DEFAULT_GALLERY,
    BundleOption,
    GalleryOption,
    JsonOption,
    bundle_or_default,
)
from edgeface.errors import FleetUnavailableError, GalleryKeyError
from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.gallery.fleet import (
    FleetGallery,
    MilvusAddress,
    MilvusServer,
    SyncReport,
    make_key_file,
    read_key_file,
)
from edgeface.gallery.fleet.gallery import membership

__all__ = ["make_fleet_key", "sync_gallery"]

_DEFAULT_TIMEOUT_S = 10.0
_MAX_TOKEN_BYTES = 4096


def make_fleet_key(
    file: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Make the key of a fleet, once; bring the file to every device on a safe way.

    Who has it can read everybody whom the fleet's server keeps.
    """
    key = make_key_file(file)
    if as_json:
        print_json({"written": str(file), "fleet": key.fleet_id})
    else:
        print_line(f"wrote {file}: the key of fleet {key.fleet_id[:12]}")


def sync_gallery(
    *,
    fleet: Annotated[
        str,
        typer.Option(
            "--fleet",
            envvar="EDGEFACE_FLEET",
            help="Address of the Milvus of the fleet: https://HOST:19530, or a file NAME.db.",
        ),
    ],
    fleet_key: Annotated[
        Path | None,
        typer.Option(
            "--fleet-key", help="Key of the fleet; the gallery keeps it after the first time."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File with user:password, or an API key, of the server. "
            "[default: EDGEFACE_FLEET_TOKEN]",
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", help="Wait no longer for an answer.")
    ] = _DEFAULT_TIMEOUT_S,
    every_s: Annotated[
        float | None, typer.Option("--every-s", min=0.1, help="Go on, this long apart.")
    ] = None,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="The server lost rows or was put back on purpose: write there what is here.",
        ),
    ] = False,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    insecure_key_file: InsecureKeyOption = False,
    passphrase_file: PassphraseFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Exchange the gallery with those of other devices. Exit code 1 if the server is not reached.

    The gallery works without the server, and is made where there is none.
    """
    address = MilvusAddress(uri=fleet, token=_token(token_file), timeout_s=timeout_s)
    if address.notice:
        note(address.notice)
    keys = gallery_keys(insecure_key_file=insecure_key_file, passphrase_file=passphrase_file)
    key = None if fleet_key is None else read_key_file(fleet_key)
    with _open(gallery, model, keys) as replica:
        member = membership(replica, key)
        server = MilvusServer(address, member.key, replica.model_id)
        with FleetGallery(replica, server) as opened:
            _say(opened.sync(accept_loss=accept_loss), as_json=as_json)
            while every_s is not None:
                time.sleep(every_s)
                _again(opened, as_json=as_json)


def _again(opened: FleetGallery, *, as_json: bool) -> None:
    try:
        report = opened.sync()
    except FleetUnavailableError as exc:
        note(str(exc))
        return
    if report.changed_something:
        _say(report, as_json=as_json)


def _open(gallery: Path, model: Path | None, keys: KeyOptions) -> SqliteGallery:
    if gallery.exists():
        return open_gallery(gallery, model, keys)
    manifest = Bundle.open(bundle_or_default(model)).manifest
    opened = SqliteGallery.open(
        gallery, model_id=manifest.model_id, embedding_size=manifest.embedding_size, keys=keys
    )
    for text in opened.notices:
        note(text)
    return opened


def _token(file: Path | None) -> str:
    if file is None:
        return os.environ.get("EDGEFACE_FLEET_TOKEN", "")
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.readline(_MAX_TOKEN_BYTES).strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise GalleryKeyError(f"the token file {file} cannot be read: {exc}") from exc


def _say(report: SyncReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict(), indent=None)
        return
    for line in _lines(report):
        print_line(line)
    for name in report.renamed:
        note(f"somebody else has that name; one of the two is now {name}")
    if report.waiting:
        note(f"{report.waiting} people changed here meanwhile; run it again")


def _lines(report: SyncReport) -> list[str]:
    counts: dict[str, Any] = {
        "new people": report.added,
        "changed people": report.changed,
        "new templates": report.templates,
        "forgotten people": report.forgotten,
    }
    sent: dict[str, Any] = {
        "people": report.sent,
        "templates": report.sent_templates,
        "forgotten people": report.sent_forgotten,
    }
    lines = []
    for what, values in (("received", counts), ("sent", sent)):
        said = ", ".join(f"{count} {name}" for name, count in values.items() if count)
        lines.append(f"{what}: {said or 'nothing'}")
    return lines

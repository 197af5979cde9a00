"""``edgeface gallery``: who is enrolled, and everything that is done with the file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.cli.console import note, print_json, print_line, table
from edgeface.cli.gallery_access import open_gallery
from edgeface.cli.gallery_enrol_command import enrol_folder, enrol_person
from edgeface.cli.gallery_fleet_command import make_fleet_key, sync_gallery
from edgeface.cli.gallery_migrate_command import migrate
from edgeface.cli.gallery_transfer_command import (
    back_up_gallery,
    export_people,
    import_people,
    rekey,
    restore_gallery,
)
from edgeface.cli.shared_options import DEFAULT_GALLERY, BundleOption, GalleryOption, JsonOption
from edgeface.errors import InvalidInputError
from edgeface.gallery import Receipt, SqliteGallery
from edgeface.gallery.forgetting import is_genuine

__all__ = ["gallery_app"]

gallery_app = typer.Typer(
    help="Enrol, see, move and forget people; keep the gallery.", no_args_is_help=True
)
gallery_app.command("enrol")(enrol_person)
gallery_app.command("enrol-folder")(enrol_folder)
gallery_app.command("export")(export_people)
gallery_app.command("import")(import_people)
gallery_app.command("backup")(back_up_gallery)
gallery_app.command("restore")(restore_gallery)
gallery_app.command("rekey")(rekey)
gallery_app.command("migrate")(migrate)
gallery_app.command("sync")(sync_gallery)
gallery_app.command("fleet-key")(make_fleet_key)

NameArgument = Annotated[str, typer.Argument(help="Name of the person.")]
ReceiptOption = Annotated[
    Path | None, typer.Option("--receipt", help="Write the receipt to this file (JSON).")
]


@gallery_app.command("list")
def list_people(
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """List the enrolled people."""
    with open_gallery(gallery, model) as opened:
        people = opened.subjects()
    if as_json:
        print_json([asdict(person) for person in people])
        return
    rows = [
        [p.name, str(p.template_count), p.created_at, "" if p.active else "inactive"]
        for p in people
    ]
    header = ["name", "templates", "enrolled (UTC)", "state"]
    print_line(table(header, rows) if rows else "nobody is enrolled")


@gallery_app.command("show")
def show_person(
    name: NameArgument,
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Show what is kept about a person."""
    with open_gallery(gallery, model) as opened:
        details = opened.details(name)
    if as_json:
        print_json(asdict(details))
        return
    consent = details.consent
    agreed = "not recorded" if consent is None else f"{consent.how} ({consent.given_at})"
    for label, value in (
        ("name", details.name),
        ("enrolled (UTC)", details.created_at),
        ("state", "active" if details.active else "inactive"),
        ("consent", agreed),
        ("templates", f"{len(details.qualities)}"),
        ("their quality", ", ".join(f"{value:.2f}" for value in details.qualities)),
        ("kept crops", f"{details.crops}"),
    ):
        print_line(f"{label:16}{value}")


@gallery_app.command("rename")
def rename_person(
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(help="The new name.")],
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Give a person another name."""
    with open_gallery(gallery, model) as opened:
        opened.rename(name, new_name)
    _say({"renamed": name, "to": new_name}, f"{name} is now {new_name}", as_json=as_json)


@gallery_app.command("deactivate")
def deactivate_person(
    name: NameArgument,
    *,
    undo: Annotated[bool, typer.Option("--undo", help="Let the person be found again.")] = False,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Let a person be found no more, and keep the templates."""
    with open_gallery(gallery, model) as opened:
        opened.set_active(name, active=undo)
    state = "active" if undo else "inactive"
    _say({"name": name, "active": undo}, f"{name} is {state}", as_json=as_json)


@gallery_app.command("remove")
def remove_person(
    name: NameArgument,
    *,
    receipt: ReceiptOption = None,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Remove a person and their templates; the same as forget."""
    with open_gallery(gallery, model) as opened:
        written = opened.forget(name)
    _write_receipt(receipt, written)
    _say({"removed": name}, f"removed {name}", as_json=as_json)


@gallery_app.command("forget")
def forget_person(
    name: NameArgument,
    *,
    receipt: ReceiptOption = None,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Destroy the key and every row of a person, search the files, and give a receipt."""
    with open_gallery(gallery, model) as opened:
        written = opened.forget(name)
    _write_receipt(receipt, written)
    if as_json:
        print_json(written.as_dict())
        return
    print_line(f"forgotten: {written.templates} templates and {written.crops} crops are gone")
    print_line(f"receipt {written.receipt} of {written.forgotten_at}")
    for place in written.out_of_reach:
        note(f"out of reach: {place}")


@gallery_app.command("receipts")
def list_receipts(
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """List the receipts of everybody who was forgotten; they hold no names."""
    with open_gallery(gallery, model) as opened:
        found = opened.receipts()
    if as_json:
        print_json([one.as_dict() for one in found])
        return
    rows = [[one.receipt, str(one.templates), one.forgotten_at] for one in found]
    print_line(
        table(["receipt", "templates", "forgotten (UTC)"], rows) if rows else "nobody was forgotten"
    )


@gallery_app.command("check")
def check_gallery(
    *,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="Also check that this receipt is genuine.")
    ] = None,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Check every row of the file, and say what is not as it should be. Exit code 1 if anything.

    A file that was changed, or put back, is refused with exit code 2.
    """
    with open_gallery(gallery, model) as opened:
        facts = _facts(opened)
        if receipt is not None and not is_genuine(opened.vault, _read_receipt(receipt)):
            facts["problems"].append(f"{receipt} is not a receipt of this gallery, or was changed")
    if as_json:
        print_json(facts)
    else:
        for name, value in facts.items():
            if name != "problems":
                print_line(f"{name.replace('_', ' '):20}{value}")
        for problem in facts["problems"]:
            print_line(f"problem: {problem}")
    if facts["problems"]:
        raise typer.Exit(1)


def _facts(opened: SqliteGallery) -> dict[str, Any]:
    people = opened.subjects()
    unrecorded = sum(opened.details(person.name).consent is None for person in people)
    anchor = opened.vault.anchor
    problems = []
    if opened.quarantined:
        problems.append(f"{opened.quarantined} templates are unusable; enrol their people again")
    if unrecorded:
        problems.append(f"{unrecorded} people have no record of consent")
    if anchor is None or not anchor.written:
        problems.append("no place to remember the newest change: an older copy cannot be told")
    if any(not one.proof for one in opened.receipts()):
        problems.append("a removal is not finished: close other processes and check again")
    return {
        "gallery": str(opened.path),
        "people": len(people),
        "templates": sum(person.template_count for person in people),
        "model": opened.model_id,
        "models_kept": len(opened.vault.people.models),
        "key": opened.vault.keys.source,
        "changes": opened.vault.head.counter,
        "problems": problems,
    }


def _write_receipt(path: Path | None, receipt: Receipt) -> None:
    if path is not None:
        path.write_text(json.dumps(receipt.as_dict(), indent=2) + "\n", encoding="utf-8")


def _read_receipt(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"{path} cannot be read as a receipt: {exc}") from exc
    return value if isinstance(value, dict) else {}


def _say(value: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        print_line(text)

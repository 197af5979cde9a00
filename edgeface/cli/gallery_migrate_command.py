"""``edgeface gallery migrate``: to another model, and back."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.bundle import Bundle
from edgeface.camera import open_source
from edgeface.cli.console import note, print_json, print_line, progress
from edgeface.cli.gallery_access import open_gallery
from edgeface.cli.needs import need_cpu
from edgeface.cli.shared_options import (
    DEFAULT_FMR,
    DEFAULT_GALLERY,
    ArtefactOption,
    FmrOption,
    GalleryOption,
    JsonOption,
    open_recognizer,
)
from edgeface.gallery import SqliteGallery
from edgeface.gallery.model_change import ModelChange, Outlook
from edgeface.pipeline import RecognizerOptions
from edgeface.pipeline.new_model import NewModel, learn_from, require_comparable

__all__ = ["migrate"]


def migrate(
    *,
    to: Annotated[Path, typer.Option("--to", help="Bundle of the new model.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say who would fare badly; change nothing.")
    ] = False,
    learn: Annotated[
        str | None,
        typer.Option("--learn-from", help="Run both models on this source, and keep what is sure."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="Bundle of the old model, to learn with.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Switch although some are found no more then.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Remove the old templates: no way back.")
    ] = False,
    gallery: GalleryOption = DEFAULT_GALLERY,
    artefact: ArtefactOption = "auto",
    target_fmr: FmrOption = DEFAULT_FMR,
    as_json: JsonOption = False,
) -> None:
    """Move the gallery to another model: from kept crops, or while both models run.

    The old model stays the active one until everybody has templates of the new one. Going back
    is the same command with the old bundle. Exit code 1 while somebody lacks templates.
    """
    need_cpu()
    bundle = Bundle.open(to)
    with (
        open_gallery(gallery, None) as opened,
        NewModel.open(bundle, artefact=artefact, target_fmr=target_fmr) as new,
    ):
        if opened.model_id == new.manifest.model_id and not drop_old:
            _same_model(opened, new, as_json=as_json)
            return
        change = ModelChange(
            opened.vault,
            model_id=new.manifest.model_id,
            embedding_size=new.manifest.embedding_size,
        )
        if dry_run:
            _print_outlook(change.outlook(new.templates_of, new.operating_point), as_json=as_json)
            return
        if learn is not None:
            _learn(learn, change, new, (model, gallery), target_fmr)
        made = _fill(change, new)
        lacking = change.lacking()
        if not lacking or allow_missing:
            change.switch(allow_missing=allow_missing)
        dropped = change.drop_others() if drop_old and change.is_done else 0
        _print_done(change, made, lacking, dropped, as_json=as_json)
        if not change.is_done:
            raise typer.Exit(1)


def _same_model(opened: SqliteGallery, new: NewModel, *, as_json: bool) -> None:
    """Say that nothing is to be done, with the measurement that allows artefacts to be mixed."""
    with opened.vault.reading():
        entries = opened.vault.people.every_template()
        artefacts = {entry.stored.artefact or new.artefact for entry in entries}
    figures: dict[str, float] = {}
    for artefact in sorted(artefacts):
        figures.update(require_comparable(new.manifest, artefact, new.artefact))
    if as_json:
        print_json({"active": True, "made": 0, "lacking": [], "measured": figures})
        return
    print_line("the gallery has this model already")
    for name, value in figures.items():
        print_line(f"templates of its artefacts are comparable: {name} {value:.4f}")


def _fill(change: ModelChange, new: NewModel) -> int:
    filling = change.fill(new.templates_of, artefact=new.artefact, at=_now())
    with progress("templates", filling, total=len(change.lacking())) as bar:
        return sum(1 for _ in bar)


def _learn(
    source: str,
    change: ModelChange,
    new: NewModel,
    where: tuple[Path | None, Path],
    target_fmr: float,
) -> None:
    """Run the old model on ``source`` and store what it is sure of for the new one."""
    model, gallery = where
    learnt: dict[str, int] = {}
    with (
        open_recognizer(model, gallery, RecognizerOptions(target_fmr=target_fmr)) as recognizer,
        open_source(source) as frames,
    ):
        try:
            for name, template in learn_from(frames, recognizer, new):
                change.store(name, [template], artefact=new.artefact, at=_now())
                learnt[name] = learnt.get(name, 0) + 1
        except KeyboardInterrupt:
            note("stopped")
    note(f"learnt {sum(learnt.values())} templates of {len(learnt)} people")


def _print_outlook(people: list[Outlook], *, as_json: bool) -> None:
    if as_json:
        value: list[dict[str, Any]] = [
            {**asdict(person), "is_worse": person.is_worse} for person in people
        ]
        print_json({"people": value, "worse": sum(person.is_worse for person in people)})
        return
    worse = [person for person in people if person.is_worse]
    able = sum(bool(person.templates) for person in people)
    print_line(f"{able} of {len(people)} people can be moved; {len(worse)} would fare badly")
    for person in worse:
        print_line(f"  {person.name}: {_why(person)}")


def _why(person: Outlook) -> str:
    if not person.templates:
        return "no kept crop and no template of the new model; enrol with it, or --learn-from"
    if person.confused_with:
        return f"taken for {', '.join(person.confused_with)}"
    return f"templates of the person are only {person.own_score:.2f} alike, below the threshold"


def _print_done(
    change: ModelChange, made: int, lacking: list[str], dropped: int, *, as_json: bool
) -> None:
    active = change.is_done
    if as_json:
        print_json({"active": active, "made": made, "lacking": lacking, "dropped": dropped})
        return
    print_line(f"made templates of {made} people")
    if active:
        print_line("the new model is active; the same command with the old bundle goes back")
    for name in lacking:
        print_line(f"no template of the new model: {name}")
    if dropped:
        print_line(f"removed {dropped} old templates")
    if not active:
        note("the old model stays active until everybody has one, or with --allow-missing")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

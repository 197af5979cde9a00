"""``edgeface demo``: see it work, with no camera and no network."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.cli.console import note, print_json, print_line, progress
from edgeface.cli.events import event_as_dict, event_as_text
from edgeface.cli.needs import need_cpu, need_export
from edgeface.cli.shared_options import DEFAULT_FMR, FmrOption, JsonOption, open_recognizer
from edgeface.errors import BundleFormatError, EdgefaceError
from edgeface.types import Event

__all__ = ["demo"]


def demo(
    *,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", envvar="EDGEFACE_MODEL", help="Bundle to use.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path(
        "edgeface-demo"
    ),
    target_fmr: FmrOption = DEFAULT_FMR,
    as_json: JsonOption = False,
) -> None:
    """Enrol one person, watch a made-up camera clip with two, and show what was found.

    The faces are public-domain portraits inside of matplotlib and scikit-image. Writes an
    annotated video, a contact sheet and the events. Exit code 1 when the enrolled person was not
    recognised, or the other one was.
    """
    need_cpu()
    from edgeface.demo import run_demo

    bundle = model or _bundle_at_hand(output)

    def show(event: Event) -> None:
        if not as_json:
            print_line(event_as_text(event))

    with open_recognizer(
        bundle, None, artefact="auto", threads=None, target_fmr=target_fmr
    ) as recognizer:
        result = run_demo(recognizer, output, on_event=show, progress=_bar)
    if as_json:
        print_json(
            {
                "model": str(bundle),
                "events": [event_as_dict(event) for event in result.events],
                **{k: v for k, v in asdict(result).items() if k != "events"},
                "as_expected": result.as_expected,
            }
        )
    else:
        print_line(
            f"recognised in {result.recognised_share:.0%} of {result.compared_frames} compared "
            f"frames; the stranger was named in {result.false_identifications}"
        )
        print_line(f"video: {result.video}\ncontact sheet: {result.sheet}")
    if not result.as_expected:
        raise typer.Exit(1)


def _bar(label: str, items: Iterable[Any]) -> Iterable[Any]:
    with progress(label, items) as bar:
        yield from bar


def _bundle_at_hand(output: Path) -> Path:
    """Return the first bundle under EDGEFACE_TEST_DATA, exporting a checkpoint if there is none.

    Raises:
        BundleFormatError: There is nothing to recognise with.
    """
    folder = os.environ.get("EDGEFACE_TEST_DATA")
    if not folder:
        raise BundleFormatError(
            "no model: give a bundle with --model (make one with `edgeface export`), or set "
            "EDGEFACE_TEST_DATA to a folder with bundles or checkpoints"
        )
    for manifest in sorted(Path(folder).glob("**/*.edgeface/manifest.json")):
        note(f"model: {manifest.parent} (first bundle under EDGEFACE_TEST_DATA)")
        return manifest.parent
    return _exported(Path(folder), output)


def _exported(folder: Path, output: Path) -> Path:
    need_export()
    from edgeface_export import ExportOptions, export_checkpoint

    for file in sorted((folder / "models" / "checkpoints").glob("*")):
        target = output / f"{file.stem}.edgeface"
        try:
            export_checkpoint(file, target, options=ExportOptions(overwrite=True))
        except EdgefaceError:
            continue
        note(f"model: {target}, exported from {file.name}, the first under EDGEFACE_TEST_DATA")
        return target
    raise BundleFormatError(f"no bundle and no exportable checkpoint under {folder}")

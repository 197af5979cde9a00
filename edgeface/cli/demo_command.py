"""``edgeface demo``: see it work, with no camera and no network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeface.cli.console import print_json, print_line, progress
from edgeface.cli.events import event_as_dict, event_as_text
from edgeface.cli.needs import need_cpu
from edgeface.cli.shared_options import (
    DEFAULT_FMR,
    BundleOption,
    FmrOption,
    JsonOption,
    open_recognizer,
)
from edgeface.pipeline import RecognizerOptions
from edgeface.types import Event

__all__ = ["demo"]


def demo(
    *,
    model: BundleOption = None,
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

    def show(event: Event) -> None:
        if not as_json:
            print_line(event_as_text(event))

    with open_recognizer(model, None, RecognizerOptions(target_fmr=target_fmr)) as recognizer:
        result = run_demo(recognizer, output, on_event=show, progress=_bar)
    if as_json:
        print_json(
            {
                "model": recognizer.manifest.name,
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

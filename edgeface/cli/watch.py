"""``edgeface watch``: a stream, recognised."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from edgeface.camera import (
    AnnotatedVideoWriter,
    CameraEvent,
    FrameSource,
    LiveSource,
    open_source,
)
from edgeface.cli.console import note, print_json, print_line, progress
from edgeface.cli.events import event_as_dict, event_as_text
from edgeface.cli.recognise import observation_as_dict
from edgeface.cli.shared_options import (
    DEFAULT_FMR,
    DEFAULT_GALLERY,
    ArtefactOption,
    BundleOption,
    FmrOption,
    FpirOption,
    GalleryOption,
    JsonOption,
    PadOption,
    PadPointOption,
    ThreadsOption,
    open_recognizer,
    pad_options,
)
from edgeface.errors import CameraError
from edgeface.overlay import draw
from edgeface.pipeline import FrameResult, Recognizer
from edgeface.types import Event, ImageArray, Outcome

__all__ = ["watch"]

_DEFAULT_FPS = 25.0
Sink = Callable[[ImageArray], None]
Item: TypeAlias = "FrameResult | Event | CameraEvent"


def watch(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Webcam number, RTSP or HTTP address, video, picture or folder [0]. "
            "Several are watched together.",
        ),
    ] = None,
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    save: Annotated[
        Path | None, typer.Option(help="Write the annotated video here (.mp4).")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the stream in a window.")] = False,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="With --json, a line for each frame too.")
    ] = False,
    artefact: ArtefactOption = "auto",
    threads: ThreadsOption = None,
    target_fmr: FmrOption = DEFAULT_FMR,
    target_fpir: FpirOption = None,
    pad: PadOption = None,
    pad_operating_point: PadPointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch cameras or recordings and say who appears.

    Prints one line for each event; with --json, one JSON object a line. Ctrl-C ends. Exit code 1
    when nobody was recognised.
    """
    wanted = sources or ["0"]
    _check(wanted, has_sink=show or save is not None, show=show)
    known: set[str] = set()
    with ExitStack() as stack:
        recognizer = stack.enter_context(
            open_recognizer(
                model,
                gallery,
                artefact=artefact,
                threads=threads,
                target_fmr=target_fmr,
                target_fpir=target_fpir,
                pad=pad_options(pad, pad_operating_point),
            )
        )
        if len(wanted) == 1:
            frames = stack.enter_context(open_source(wanted[0]))
            sinks = _sinks(stack, save=save, show=show, fps=frames.fps or _DEFAULT_FPS)
            items = _run(recognizer, frames, sinks)
        else:
            items = _run_together(stack, recognizer, wanted)
        try:
            for item in items:
                if as_json:
                    _print_json(item, every_frame=every_frame)
                else:
                    _print_text(item, with_source=len(wanted) > 1)
                if isinstance(item, Event) and item.outcome is Outcome.KNOWN:
                    known.add(item.subject or "")
        except KeyboardInterrupt:
            note("stopped")
    if save:
        note(f"wrote {save}")
    if not known:
        raise typer.Exit(1)


def _check(sources: list[str], *, has_sink: bool, show: bool) -> None:
    if len(sources) > 1 and has_sink:
        raise CameraError("--save and --show take one source; run one watch for each")
    if show:
        _require_display()


def _run(recognizer: Recognizer, frames: FrameSource, sinks: list[Sink]) -> Iterator[Item]:
    """Yield every frame's result, and every event where it happened."""
    stream = recognizer.stream(frames)
    bar = frames if frames.is_live else _bar(frames)
    for frame in bar:
        result = stream.process(frame)
        if sinks:
            picture = draw(frame, result.observations)
            for sink in sinks:
                sink(picture)
        yield from _camera_events(frames)
        yield result
        yield from result.events
    yield from _camera_events(frames)
    yield from stream.finish()


def _run_together(stack: ExitStack, recognizer: Recognizer, sources: list[str]) -> Iterator[Item]:
    """Yield the results and events of several sources as they come."""
    group = stack.enter_context(recognizer.group(sources))
    for result in group:
        yield from _camera_events(group.sources[result.stream])
        yield result
        yield from result.events
    for source in group.sources:
        yield from _camera_events(source)
    for name, failure in group.failures.items():
        note(f"{name} ended early: {failure}")
    yield from group.finish()


def _camera_events(source: FrameSource) -> Iterator[CameraEvent]:
    if isinstance(source, LiveSource):
        yield from source.take_events()


def _bar(frames: FrameSource) -> Iterator[Any]:
    with progress("watching", frames, total=frames.frame_count) as bar:
        yield from bar


def _print_json(item: Item, *, every_frame: bool) -> None:
    if isinstance(item, CameraEvent):
        print_json(_camera_event_as_dict(item), indent=None)
    elif isinstance(item, Event):
        print_json(event_as_dict(item), indent=None)
    elif every_frame:
        print_json(_frame_as_dict(item), indent=None)


def _print_text(item: Item, *, with_source: bool) -> None:
    if isinstance(item, CameraEvent):
        words = (item.kind.value, item.condition.value if item.condition else "", item.detail)
        note(f"{item.source}: {' '.join(word for word in words if word)}")
    elif isinstance(item, Event):
        print_line(event_as_text(item) + (f"  {item.source}" if with_source else ""))


def _camera_event_as_dict(event: CameraEvent) -> dict[str, Any]:
    return {
        "type": "camera",
        "event": event.kind.value,
        "condition": event.condition.value if event.condition else None,
        "detail": event.detail,
        "time_s": round(event.time_s, 3),
        "source": event.source,
    }


def _frame_as_dict(result: FrameResult) -> dict[str, Any]:
    return {
        "type": "frame",
        "frame": result.frame.index,
        "time_s": round(result.frame.timestamp_s, 3),
        "source": result.frame.source,
        "faces": [observation_as_dict(face) for face in result.observations],
        "times_ms": {stage: round(ms, 3) for stage, ms in result.times_ms.items()},
    }


def _sinks(stack: ExitStack, *, save: Path | None, show: bool, fps: float) -> list[Sink]:
    sinks: list[Sink] = []
    if save is not None:
        writer = stack.enter_context(AnnotatedVideoWriter(save, fps))
        sinks.append(writer.write)
    if show:
        sinks.append(stack.enter_context(_window()))
    return sinks


def _require_display() -> None:
    """Return if a window can be shown.

    Raises:
        CameraError: There is no display.
    """
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise CameraError("--show needs a display and there is none; use --save FILE.mp4 instead")


@contextmanager
def _window() -> Iterator[Sink]:
    """Give a sink that shows pictures in a window; q or Escape ends the stream."""
    import cv2

    def sink(picture: ImageArray) -> None:
        cv2.imshow("edgeface", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if cv2.waitKey(1) & 0xFF in (ord("q"), 27):
            raise KeyboardInterrupt

    try:
        yield sink
    finally:
        cv2.destroyAllWindows()

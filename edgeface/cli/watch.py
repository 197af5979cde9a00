"""``edgeface watch``: a stream, recognised."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
    Profile,
    ProfileOption,
    ThreadsOption,
    open_recognizer,
    pad_options,
)
from edgeface.errors import CameraError
from edgeface.overlay import draw
from edgeface.pipeline import FrameResult, Recognizer, RecognizerOptions, RunHead, RunRecorder
from edgeface.pipeline.run_key import make_run_key
from edgeface.types import Event, ImageArray, Outcome

__all__ = ["watch"]

_DEFAULT_FPS = 25.0
Sink = Callable[[ImageArray], None]
Item: TypeAlias = "FrameResult | Event | CameraEvent"

SourcesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        help="Webcam number, RTSP or HTTP address, video, picture or folder [0]. "
        "Several are watched together.",
    ),
]

SaveOption = Annotated[Path | None, typer.Option(help="Write the annotated video here (.mp4).")]

ShowOption = Annotated[bool, typer.Option("--show", help="Show the stream in a window.")]

RecordOption = Annotated[
    Path | None,
    typer.Option(help="Record measures and scores here, without images; see edgeface replay."),
]

RecordNamesOption = Annotated[
    bool, typer.Option("--record-names", help="Write names into the record, not numbers.")
]

EveryFrameOption = Annotated[
    bool, typer.Option("--every-frame", help="With --json, a line for each frame too.")
]

RecordTemplatesOption = Annotated[
    Path | None,
    typer.Option(
        "--record-templates",
        help="Record templates too, encrypted with the key in this file, which is made.",
    ),
]


def watch(
    sources: SourcesArgument = None,
    *,
    model: BundleOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    save: SaveOption = None,
    show: ShowOption = False,
    record: RecordOption = None,
    record_names: RecordNamesOption = False,
    record_templates: RecordTemplatesOption = None,
    profile: ProfileOption = Profile.WATCH,
    every_frame: EveryFrameOption = False,
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
    view = _View(save, show, record, record_names, record_templates)
    wanted = sources or ["0"]
    view.check(wanted)
    printer = _Printer(as_json=as_json, every_frame=every_frame, with_source=len(wanted) > 1)
    options = RecognizerOptions(
        artefact=artefact,
        threads=threads,
        target_fmr=target_fmr,
        target_fpir=target_fpir,
        pad=pad_options(pad, pad_operating_point),
        watch_quality=profile.options,
    )
    with open_recognizer(model, gallery, options) as recognizer:
        known = _watch(recognizer, wanted, view, printer)
    if save:
        note(f"wrote {save}")
    if not known:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _View:
    """Where what is seen goes, besides the lines that are printed."""

    save: Path | None
    show: bool
    record: Path | None
    record_names: bool
    templates_key: Path | None

    def check(self, sources: list[str]) -> None:
        """Return if this can be done with ``sources``.

        Raises:
            CameraError: There are several, or no display.
            typer.BadParameter: Names or templates for a record that is not made.
        """
        if len(sources) > 1 and (self.show or self.save is not None):
            raise CameraError("--save and --show take one source; run one watch for each")
        if self.record is None and (self.record_names or self.templates_key is not None):
            raise typer.BadParameter("--record-names and --record-templates want --record FILE")
        if self.show:
            _require_display()

    def recorder(self, stack: ExitStack, recognizer: Recognizer) -> RunRecorder | None:
        """Return what writes the record, None without one."""
        if self.record is None:
            return None
        model_id, point = recognizer.manifest.model_id, recognizer.operating_point
        head = RunHead.of(model_id, point, recognizer.decision_options)
        key = None if self.templates_key is None else make_run_key(self.templates_key)
        recorder = RunRecorder(self.record, head, names=self.record_names, templates_key=key)
        return stack.enter_context(recorder)


def _watch(
    recognizer: Recognizer, sources: list[str], view: _View, printer: _Printer
) -> frozenset[str]:
    """Run to the end of the sources, or to Ctrl-C; return who was recognised."""
    known: set[str] = set()
    with ExitStack() as stack:
        recorder = view.recorder(stack, recognizer)
        if len(sources) == 1:
            frames = stack.enter_context(open_source(sources[0], on_event=printer.show))
            fps = frames.fps or _DEFAULT_FPS
            items = _run(recognizer, frames, _sinks(stack, view.save, show=view.show, fps=fps))
        else:
            items = _run_together(stack, recognizer, sources, printer.show)
        try:
            for item in items:
                printer.show(item)
                if recorder is not None and isinstance(item, FrameResult):
                    recorder.write(item)
                if isinstance(item, Event) and item.outcome is Outcome.KNOWN:
                    known.add(item.subject or "")
        except KeyboardInterrupt:
            note("stopped")
    return frozenset(known)


class _Printer:
    """Prints events as they come; those of cameras come from threads of theirs."""

    def __init__(self, *, as_json: bool, every_frame: bool, with_source: bool) -> None:
        self._as_json, self._every_frame, self._with_source = as_json, every_frame, with_source
        self._lock = threading.Lock()

    def show(self, item: Item) -> None:
        """Print one event; a frame only with ``every_frame``."""
        with self._lock:
            if self._as_json:
                _print_json(item, every_frame=self._every_frame)
            else:
                _print_text(item, with_source=self._with_source)


def _run(recognizer: Recognizer, frames: FrameSource, sinks: list[Sink]) -> Iterator[Item]:
    """Yield every frame's result, and every event where it happened."""
    stream = recognizer.stream(frames)
    bar = frames if frames.is_live else _bar(frames)
    pace = _Pace()
    for frame in bar:
        result = stream.process(frame)
        if sinks:
            picture = draw(frame, result.observations, status=pace.status(frames, result))
            for sink in sinks:
                sink(picture)
        yield result
        yield from result.events
    yield from stream.finish()


def _run_together(
    stack: ExitStack,
    recognizer: Recognizer,
    sources: list[str],
    on_event: Callable[[CameraEvent], None],
) -> Iterator[Item]:
    """Yield the results and events of several sources as they come."""
    opened = [stack.enter_context(open_source(source, on_event=on_event)) for source in sources]
    group = stack.enter_context(recognizer.group(opened))
    for result in group:
        yield result
        yield from result.events
    for name, failure in group.failures.items():
        note(f"{name} ended early: {failure}")
    yield from group.finish()


class _Pace:
    """Says at the foot of the picture how the camera and the program are doing."""

    def __init__(self) -> None:
        self._took_ms: deque[float] = deque(maxlen=25)

    def status(self, source: FrameSource, result: FrameResult) -> str:
        """Return the line for one frame."""
        self._took_ms.append(sum(result.times_ms.values()))
        took_ms = sum(self._took_ms) / len(self._took_ms)
        words = [f"{result.frame.timestamp_s:.1f} s", f"{took_ms:.0f} ms a frame"]
        if isinstance(source, LiveSource):
            health = source.health()
            conditions = sorted(condition.value for condition in health.conditions)
            words = [health.state.value, f"{health.fps:.0f} fps", *conditions, words[1]]
        return "   ".join([source.name, *words])


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


def _sinks(stack: ExitStack, save: Path | None, *, show: bool, fps: float) -> list[Sink]:
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

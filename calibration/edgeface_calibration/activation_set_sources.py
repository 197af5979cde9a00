"""What activation sets are collected from: pictures, folders, videos, cameras, taking turns."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from edgeface.camera import FrameSource, open_source
from edgeface.camera.files import ImageSource
from edgeface.camera.images import is_image_file
from edgeface.camera.video_header import VIDEO_MAGIC_SIZE, is_video
from edgeface.errors import CameraError
from edgeface_calibration.activation_set_limits import even_order
from edgeface_calibration.activation_set_manifest import SourceKind

__all__ = ["Opener", "Source", "kind_of", "open_sources", "take_turns"]

T = TypeVar("T")
Source: TypeAlias = "int | str | os.PathLike[str] | FrameSource"
"""A webcam number, an address, a video, a picture, a folder, or an opened source."""

Opener: TypeAlias = Callable[[], FrameSource]

# Each open video holds a decoder with its buffers and threads.
_AT_ONCE = 4
_NO_FILE = re.compile(r"\d+|[A-Za-z][A-Za-z0-9+.-]*://.*")


def open_sources(sources: Sequence[Source], stack: ExitStack) -> tuple[list[Opener], list[Opener]]:
    """Return what opens each recorded source, and each live one; ``stack`` closes them.

    A folder becomes its pictures, those of sub-folders too, in an order of which every beginning
    is an even sample, and each of its videos.

    Raises:
        CameraError: A file or folder does not exist, or a folder holds neither pictures nor
            videos.
    """
    recorded: list[Opener] = []
    live: list[Opener] = []
    for source in sources:
        if isinstance(source, int | str | os.PathLike):
            openers = _openers(source, stack)
            (live if _is_camera(source) else recorded).extend(openers)
        else:
            opened = stack.enter_context(source)
            (live if opened.is_live else recorded).append(partial(_itself, opened))
    return recorded, live


def kind_of(source: FrameSource) -> SourceKind:
    """Return what frames of ``source`` are."""
    if source.is_live:
        return SourceKind.CAMERA
    return SourceKind.PICTURE if source.fps is None else SourceKind.VIDEO


def take_turns(openers: Sequence[Callable[[], Iterator[T]]]) -> Iterator[T]:
    """Give the items of several iterators in turn, so that the first does not fill the set.

    Four are open at once; the next begins when one has ended.
    """
    waiting = deque(openers)
    active: deque[Iterator[T]] = deque()
    while waiting or active:
        while waiting and len(active) < _AT_ONCE:
            active.append(waiting.popleft()())
        turn = active.popleft()
        try:
            item = next(turn)
        except StopIteration:
            continue
        active.append(turn)
        yield item


def _is_camera(source: int | str | os.PathLike[str]) -> bool:
    if isinstance(source, int):
        return True
    is_named = isinstance(source, str) and _NO_FILE.fullmatch(source) is not None
    return is_named or Path(os.fspath(source)).is_char_device()


def _openers(source: int | str | os.PathLike[str], stack: ExitStack) -> list[Opener]:
    if _is_camera(source) or isinstance(source, int):
        return [partial(_open, source, stack)]
    path = Path(os.fspath(source))
    if path.is_dir():
        return _folder_openers(path, stack)
    if not path.is_file():
        raise CameraError(f"no source at {path}: there is no such file, folder or device")
    return [partial(_open, path, stack)]


def _folder_openers(folder: Path, stack: ExitStack) -> list[Opener]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = [path for path in files if is_image_file(path)]
    videos = [path for path in files if _is_video_file(path)]
    if not pictures and not videos:
        raise CameraError(
            f"no picture and no video in {folder}: {len(files)} files, none of them PNG, JPEG or "
            "a video; name the folder that holds them"
        )
    ordered = [pictures[k] for k in even_order(len(pictures))]
    openers: list[Opener] = []
    if pictures:
        openers.append(lambda: ImageSource(folder.name, ordered, skip_damaged=True))
    return openers + [partial(_open, video, stack) for video in videos]


def _open(source: int | str | os.PathLike[str], stack: ExitStack) -> FrameSource:
    return stack.enter_context(open_source(source))


def _itself(source: FrameSource) -> FrameSource:
    return source


def _is_video_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_video(file.read(VIDEO_MAGIC_SIZE))
    except OSError:
        return False

"""Opens the office in a folder: the record, the faces, the sinks, and the recogniser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgeface.bundle import Bundle
from edgeface.camera import SourceOptions
from edgeface.default_model import default_bundle_path
from edgeface.gallery import KeyOptions
from edgeface.pipeline import PadOptions, Recognizer, RecognizerOptions
from examples.attendance.erasing import finish_erasing
from examples.attendance.errors import AttendanceError
from examples.attendance.faces import GALLERY_FILE, Faces
from examples.attendance.office import LocalOffice, OfficeParts
from examples.attendance.service import lock_folder
from examples.attendance.settings_file import load_settings, save_settings
from examples.attendance.sinks_file import load_sinks
from examples.attendance.store import Store
from examples.attendance.values import Settings

__all__ = [
    "RECORD_FILE",
    "OfficeOptions",
    "camera_options",
    "is_set_up",
    "open_office",
    "set_up",
    "system_zone",
]

RECORD_FILE = "attendance.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficeOptions:
    """What an office is opened with.

    ``bundle`` recognises, by default the SDK's demonstration model. With ``pad``, the folders of
    PAD bundles, nobody is counted whose face has not passed. ``with_sinks`` is False for commands
    that deliver nothing.
    """

    folder: Path
    bundle: Path | None = None
    pad: tuple[Path, ...] = ()
    keys: KeyOptions = field(default_factory=KeyOptions)
    threads: int | None = None
    backend: str = "auto"
    with_sinks: bool = True


def set_up(folder: Path, settings: Settings) -> None:
    """Make the office in ``folder``, or give an existing one other settings.

    Raises:
        AttendanceError: The office runs, or the folder cannot be used.
    """
    _make_folder(folder)
    with lock_folder(folder):
        store = Store.open(folder / RECORD_FILE)
        try:
            save_settings(store, settings)
        finally:
            store.close()


def is_set_up(folder: Path) -> bool:
    """Return whether there is an office in ``folder``."""
    return (folder / RECORD_FILE).is_file()


@contextlib.contextmanager
def open_office(options: OfficeOptions) -> Iterator[LocalOffice]:
    """Give the office in a folder, for this program alone, and close it afterwards.

    Raises:
        AttendanceError: It is not set up, runs in another program, or its record is damaged.
        BundleError: The bundle cannot be used.
        GalleryError: The faces cannot be read, or their key is not at hand.
    """
    folder = options.folder
    if not is_set_up(folder):
        raise AttendanceError(f"there is no office in {folder}; make it with set-up")
    with lock_folder(folder), contextlib.ExitStack() as stack:
        store = Store.open(folder / RECORD_FILE)
        stack.callback(store.close)
        finish_erasing(store)
        settings = load_settings(store)
        if settings is None:
            raise AttendanceError(f"the office in {folder} has no settings; make them with set-up")
        bundle = options.bundle or default_bundle_path()
        manifest = Bundle.open(bundle).manifest
        faces = Faces.open(
            folder,
            model_id=manifest.model_id,
            embedding_size=manifest.embedding_size,
            keys=options.keys,
        )
        stack.callback(faces.close)
        parts = OfficeParts(
            data_dir=folder,
            store=store,
            faces=faces,
            settings=settings,
            open_recognizer=lambda: _open_recognizer(options, bundle),
            sinks=load_sinks(folder) if options.with_sinks else (),
        )
        office = LocalOffice(parts)
        stack.callback(office.close)
        yield office


def camera_options() -> SourceOptions:
    """Return how cameras are opened: one that does not answer is tried for ever.

    A video file is played at its own speed, as if it were a camera.
    """
    return SourceOptions(must_open=False, real_time=True)


def system_zone() -> str:
    """Return the IANA name of this machine's time zone, "UTC" where it has none."""
    link = Path("/etc/localtime")
    parts = link.resolve().parts if link.is_symlink() else ()
    if "zoneinfo" in parts:
        return "/".join(parts[parts.index("zoneinfo") + 1 :])
    return "UTC"


def _open_recognizer(options: OfficeOptions, bundle: Path) -> Recognizer:
    pad = PadOptions(bundles=options.pad) if options.pad else None
    return Recognizer.open(
        bundle,
        options.folder / GALLERY_FILE,
        options=RecognizerOptions(
            backend=options.backend,
            threads=options.threads,
            camera=camera_options(),
            gallery_keys=options.keys,
            pad=pad,
        ),
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise AttendanceError(f"the folder {folder} cannot be made: {exc.strerror}") from exc
    if folder.stat().st_mode & 0o077:
        raise AttendanceError(
            f"others may read the folder {folder}; make it yours alone: chmod 700 {folder}"
        )

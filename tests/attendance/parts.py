"""An office for tests: the real record and gallery, with clocks that stand still until told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeface.gallery import Consent, EnrolmentRecord, KeyOptions
from edgeface.pipeline import Recognizer
from edgeface.types import Template
from examples.attendance.courier import Sink
from examples.attendance.errors import AttendanceError
from examples.attendance.faces import Faces
from examples.attendance.interface import Settings
from examples.attendance.office import LocalOffice, OfficeParts
from examples.attendance.opening import RECORD_FILE
from examples.attendance.settings_file import load_settings
from examples.attendance.store import Store

MODEL_ID, SIZE = "f" * 64, 16
START_MS = 1_767_600_000_000  # 2026-01-05 08:00 UTC, a Monday


@dataclass
class Clocks:
    now_s: float = 1000.0
    start_ms: int = START_MS
    boot: str = "boot"

    def clock_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return self.start_ms + int((self.now_s - 1000.0) * 1000)

    def boot_id(self) -> str:
        return self.boot


def no_recognizer() -> Recognizer:
    raise AttendanceError("this office has no recogniser")


def open_parts(
    folder: Path,
    *,
    clocks: Clocks | None = None,
    settings: Settings | None = None,
    sinks: Sequence[Sink] = (),
) -> LocalOffice:
    """Return an office in ``folder``, which is made when it does not exist."""
    store = Store.open(folder / RECORD_FILE)
    faces = Faces.open(folder, model_id=MODEL_ID, embedding_size=SIZE, keys=KeyOptions())
    kept = load_settings(store) or Settings()
    return LocalOffice(
        OfficeParts(folder, store, faces, settings or kept, no_recognizer, sinks, clocks)
    )


def enrol(office: LocalOffice, person_id: str, *, how: str = "paper form 1") -> None:
    """Store a made-up face for a person."""
    vector = np.random.default_rng(len(person_id)).standard_normal(SIZE)
    template = Template((vector / np.linalg.norm(vector)).astype(np.float32), MODEL_ID, 0.9)
    consent = Consent(how, "2026-01-05T08:00:00+00:00", recorded_by="admin")
    office.faces.gallery.add(person_id, [template], record=EnrolmentRecord(consent=consent))

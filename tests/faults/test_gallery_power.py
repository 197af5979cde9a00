"""Power cuts and full disks: what a gallery holds afterwards."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgeface.errors import GalleryError, SubjectNotFoundError
from edgeface.gallery import EnrolmentRecord, ReferenceCrop, SqliteGallery, schema
from edgeface.gallery import anchor as anchor_module
from edgeface.gallery.model_change import ModelChange
from tests.faults.galleries import MODEL, SIZE, open_gallery, template

pytest.importorskip("apsw")

from tests.faults.recorded_disk import CANARY, Disk, Event


@contextmanager
def through(disk: Disk) -> Iterator[None]:
    """Let galleries that are opened inside write through ``disk``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "sqlite3", disk.sqlite3())
        yield


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}


def live(gallery: SqliteGallery, disk: Disk, rng: random.Random, *, changes: int) -> None:
    """Enrol, extend, rename and forget, and note each change before and after it is made."""
    names: list[str] = []
    for number in range(changes):
        kind = rng.choice("++++>=-") if len(names) > 2 else "+"
        name = f"p{number}" if kind == "+" else rng.choice(names)
        disk.note(f"?{kind} {name}")
        if kind == "+":
            gallery.add(name, [template(number), template(1000 + number)])
            names.append(name)
        elif kind == ">":
            gallery.add(name, [template(2000 + number)], extend=True)
        elif kind == "=":
            gallery.set_active(name, active=False)
        else:
            gallery.remove(name)
            names.remove(name)
        disk.note(f"!{kind} {name}")


def expected(notes: Iterator[str]) -> tuple[set[str], set[str]]:
    """Return who must be there, and who may or may not be."""
    must: set[str] = set()
    pending: set[str] = set()
    for note in notes:
        mark, _, name = note.partition(" ")
        if mark == "?+" or mark == "?-":
            pending.add(name)
            must.discard(name)
        elif mark in ("!+", "!-"):
            pending.discard(name)
            if mark == "!+":
                must.add(name)
    return must, pending


def record(path: Path, monkeypatch: pytest.MonkeyPatch, *, changes: int) -> tuple[Disk, list[int]]:
    """Run a life of the gallery at ``path``; return the log and where the anchor was written."""
    disk, anchored = Disk(), []
    write = anchor_module.Anchor.write

    def noted(self: anchor_module.Anchor, head: object) -> None:
        write(self, head)  # type: ignore[arg-type]
        disk.note(f"anchor {self.path.read_text()}")
        anchored.append(len(disk.events))

    disk.events.append(Event("write", CANARY, 0, b"never synced"))
    with monkeypatch.context() as patch, through(disk):
        patch.setattr(anchor_module.Anchor, "write", noted)
        with open_gallery(path) as gallery:
            live(gallery, disk, random.Random(11), changes=changes)
    return disk, anchored


def check_power_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: int) -> Counter:
    path = tmp_path / "disk" / "people.db"
    path.parent.mkdir(mode=0o700)
    open_gallery(path).close()
    start = files_of(path)
    disk, _ = record(path, monkeypatch, changes=40)
    anchor = next(Path(os.environ["XDG_STATE_HOME"]).rglob("*.head"))
    rng = random.Random(17)
    seen: Counter = Counter()
    for number in range(states):
        at = round(number * len(disk.events) / (states - 1))
        # Every third state has nothing but what was synced: the canary proves that.
        nothing_more = number % 3 == 0
        files = disk.after_power_cut(start, at, None if nothing_more else rng)
        seen["canary is gone" if CANARY not in files else "canary is there"] += 1
        assert not (nothing_more and CANARY in files)
        if check_state(tmp_path / f"state{number}", files, anchor, disk, at):
            seen["a change was under way"] += 1
        shutil.rmtree(tmp_path / f"state{number}")
    return seen


def check_state(folder: Path, files: dict[str, bytes], anchor: Path, disk: Disk, at: int) -> bool:
    """Open what was left, and return whether a change was under way."""
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    notes = list(disk.acknowledged(at))
    anchors = [note for note in notes if note.startswith("anchor ")]
    anchor.unlink(missing_ok=True)
    if anchors:
        # The anchor is at its newest: the file must never be older than it.
        anchor.write_text(anchors[-1].removeprefix("anchor "))
    must, pending = expected(iter(notes))
    with open_gallery(folder / "people.db", create=False) as gallery:
        found = {info.name: info.template_count for info in gallery.subjects()}
        assert gallery.quarantined == 0
        assert must <= found.keys() <= must | pending
        assert all(count >= 2 for count in found.values())
        gallery.add("somebody new", [template(9999)])
        assert gallery.search(template(9999))[0].subject == "somebody new"
    return bool(pending)


def test_a_power_cut_at_any_moment_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = check_power_cuts(tmp_path, monkeypatch, 90)
    assert seen["canary is gone"] >= 30, "nothing was ever lost, so nothing is shown"
    assert seen["a change was under way"] >= 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_900_power_cuts_lose_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = check_power_cuts(tmp_path, monkeypatch, 900)
    assert seen["canary is gone"] >= 300
    assert seen["canary is there"] >= 100


def test_a_disk_that_lies_about_syncing_is_seen_by_this_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were syncs not needed, the tests above would pass for any store."""
    path = tmp_path / "people.db"
    open_gallery(path).close()
    start = files_of(path)
    disk, _ = record(path, monkeypatch, changes=6)
    unsynced = [event for event in disk.events if event.kind != "sync"]
    lying = Disk([*unsynced])
    files = lying.after_power_cut(start, len(unsynced), None)
    assert expected(lying.acknowledged(len(unsynced)))[0] != set()
    assert files["people.db"] == start["people.db"]


NEW = "c" * 64


def move(gallery: SqliteGallery, disk: Disk) -> None:
    """Move to the model NEW and back, and note each switch before and after it is made."""
    there = ModelChange(gallery.vault, model_id=NEW, embedding_size=SIZE)
    back = ModelChange(gallery.vault, model_id=MODEL, embedding_size=SIZE)
    list(there.fill(lambda crops: [template(50 + k, model_id=NEW) for k, _ in enumerate(crops)]))
    disk.note("?there")
    there.switch()
    disk.note("!there")
    assert gallery.model_id == NEW
    disk.note("?back")
    back.switch()
    disk.note("!back")


def test_a_power_cut_in_a_move_leaves_one_model_or_the_other_whole(tmp_path: Path) -> None:
    path = tmp_path / "disk" / "people.db"
    path.parent.mkdir(mode=0o700)
    points = np.array([[4, 4], [8, 4], [6, 6], [4, 9], [8, 9]], np.float32)
    crop = ReferenceCrop(np.zeros((12, 12, 3), np.uint8), points)
    with open_gallery(path) as gallery:
        for k in range(3):
            rows = [template(2 * k), template(2 * k + 1)]
            gallery.add(f"p{k}", rows, record=EnrolmentRecord(crops=[crop, crop]))
    start, disk, rng = files_of(path), Disk(), random.Random(29)
    with through(disk), open_gallery(path) as gallery:
        move(gallery, disk)
    seen: Counter = Counter()
    for at in range(len(disk.events) + 1):
        files = disk.after_power_cut(start, at, rng if at % 2 else None)
        folder = tmp_path / f"state{at}"
        folder.mkdir(mode=0o700)
        for name, content in files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
        for anchor in Path(os.environ["XDG_STATE_HOME"]).rglob("*.head"):
            anchor.unlink()
        with SqliteGallery.open_existing(folder / "people.db") as gallery:
            assert [info.template_count for info in gallery.subjects()] == [2, 2, 2]
            assert gallery.quarantined == 0
            probe = gallery.templates("p1")[0]
            assert gallery.search(probe)[0].score > 0.99
            seen[gallery.model_id] += 1
            notes = list(disk.acknowledged(at))
            if notes and notes[-1] in ("!there", "!back"):
                assert gallery.model_id == (NEW if notes[-1] == "!there" else MODEL)
    assert seen[NEW] >= 1
    assert seen[MODEL] > 20


def fill_until_refused(path: Path, writes: int) -> bool:
    """Live on a disk with room for ``writes`` writes; return whether it ran full."""
    disk, rng = Disk(), random.Random(23)
    acknowledged: set[str] = set()
    full = False
    with through(disk), open_gallery(path) as gallery:
        acknowledged |= {info.name for info in gallery.subjects()}
        disk.writes_left = writes
        unsure = ""
        try:
            for number in range(12):
                unsure = name = f"full{number}"
                gallery.add(name, [template(number), template(500 + number)])
                acknowledged.add(name)
                if number % 3 == 2:
                    unsure = rng.choice(sorted(acknowledged))
                    acknowledged.discard(unsure)
                    gallery.remove(unsure)
        except GalleryError:
            full = True
        disk.writes_left = 0 if full else None
        found = {info.name for info in gallery.subjects()}
        assert acknowledged <= found <= acknowledged | {unsure}
        gallery.search(template(1))
        disk.writes_left = None
        gallery.add("room again", [template(999)])
        with_room = {info.name for info in gallery.subjects()}
    with open_gallery(path, create=False) as gallery:
        assert {info.name for info in gallery.subjects()} == with_room
        assert gallery.search(template(999))[0].subject == "room again"
    return full


def check_full_disks(tmp_path: Path, points: range) -> int:
    base = tmp_path / "base.db"
    with open_gallery(base) as gallery:
        for seed in range(5):
            gallery.add(f"p{seed}", [template(seed)])
    content = base.read_bytes()
    full = 0
    for writes in points:
        path = tmp_path / f"full{writes}.db"
        path.write_bytes(content)
        path.chmod(0o600)
        for anchor in Path(os.environ["XDG_STATE_HOME"]).rglob("*.head"):
            anchor.unlink()
        full += fill_until_refused(path, writes)
        path.unlink()
    return full


def test_a_disk_full_at_any_write_is_a_clean_error(tmp_path: Path) -> None:
    assert check_full_disks(tmp_path, range(0, 100, 5)) >= 18


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_disk_full_at_each_of_220_writes_is_a_clean_error(tmp_path: Path) -> None:
    assert check_full_disks(tmp_path, range(220)) >= 200


LIMITED = """
import resource, signal, sys
from pathlib import Path
from edgeface.errors import GalleryError
from tests.faults.galleries import open_gallery, template

path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_gallery(path) as gallery:
    size = path.stat().st_size + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    acknowledged = 0
    try:
        for number in range(200):
            gallery.add(f"limited{number}", [template(number)])
            acknowledged += 1
    except GalleryError as error:
        print(f"refused {acknowledged}")
    assert len(gallery.subjects()) == acknowledged
    gallery.search(template(1))
"""


@pytest.mark.parametrize("room_bytes", [20_000, 60_000])
def test_a_limit_on_the_size_of_files_is_a_clean_error(tmp_path: Path, room_bytes: int) -> None:
    """The same with the ``sqlite3`` of the standard library and the system's own refusal."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    path = tmp_path / "people.db"
    open_gallery(path).close()
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(room_bytes)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    acknowledged = int(done.stdout.split()[1])
    with open_gallery(path, create=False) as gallery:
        assert len(gallery.subjects()) == acknowledged > 0
        gallery.add("room again", [template(1)])
        with pytest.raises(SubjectNotFoundError):
            gallery.remove("limited199")

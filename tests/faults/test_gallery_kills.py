"""Writers of a gallery that are killed at any moment, as real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.galleries import open_gallery

# Imports once and forks for each life, so that a kill costs milliseconds. A life says "?op name"
# before each change and "!op name" when the gallery has acknowledged it.
WRITER = """
import itertools, os, random, signal, sys, time
import numpy as np
from pathlib import Path
from edgeface.gallery import SqliteGallery
from edgeface.types import Template

heard, told = os.pipe()

def say(text):
    os.write(1, (text + "\\n").encode())
    os.write(told, b".")

def live(path, life):
    vector = np.zeros(32, np.float32)
    vector[life % 32] = 1
    with SqliteGallery.open(path, model_id="a" * 64, embedding_size=32) as gallery:
        for number in itertools.count():
            name = f"{life}-{number}"
            say(f"?+ {name}")
            gallery.add(name, [Template(vector, "a" * 64)] * 3)
            say(f"!+ {name}")
            if number % 5 == 4:
                say(f"?- {name}")
                gallery.remove(name)
                say(f"!- {name}")

path, kills = Path(sys.argv[1]), int(sys.argv[2])
random.seed(5)
for life in range(kills):
    child = os.fork()
    if child == 0:
        try:
            live(path, life)
        except BaseException as exc:
            say(f"error {exc!r}")
        os._exit(1)
    # Killed after some marks, and not by the clock alone: on a busy machine a life may be slow.
    marks = random.randint(1, 12)
    while marks > 0:
        marks -= len(os.read(heard, marks))
    time.sleep(random.uniform(0.0, 0.003))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.set_blocking(heard, False)
    try:
        while os.read(heard, 4096):
            pass
    except BlockingIOError:
        os.set_blocking(heard, True)
"""


def kill_writers(path: Path, kills: int) -> tuple[set[str], set[str]]:
    """Return the subjects that must be there, and those that may or may not be."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), str(kills)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=500,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    must: set[str] = set()
    pending: set[str] = set()
    for line in done.stdout.splitlines():
        mark, _, name = line.partition(" ")
        assert mark != "error", line
        if mark[0] == "?":
            pending.add(name)
            must.discard(name)
        else:
            pending.discard(name)
            if mark == "!+":
                must.add(name)
    return must, pending


def check_after_kills(path: Path, kills: int) -> int:
    """Kill ``kills`` writers and check what is left; return how many were killed in a change."""
    open_gallery(path).close()
    must, pending = kill_writers(path, kills)
    with open_gallery(path, create=False) as gallery:
        found = {info.name: info.template_count for info in gallery.subjects()}
        assert gallery.quarantined == 0
        assert all(receipt.proof for receipt in gallery.receipts())
    assert must <= found.keys() <= must | pending
    assert set(found.values()) == {3}
    assert len(must) > kills / 10, "the writers were killed before they wrote anything"
    return len(pending)


def test_40_killed_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    assert check_after_kills(tmp_path / "people.db", 40) > 4, "hardly any was killed in a change"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_1000_killed_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    # Galleries of their own, so that the writers do not spend their lives reading.
    in_a_change = sum(check_after_kills(tmp_path / f"people{k}.db", 50) for k in range(20))
    assert in_a_change > 100, "hardly any was killed in a change"

"""Memory of an opened gallery, by the person: what says how many a device can hold.

``pytest tests/benchmarks/test_search_memory.py -m slow -s``; ``EDGEFACE_BENCH_PEOPLE`` sets how
many there are (default 30,000: half a minute, and 140 MB on the disk).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.gallery.base import TemplateSource
from edgeface.gallery.records import Person, StoredTemplate
from edgeface.gallery.writing import add_person, add_template

pytest.importorskip("numkong")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

MODEL, SIZE = "a" * 64, 512
PEOPLE = int(os.environ.get("EDGEFACE_BENCH_PEOPLE", "30000"))
# The people who stay open, and what a batch takes on its way into the index.
FIXED_BYTES = 64 << 20
# A fresh process opens the gallery, searches, and says what it had and what it took.
CHILD = """
import json, sys, time
from pathlib import Path
import numpy as np
from edgeface.gallery import KeyOptions, SqliteGallery
from edgeface.gallery.search import SearchOptions
from edgeface.types import Template

def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

path, rows_folder = Path(sys.argv[1]), sys.argv[2]
folder = Path(rows_folder) if rows_folder else None
SqliteGallery.open(path.with_name("small.db"), model_id="a" * 64, embedding_size=512,
                   keys=KeyOptions(insecure_key_file=True, folder=path.parent,
                                   state_folder=path.parent),
                   search=SearchOptions(kind="int8")).close()
before, started = peak_kb(), time.process_time()
gallery = SqliteGallery.open(
    path, model_id="a" * 64, embedding_size=512, create=False,
    keys=KeyOptions(folder=path.parent, state_folder=path.parent),
    search=SearchOptions(rows_folder=folder))
opened_s = time.process_time() - started
probe = np.zeros(512, np.float32)
probe[0] = 1.0
found = gallery.search(Template(probe, "a" * 64))
print(json.dumps({"peak_kb": peak_kb() - before, "before_kb": before,
                  "opened_cpu_s": opened_s, "found": found[0].subject}))
"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    path, random = folder / "people.db", np.random.default_rng(0)
    keys = KeyOptions(insecure_key_file=True, folder=folder, state_folder=folder)
    at = "2026-01-01T00:00:00+00:00"
    with SqliteGallery.open(path, model_id=MODEL, embedding_size=SIZE, keys=keys) as opened:
        vault = opened.vault
        for start in range(0, PEOPLE, 5000):
            rows = random.standard_normal((min(5000, PEOPLE - start), SIZE)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            with vault.changing() as change:
                for k, row in enumerate(rows):
                    entry = add_person(vault.keys, change, Person(f"p{start + k}", at))
                    stored = StoredTemplate(row, 0.5, TemplateSource.IMAGE, at)
                    add_template(vault.keys, change, entry, vault.people.active, stored)
    return path


@pytest.mark.parametrize(
    ("originals", "each_bytes"),
    # 512 numbers as int8 and the float32 originals; beside them 150 bytes: scale, error, numbers,
    # slot, two tags, and what growing tables leave free.
    [("in memory", 512 + 2048 + 150), ("in a file", 512 + 150)],
)
def test_memory_of_one_person(gallery: Path, originals: str, each_bytes: int) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    folder = "" if originals == "in memory" else str(gallery.parent)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(gallery), folder],
        check=True,
        capture_output=True,
        text=True,
    )
    value = json.loads(done.stdout)
    each = value["peak_kb"] * 1024 / PEOPLE
    sys.stdout.write(
        f"\n{PEOPLE} people, originals {originals}: peak {value['peak_kb'] / 1024:.0f} MB above "
        f"{value['before_kb'] / 1024:.0f} MB, {each:.0f} bytes each, opened in "
        f"{value['opened_cpu_s']:.1f} s of processor time\n"
    )
    assert value["found"].startswith("p")
    assert value["peak_kb"] * 1024 < FIXED_BYTES + PEOPLE * each_bytes

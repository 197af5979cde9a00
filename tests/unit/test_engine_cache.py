from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeface.backends.engine_cache import BatchProfile, CachedEngine, EngineCache, EngineKey
from edgeface.backends.sealed_file import Refusal

KEY = EngineKey(
    tensorrt="10.3.0",
    gpu="Orin",
    compute_capability="8.7",
    gpu_uuid="ab" * 16,
    driver="12.6",
    artefact_sha256="0" * 64,
    precision="int8",
    profile=BatchProfile(),
    settings="level 3",
)
ENGINE = CachedEngine(b"plan", {"latency_ms": 2.0})
OTHERS: dict[str, Any] = {
    "tensorrt": "10.3.1",
    "gpu": "Thor",
    "compute_capability": "8.6",
    "gpu_uuid": "cd" * 16,
    "driver": "12.7",
    "artefact_sha256": "1" * 64,
    "precision": "fp16",
    "profile": BatchProfile(1, 2, 8),
    "settings": "level 5",
}


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_an_empty_cache_has_nothing(cache: EngineCache) -> None:
    assert cache.entries() == []
    assert cache.clear() == 0
    assert cache.load(KEY) == Refusal(Refusal.ABSENT)
    assert cache.find(KEY) == []
    assert cache.load_timing(KEY) == b""


def test_the_folder_is_part_of_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEFACE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "edgeface" / "engines"


def test_an_engine_comes_back_under_its_key(cache: EngineCache) -> None:
    cache.store(KEY, ENGINE)
    assert cache.load(KEY) == ENGINE
    assert cache.find(KEY) == [(KEY, ENGINE)]


@pytest.mark.parametrize("field", OTHERS)
def test_every_part_of_the_key_counts(cache: EngineCache, field: str) -> None:
    assert set(OTHERS) == set(EngineKey.__dataclass_fields__)
    cache.store(KEY, ENGINE)
    other = replace(KEY, **{field: OTHERS[field]})
    assert cache.load(other) == Refusal(Refusal.ABSENT)
    # A whole, sealed file that was put under another name proves itself another's.
    (stored,) = cache.folder.glob("*.engine")
    stored.rename(cache.folder / f"{other.digest}.engine")
    assert cache.load(other) == Refusal("it belongs to another key")


@pytest.mark.parametrize("field", OTHERS)
def test_find_takes_other_profiles_and_precisions_only(cache: EngineCache, field: str) -> None:
    other = replace(KEY, **{field: OTHERS[field]})
    cache.store(other, ENGINE)
    wanted = [(other, ENGINE)] if field in ("precision", "profile", "settings") else []
    assert cache.find(KEY) == wanted


def test_replace_leaves_one_engine_of_the_artefact(cache: EngineCache) -> None:
    kept = [replace(KEY, **{field: OTHERS[field]}) for field in ("gpu_uuid", "artefact_sha256")]
    gone = [replace(KEY, **{field: OTHERS[field]}) for field in ("precision", "profile")]
    for key in [*kept, *gone]:
        cache.store(key, ENGINE)
    cache.replace(KEY, ENGINE)
    assert {entry.path.stem for entry in cache.entries()} == {key.digest for key in [KEY, *kept]}


def test_timing_notes_are_shared_by_the_artefacts_of_a_gpu(cache: EngineCache) -> None:
    cache.store_timing(KEY, b"notes")
    assert cache.load_timing(replace(KEY, artefact_sha256="2" * 64)) == b"notes"
    assert cache.load_timing(replace(KEY, driver="12.7")) == b""


def test_notes_are_no_engine_and_an_engine_no_notes(cache: EngineCache) -> None:
    cache.store_timing(KEY, b"notes")
    (notes,) = cache.folder.glob("*.timing")
    notes.rename(cache.folder / f"{KEY.digest}.engine")
    assert isinstance(cache.load(KEY), Refusal)
    assert cache.find(KEY) == []
    engine = cache.store(KEY, ENGINE)
    engine.rename(cache.folder / f"{KEY.timing_digest}.timing")
    assert cache.load_timing(KEY) == b""


def test_entries_tell_what_is_not_believed(cache: EngineCache) -> None:
    cache.store(KEY, ENGINE)
    (cache.folder / "foreign.engine").write_bytes(b"a plan from the internet")
    reasons = {entry.path.name: entry.reason for entry in cache.entries()}
    assert reasons == {
        f"{KEY.digest}.engine": "",
        "foreign.engine": "truncated, or not a sealed file",
    }


def test_clear_deletes_engines_and_leaves_the_key(cache: EngineCache) -> None:
    cache.store(KEY, ENGINE)
    cache.store_timing(KEY, b"notes")
    assert cache.clear() == 2
    assert [path.name for path in cache.folder.iterdir()] == ["key"]


_BUILDER = """
import sys, time, pathlib
from edgeface.backends.engine_cache import *
from edgeface.backends.sealed_file import Refusal
from tests.unit.test_engine_cache import KEY
cache = EngineCache(pathlib.Path(sys.argv[1]))
with cache.building(KEY):
    if isinstance(cache.load(KEY), Refusal):
        time.sleep(0.3)
        cache.store(KEY, CachedEngine(b"plan" * 100000))
        sys.stdout.write("built")
assert isinstance(cache.load(KEY), CachedEngine)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks there")
def test_of_processes_that_want_the_same_engine_one_builds(
    cache: EngineCache, repository: Path
) -> None:
    command = [sys.executable, "-c", _BUILDER, str(cache.folder)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository)
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 4
    assert sorted(said) == ["", "", "", "built"]

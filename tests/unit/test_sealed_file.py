from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeface.backends.sealed_file import (
    KEY_FILE,
    Refusal,
    Sealed,
    read_sealed,
    user_key,
    write_sealed,
)
from edgeface.errors import BackendError

KEY = bytes(range(32))
HEADER = {"key": {"gpu": "A"}, "figures": {"latency_ms": 1.5}}
PAYLOAD = b"native code for a GPU" * 40

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "x.engine"
    write_sealed(path, HEADER, PAYLOAD, KEY)
    return path


def test_a_file_that_is_not_there_is_absent(tmp_path: Path) -> None:
    assert read_sealed(tmp_path / "none", KEY) == Refusal(Refusal.ABSENT)


@pytest.mark.parametrize("payload", [b"", PAYLOAD])
def test_what_was_sealed_comes_back(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "deeper" / "x.engine"
    write_sealed(path, HEADER, payload, KEY)
    assert read_sealed(path, KEY) == Sealed(HEADER, payload)
    assert [entry.name for entry in path.parent.iterdir()] == ["x.engine"]


@posix_only
def test_only_the_user_may_read_it(sealed: Path) -> None:
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600


def test_two_hundred_random_changes_are_all_refused(sealed: Path) -> None:
    content = sealed.read_bytes()
    rng = np.random.default_rng(0)
    for k in range(200):
        changed = bytearray(content)
        match k % 5:
            case 0:
                changed[rng.integers(len(changed))] ^= int(rng.integers(1, 256))
            case 1:
                del changed[rng.integers(len(changed)) :]
            case 2:
                changed[rng.integers(len(changed)) : 0] = rng.bytes(int(rng.integers(1, 40)))
                if bytes(changed) == content:
                    changed.append(0)
            case 3:
                start = int(rng.integers(len(changed) - 1))
                del changed[start : start + int(rng.integers(1, 40))]
            case 4:
                changed[8:40] = rng.bytes(32)
        assert bytes(changed) != content
        sealed.write_bytes(changed)
        assert isinstance(read_sealed(sealed, KEY), Refusal), k
    sealed.write_bytes(content)
    assert isinstance(read_sealed(sealed, KEY), Sealed)


@pytest.mark.parametrize("content", [b"", b"EFSEAL01", b"x" * 5000, PAYLOAD])
def test_a_foreign_file_is_refused(sealed: Path, content: bytes) -> None:
    sealed.write_bytes(content)
    assert isinstance(read_sealed(sealed, KEY), Refusal)


def test_another_key_refuses(sealed: Path) -> None:
    found = read_sealed(sealed, bytes(32))
    assert isinstance(found, Refusal)
    assert "another machine" in found.reason


@posix_only
def test_a_link_or_a_folder_is_refused(sealed: Path) -> None:
    link = sealed.with_name("link")
    link.symlink_to(sealed)
    assert isinstance(read_sealed(link, KEY), Refusal)
    assert isinstance(read_sealed(sealed.parent, KEY), Refusal)


def test_a_failed_write_leaves_the_old_file_and_no_rest(sealed: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_sealed(sealed, {"x": float("nan")}, b"", KEY)
    assert read_sealed(sealed, KEY) == Sealed(HEADER, PAYLOAD)
    assert [entry.name for entry in sealed.parent.iterdir()] == [sealed.name]


def test_the_key_is_drawn_once_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    first = user_key(folder)
    assert len(first) == 32
    assert user_key(folder) == first
    assert user_key(tmp_path / "other") != first
    assert [entry.name for entry in folder.iterdir()] == [KEY_FILE]


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_reach_is_refused_and_kept(tmp_path: Path, mode: int) -> None:
    key = user_key(tmp_path)
    (tmp_path / KEY_FILE).chmod(mode)
    with pytest.raises(BackendError, match=r"open to others .*wanted 0600.*delete the folder"):
        user_key(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == key


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_key_of_another_length_is_refused(tmp_path: Path, content: bytes) -> None:
    user_key(tmp_path)
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(BackendError, match="has not 32 bytes"):
        user_key(tmp_path)


@posix_only
def test_a_key_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(KEY)
    (tmp_path / KEY_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BackendError, match="cannot be read"):
        user_key(tmp_path)


def test_processes_that_start_together_get_one_key(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from edgeface.backends.sealed_file import user_key; "
        "sys.stdout.write(user_key(pathlib.Path(sys.argv[1])).hex())"
    )
    folder = tmp_path / "engines"
    command = [sys.executable, "-c", code, str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    keys = {process.communicate(timeout=60)[0] for process in running}
    assert keys == {user_key(folder).hex()}

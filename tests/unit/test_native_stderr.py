"""Catching what native libraries write to file descriptor 2."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from edgeface.detection.native_stderr import caught_stderr

NATIVE = b"INFO: [accelerator_registry.cc:43] DestroyAccelerator: ptr=0x1, name=CpuAccelerator\n"
OWN = b"a line of the program\n"


def test_native_lines_are_kept_back_and_others_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with caught_stderr() as caught:
        os.write(2, NATIVE + OWN)
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == OWN.decode()
    assert caught.text == (NATIVE + OWN).decode()


def test_a_block_inside_of_another_catches_its_own_part(capfd: pytest.CaptureFixture[str]) -> None:
    with caught_stderr() as outer:
        os.write(2, NATIVE)
        with caught_stderr() as inner:
            os.write(2, OWN)
        os.write(2, NATIVE)
    assert inner.text == OWN.decode()
    assert outer.text == (NATIVE + OWN + NATIVE).decode()
    assert capfd.readouterr().err == OWN.decode()


def test_a_block_never_waits_for_that_of_another_thread(capfd: pytest.CaptureFixture[str]) -> None:
    entered = threading.Event()

    def catch() -> None:
        with caught_stderr():
            os.write(2, NATIVE)
        entered.set()

    with caught_stderr() as caught:
        thread = threading.Thread(target=catch, daemon=True)
        thread.start()
        assert entered.wait(10)
        thread.join()
    assert caught.text == NATIVE.decode()
    assert capfd.readouterr().err == ""


def test_stderr_is_put_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), caught_stderr():
        raise ValueError("inside")
    os.write(2, NATIVE)
    assert capfd.readouterr().err == NATIVE.decode()


def test_many_blocks_leave_no_file_open(capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("no list of open files here")
    before = len(list(folder.iterdir()))
    for _ in range(20):
        with caught_stderr(), caught_stderr():
            pass
    assert len(list(folder.iterdir())) == before


def test_without_a_folder_for_temporary_files_the_block_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise OSError("no space left")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with caught_stderr() as caught:
        os.write(2, NATIVE)
    assert caught.text == ""
    assert capfd.readouterr().err == NATIVE.decode()

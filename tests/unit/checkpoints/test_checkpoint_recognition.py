"""What is not a checkpoint is recognised by its content, and refused with what to do."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from edgeface.errors import (
    CheckpointError,
    CheckpointFormatError,
    InvalidInputError,
    UnsafeCheckpointError,
)
from edgeface_export.checkpoints import ReadLimits, read_checkpoint
from tests.unit.checkpoints.checkpoint_builders import good_state_dict, legacy_file
from tests.unit.checkpoints.conftest import Write

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4\n"


def tar_of(*names: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return stream.getvalue()


CONTENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "git lfs": (LFS, "git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "HTML page"),
    "xml": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "XML"),
    "json": (b'{"a": 1}', "JSON"),
    "text": (b"Hello, this is a readme.\n", "is text"),
    "text ending in a dot": (b"See the other file.", "is text"),
    "utf-8 text": ("Grüße aus Köln, das ist kein Modell\n".encode(), "is text"),
    "prototxt": (b'name: "net"\nlayer { name: "data" }', "Caffe network"),
    "caffemodel": (b"\n\x03net\xa2\x06\x04\n\x02ip", "caffe file without tensors"),
    "tensorflow graph": (b"\n\x03\n\x01a\n\x03\n\x01b", "TensorFlow graph"),
    "saved model": (b"\x08\x01\x12\x04\n\x02\n\x00", "TensorFlow graph"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
    "npy": (b"\x93NUMPY\x01\x00", "numpy array"),
    "mxnet": (b"\x12\x01" + bytes(30), "MXNet"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite"),
    "task": (b"\0\0PK\x03\x04" + bytes(20), "MediaPipe"),
    "tensorrt": (b"ptrt" + bytes(20), "TensorRT"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "gzip"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(20), "JPEG"),
    "old torch tar": (tar_of("storages", "tensors", "pickle"), "before 0.1.10"),
    "tar": (tar_of("best.pth"), "tar archive"),
    "zeros": (bytes(100), "unknown format"),
    "noise": (bytes(range(255, 100, -1)), "unknown format"),
    "pickle cut short": (b"\x80\x02}q", "truncated"),
    "data.pkl": (b"\x80\x02" + good_state_dict(legacy=False) + b".", "data.pkl out of an unpacked"),
    "one byte": (b"\x80", "unknown format"),
    "legacy of another version": (
        legacy_file(good_state_dict()).replace(b"\x80\x02M\xe9\x03.", b"\x80\x02M\xe8\x03."),
        "unknown version",
    ),
}


@pytest.mark.parametrize("case", CONTENTS)
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_other_content_is_refused_whatever_the_ending(
    case: str, ending: str, tmp_path: Path
) -> None:
    content, words = CONTENTS[case]
    path = tmp_path / f"model{ending}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as info:
        read_checkpoint(path)
    assert str(info.value).startswith(f"{path}: ")
    assert "\n" not in str(info.value)


def test_the_ending_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "weights.jpg"
    path.write_bytes(legacy_file(good_state_dict()))
    assert list(read_checkpoint(str(path)).tensors) == ["conv.weight"]


def test_a_missing_file_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointFormatError, match="no such file"):
        read_checkpoint(tmp_path / "missing.pt")


def test_a_folder_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointFormatError, match="is a folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "file.pt/below"])
def test_an_unusable_path_is_a_typed_error(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pt").write_bytes(b"x")
    with pytest.raises(CheckpointFormatError):
        read_checkpoint(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(10)
def test_a_pipe_or_device_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path / "pipe.pt", Path("/dev/zero")):
        with pytest.raises(CheckpointFormatError, match="pipe, socket or device"):
            read_checkpoint(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_forbidden_file_is_a_typed_error(write: Write) -> None:
    path = write(legacy_file(good_state_dict()))
    path.chmod(0)
    with pytest.raises(CheckpointFormatError, match="permissions"):
        read_checkpoint(path)


def test_a_link_to_a_file_is_followed(write: Write, tmp_path: Path) -> None:
    (tmp_path / "link.pt").symlink_to(write(legacy_file(good_state_dict())))
    assert len(read_checkpoint(tmp_path / "link.pt").tensors) == 1


def test_a_link_to_itself_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    with pytest.raises(CheckpointFormatError, match="cannot be read"):
        read_checkpoint(tmp_path / "loop.pt")


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsafeCheckpointError, match="max_file_bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None])
def test_a_limit_must_be_a_whole_number_above_zero(value: object) -> None:
    with pytest.raises(InvalidInputError, match="max_depth"):
        ReadLimits(max_depth=value)  # type: ignore[arg-type]

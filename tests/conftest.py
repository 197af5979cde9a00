"""Fixtures that several test folders use."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeface.alignment import ALIGNMENT_TEMPLATES, align
from edgeface.types import Frame, ImageArray

REPOSITORY = Path(__file__).resolve().parent.parent


def test_data_folder() -> Path | None:
    """Return the folder with real checkpoints, LFW folds and clips, or None where it is absent."""
    folder = Path(os.environ.get("EDGEFACE_TEST_DATA", REPOSITORY.parent / "shared"))
    return folder if (folder / "models" / "checkpoints").is_dir() else None


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def test_data() -> Path:
    folder = test_data_folder()
    if folder is None:
        pytest.skip("no test data: set EDGEFACE_TEST_DATA to a folder with models/ and data/")
    return folder


@pytest.fixture(scope="session")
def checkpoints(test_data: Path) -> Path:
    return test_data / "models" / "checkpoints"


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    """A folder in memory, where the system has one: what is tried there is not the disk."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edgeface-", dir=base) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def real_crops(test_data: Path) -> dict[str, ImageArray]:
    """Sixteen faces of LFW people outside every fold, aligned by the published landmarks."""
    cv2 = pytest.importorskip("cv2")
    marks = {}
    for line in (test_data / "data" / "lfw" / "landmarks.txt").read_text().splitlines():
        name, *numbers = line.split()
        marks[name] = np.array(numbers, np.float32).reshape(5, 2)
    folder = test_data / "data" / "lfw" / "extra"
    names = [name for name in sorted(marks) if (folder / name).is_file()][:: 3111 // 16][:16]
    frames = {
        name: Frame(np.ascontiguousarray(cv2.imread(str(folder / name))[..., ::-1]))
        for name in names
    }
    return {
        template: np.stack(
            [align(frame, marks[name], template).pixels for name, frame in frames.items()]
        )
        for template in ALIGNMENT_TEMPLATES
    }


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the activation set that a developer collected out of every export of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def _own_choice_cache(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keep what `auto` measures in tests out of the user's cache, and each test's to itself."""
    if request.path.name == "test_selection.py":  # has a cache of its own
        return
    from edgeface.backends import selection

    folder = tmp_path_factory.mktemp("choices")
    monkeypatch.setattr(selection, "cache_folder", lambda part: folder / part)


@pytest.fixture(autouse=True)
def _own_keys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the keys and anchors of tests' galleries out of the user's folders."""
    folder = tmp_path_factory.mktemp("keys")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("EDGEFACE_INSECURE_KEY_FILE", "1")
    # The keyring of whoever runs the tests stays out of it.
    monkeypatch.setattr("edgeface.gallery.key_sources.DesktopKeyring._ring", lambda _self: None)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Take away what a program under test set up for its log: the stream it writes to is closed."""
    yield
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)

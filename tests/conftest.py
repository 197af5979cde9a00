"""Fixtures that several test folders use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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

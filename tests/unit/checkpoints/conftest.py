"""Fixtures of the checkpoint tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Write = Callable[[bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes bytes to a file and gives its path."""

    def write_file(content: bytes) -> Path:
        path = tmp_path / "model.pt"
        path.write_bytes(content)
        return path

    return write_file


@pytest.fixture
def torch() -> Any:
    """The reference reader and writer."""
    return pytest.importorskip("torch", reason="torch, the reference, is not installed")


@pytest.fixture(scope="session")
def checkpoint_folder() -> Path:
    default = Path(__file__).parents[4] / "shared"
    folder = Path(os.environ.get("EDGEFACE_TEST_DATA", default)) / "models" / "checkpoints"
    if not folder.is_dir():
        pytest.skip(f"no real checkpoints in {folder}; set EDGEFACE_TEST_DATA")
    return folder

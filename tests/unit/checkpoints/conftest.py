"""Fixtures of the checkpoint tests."""

from __future__ import annotations

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

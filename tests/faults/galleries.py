"""Galleries for fault tests: small, quick to open, with templates that a seed makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeface.gallery import SqliteGallery
from edgeface.types import Template

__all__ = ["MODEL", "SIZE", "open_gallery", "template"]

MODEL = "a" * 64
SIZE = 32


def template(seed: int, *, model_id: str = MODEL) -> Template:
    vector = np.random.default_rng(seed).standard_normal(SIZE)
    return Template((vector / np.linalg.norm(vector)).astype(np.float32), model_id, 0.5)


def open_gallery(path: Path, *, create: bool = True) -> SqliteGallery:
    return SqliteGallery.open(path, model_id=MODEL, embedding_size=SIZE, create=create)

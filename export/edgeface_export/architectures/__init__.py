"""The table of known layouts. A new backbone is one file in ``layouts`` and one line here."""

from __future__ import annotations

from edgeface_export.architectures.layout import Layout
from edgeface_export.architectures.layouts import (
    mobilefacenet_bubbliiiing,
    mobilefacenet_foamliu,
    mobilefacenet_insightface_pytorch,
    mobilefacenet_xiaoccer,
)

__all__ = ["LAYOUTS"]

LAYOUTS: tuple[Layout, ...] = (
    mobilefacenet_xiaoccer.LAYOUT,
    mobilefacenet_foamliu.LAYOUT,
    mobilefacenet_bubbliiiing.LAYOUT,
    mobilefacenet_insightface_pytorch.LAYOUT,
)

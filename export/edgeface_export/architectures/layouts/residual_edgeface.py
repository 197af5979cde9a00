"""The residual network that edgeface trains as its default (examples/train_default)."""

from __future__ import annotations

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.network import Preprocessing
from edgeface_export.architectures.residual import ResidualBlock, ResidualLayout

__all__ = ["LAYOUT"]

LAYOUT = ResidualLayout(
    name="residual-edgeface",
    trainer="edgeface (examples/train_default)",
    loss="function matching",
    preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
    stem=Unit("stem.conv", "stem.bn", plain="relu"),
    blocks=tuple(
        ResidualBlock(f"blocks.{k}.", stride=2 if k in (0, 2, 6) else 1) for k in range(8)
    ),
    first=Unit("conv1.conv", "conv1.bn", plain="relu"),
    second=Unit("conv2.conv", "conv2.bn"),
    last=Unit("last.conv", "last.bn", plain="relu"),
    global_depthwise=Unit("gdc.conv", "gdc.bn"),
    embedding=Unit("embedding", "bn"),
)

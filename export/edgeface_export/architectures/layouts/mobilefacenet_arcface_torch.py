"""MobileFaceNet as insightface's arcface_torch stores it (``mbf``, and cavaface's of that form).

The second layer of ``mbf`` has two channels in each group; in its place ``mbf_large`` has two
bottlenecks, and twice as many in every stage.
"""

from __future__ import annotations

from dataclasses import replace

from edgeface_export.architectures.layout import Unit
from edgeface_export.architectures.mobilefacenet import Bottleneck, MobileFaceNetLayout
from edgeface_export.architectures.network import Preprocessing

__all__ = ["LARGE", "LAYOUT"]


def _blocks(counts: tuple[int, int, int, int]) -> tuple[Bottleneck, ...]:
    """Return the bottlenecks: residual ones in stages, with a strided one between two stages."""
    found: list[Bottleneck] = []
    for stage, count in enumerate(counts):
        found += [Bottleneck(f"layers.{2 * stage}.layers.", stride=2)] if stage else []
        at = f"layers.{2 * stage + 1}.layers."
        found += [Bottleneck(f"{at}{k}.layers.") for k in range(count)]
    return tuple(found)


def _unit(at: str, *, active: bool = True) -> Unit:
    return Unit(f"{at}.layers.0", f"{at}.layers.1", f"{at}.layers.2" if active else "")


LAYOUT = MobileFaceNetLayout(
    name="mobilefacenet-arcface-torch",
    trainer="arcface_torch (insightface)",
    loss="ArcFace",
    preprocessing=Preprocessing.uniform("RGB", 127.5, 127.5),
    stem=_unit("layers.0"),
    stem_depthwise=_unit("layers.1"),
    blocks=_blocks((0, 4, 6, 2)),
    expand=_unit("0"),
    depthwise=_unit("1"),
    project=_unit("2", active=False),
    last=_unit("conv_sep"),
    global_depthwise=_unit("features.layers.0", active=False),
    embedding=Unit("features.layers.2", "features.layers.3"),
    flat=True,
    stem_grouped=True,
)
LARGE = replace(
    LAYOUT,
    name="mobilefacenet-large-arcface-torch",
    stem_depthwise=None,
    blocks=_blocks((2, 8, 12, 4)),
    stem_grouped=False,
)
